//! Deletes dead requests: discarded or purged by a user, or orphaned by a deleted connection.

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::super::codec::{OperationName, millis};
use super::super::{SqliteLedger, audit, lease};
use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::dead_requests::DeadRequestState;
use crate::ledger::{Lease, LedgerError};

const DISCARD: OperationName = OperationName("deleting a dead request");
const PURGE: OperationName = OperationName("deleting a connection's dead requests");
const OWNERS: OperationName = OperationName("listing the owners of dead requests");

pub(super) async fn discard(ledger: &SqliteLedger, id: Uuid, entry: &AuditEntry) -> Result<bool, LedgerError> {
    let entry = entry.clone();
    ledger
        .write(DISCARD, |conn| {
            Box::pin(async move {
                let delete = sqlx::query("DELETE FROM dead_requests WHERE id = ?1").bind(id.to_string());
                let deleted = delete.execute(&mut *conn).await.map_err(|e| DISCARD.failed(e))?.rows_affected();
                Ok(append_audit_entry(conn, &entry, deleted).await? > 0)
            })
        })
        .await
}

pub(super) async fn purge(
    ledger: &SqliteLedger,
    connection: &ObjectKey,
    state: DeadRequestState,
    entry: &AuditEntry,
) -> Result<u64, LedgerError> {
    let (connection, entry) = (connection.clone(), entry.clone());
    ledger
        .write(PURGE, |conn| {
            Box::pin(async move {
                let delete =
                    sqlx::query("DELETE FROM dead_requests WHERE namespace = ?1 AND connection = ?2 AND state = ?3")
                        .bind(&*connection.namespace)
                        .bind(&*connection.name)
                        .bind(state.as_str());
                let deleted = delete.execute(&mut *conn).await.map_err(|e| PURGE.failed(e))?.rows_affected();
                append_audit_entry(conn, &entry, deleted).await
            })
        })
        .await
}

pub(super) async fn owners(ledger: &SqliteLedger) -> Result<Vec<(ObjectKey, String)>, LedgerError> {
    let mut conn = ledger.reader(OWNERS).await?;
    let rows = sqlx::query("SELECT DISTINCT namespace, connection, uid FROM dead_requests")
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| OWNERS.failed(e))?;
    let owner = |row: &sqlx::sqlite::SqliteRow| -> Result<_, sqlx::Error> {
        let (namespace, name): (String, String) = (row.try_get("namespace")?, row.try_get("connection")?);
        Ok((ObjectKey::new(namespace, name), row.try_get("uid")?))
    };
    rows.iter().map(|row| owner(row).map_err(|_| LedgerError::Corrupt { column: "dead_requests.uid" })).collect()
}

pub(super) async fn delete_orphaned(
    ledger: &SqliteLedger,
    held: &Lease,
    (connection, uid): (&ObjectKey, &str),
    before: Timestamp,
    entry: &AuditEntry,
) -> Result<u64, LedgerError> {
    let (held, connection, uid, entry) = (held.clone(), connection.clone(), uid.to_owned(), entry.clone());
    ledger
        .write(PURGE, |conn| {
            Box::pin(async move {
                lease::assert_held(conn, &held).await?;
                let delete = sqlx::query(
                    "DELETE FROM dead_requests
                     WHERE namespace = ?1 AND connection = ?2 AND uid = ?3 AND updated_ms < ?4",
                )
                .bind(&*connection.namespace)
                .bind(&*connection.name)
                .bind(uid)
                .bind(millis(before));
                let deleted = delete.execute(&mut *conn).await.map_err(|e| PURGE.failed(e))?.rows_affected();
                append_audit_entry(conn, &entry, deleted).await
            })
        })
        .await
}

/// Appends the audit entry if anything was deleted; returns the number deleted.
async fn append_audit_entry(conn: &mut SqliteConnection, entry: &AuditEntry, deleted: u64) -> Result<u64, LedgerError> {
    if deleted > 0 {
        audit::append(conn, entry).await?;
    }
    Ok(deleted)
}
