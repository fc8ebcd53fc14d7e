//! Stored credentials: one row per connection, replaced only with the expected version.

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::params;

use super::codec::{OperationName, get, millis};
use super::database::SqliteLedger;
use crate::domain::key::ObjectKey;
use crate::ledger::credentials::{CredentialStore, StoredCredential};
use crate::ledger::error::LedgerFuture;

const LOAD: OperationName = OperationName("loading a credential");
const STORE: OperationName = OperationName("storing a credential");

impl CredentialStore for SqliteLedger {
    fn load_credential<'a>(&'a self, connection: &'a ObjectKey) -> LedgerFuture<'a, Option<StoredCredential>> {
        let connection = connection.clone();
        self.read(LOAD, move |tx| {
            tx.query_opt(
                "SELECT version, secret, sealed FROM credentials WHERE namespace = ?1 AND connection = ?2",
                params![&*connection.namespace, &*connection.name],
                |row| {
                    Ok(StoredCredential {
                        version: get(row, "version")?,
                        secret: get(row, "secret")?,
                        ciphertext: get(row, "sealed")?,
                    })
                },
            )
        })
        .boxed()
    }

    fn store_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        credential: &'a StoredCredential,
        now: Timestamp,
    ) -> LedgerFuture<'a, Option<i64>> {
        let (connection, credential) = (connection.clone(), credential.clone());
        self.write(STORE, move |tx| {
            let next = credential.version.saturating_add(1);
            // One statement: the INSERT requires version 0, the UPDATE the expected version.
            let stored = tx.execute(
                "INSERT INTO credentials (namespace, connection, version, secret, sealed, updated_ms)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6
                 WHERE ?3 = 1 OR EXISTS (SELECT 1 FROM credentials WHERE namespace = ?1 AND connection = ?2)
                 ON CONFLICT (namespace, connection) DO UPDATE SET
                     version = excluded.version, secret = excluded.secret, sealed = excluded.sealed,
                     updated_ms = excluded.updated_ms
                 WHERE credentials.version = excluded.version - 1",
                params![
                    &*connection.namespace,
                    &*connection.name,
                    next,
                    credential.secret,
                    credential.ciphertext,
                    millis(now),
                ],
            )?;
            Ok((stored == 1).then_some(next))
        })
        .boxed()
    }
}
