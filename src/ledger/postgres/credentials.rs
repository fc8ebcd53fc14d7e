//! Stored credentials: one row per connection, replaced only with the expected version.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::query;

use super::codec::{get, millis};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::transaction::{Transaction, lock, read_tx, write_tx};
use crate::domain::key::ObjectKey;
use crate::ledger::credentials::{CredentialStore, StoredCredential};
use crate::ledger::error::{LedgerError, LedgerFuture};

const LOAD: OperationName = OperationName("loading a credential");
const STORE: OperationName = OperationName("storing a credential");

impl CredentialStore for PostgresLedger {
    fn load_credential<'a>(&'a self, connection: &'a ObjectKey) -> LedgerFuture<'a, Option<StoredCredential>> {
        async move { read_tx!(self, LOAD, |tx| load(tx, connection).await) }.boxed()
    }

    fn store_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        credential: &'a StoredCredential,
        now: Timestamp,
    ) -> LedgerFuture<'a, Option<i64>> {
        async move { write_tx!(self, STORE, |tx| store(tx, connection, credential, now).await) }.boxed()
    }
}

async fn load(tx: &mut Transaction, connection: &ObjectKey) -> Result<Option<StoredCredential>, LedgerError> {
    let statement = query("SELECT version, secret, sealed FROM credentials WHERE namespace = $1 AND connection = $2");
    let row = tx.fetch_optional(statement.bind(&*connection.namespace).bind(&*connection.name)).await?;
    row.map(|row| {
        Ok(StoredCredential {
            version: get(&row, "version")?,
            secret: get(&row, "secret")?,
            ciphertext: get(&row, "sealed")?,
        })
    })
    .transpose()
}

async fn store(
    tx: &mut Transaction,
    connection: &ObjectKey,
    credential: &StoredCredential,
    now: Timestamp,
) -> Result<Option<i64>, LedgerError> {
    lock(tx, &format!("credential {connection}")).await?;
    let next = credential.version.saturating_add(1);
    // One statement: the INSERT requires version 0, the UPDATE the expected version.
    let statement = query(
        "INSERT INTO credentials (namespace, connection, version, secret, sealed, updated_ms)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE $3 = 1 OR EXISTS (SELECT 1 FROM credentials WHERE namespace = $1 AND connection = $2)
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
    .bind(millis(now));
    Ok((tx.execute(statement).await? == 1).then_some(next))
}
