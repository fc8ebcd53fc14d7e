//! Stored credentials: one row per connection, replaced only with the expected version.

use futures::FutureExt as _;
use jiff::Timestamp;

use super::codec::{OperationName, get, millis};
use super::database::SqliteLedger;
use crate::domain::key::ObjectKey;
use crate::ledger::credentials::{CredentialStore, StoredCredential};
use crate::ledger::error::{LedgerError, LedgerFuture};

const LOAD: OperationName = OperationName("loading a credential");
const STORE: OperationName = OperationName("storing a credential");

impl SqliteLedger {
    async fn credential_load(&self, connection: &ObjectKey) -> Result<Option<StoredCredential>, LedgerError> {
        let mut conn = self.reader(LOAD).await?;
        let row =
            sqlx::query("SELECT version, secret, sealed FROM credentials WHERE namespace = ?1 AND connection = ?2")
                .bind(&*connection.namespace)
                .bind(&*connection.name)
                .fetch_optional(&mut *conn)
                .await
                .map_err(|e| LOAD.failed(e))?;
        row.map(|row| {
            Ok(StoredCredential {
                version: get(&row, "version")?,
                secret: get(&row, "secret")?,
                ciphertext: get(&row, "sealed")?,
            })
        })
        .transpose()
    }

    async fn credential_store(
        &self,
        connection: &ObjectKey,
        credential: &StoredCredential,
        now: Timestamp,
    ) -> Result<Option<i64>, LedgerError> {
        let next = credential.version.saturating_add(1);
        // One statement: the INSERT requires version 0, the UPDATE the expected version.
        let done = sqlx::query(
            "INSERT INTO credentials (namespace, connection, version, secret, sealed, updated_ms)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE ?3 = 1 OR EXISTS (SELECT 1 FROM credentials WHERE namespace = ?1 AND connection = ?2)
             ON CONFLICT (namespace, connection) DO UPDATE SET
                 version = excluded.version, secret = excluded.secret, sealed = excluded.sealed,
                 updated_ms = excluded.updated_ms
             WHERE credentials.version = excluded.version - 1",
        )
        .bind(&*connection.namespace)
        .bind(&*connection.name)
        .bind(next)
        .bind(&credential.secret)
        .bind(&credential.ciphertext)
        .bind(millis(now))
        .execute(&self.writer)
        .await
        .map_err(|e| STORE.failed(e))?;
        Ok((done.rows_affected() == 1).then_some(next))
    }
}

impl CredentialStore for SqliteLedger {
    fn load_credential<'a>(&'a self, connection: &'a ObjectKey) -> LedgerFuture<'a, Option<StoredCredential>> {
        self.credential_load(connection).boxed()
    }

    fn store_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        credential: &'a StoredCredential,
        now: Timestamp,
    ) -> LedgerFuture<'a, Option<i64>> {
        self.credential_store(connection, credential, now).boxed()
    }
}
