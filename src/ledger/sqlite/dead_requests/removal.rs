//! Deletes dead requests: discarded or purged by a user, or orphaned by a deleted connection.

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::dead_requests::{DeadRequestOwner, DeadRequestState};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::codec::{OperationName, get, millis};
use crate::ledger::sqlite::database::SqliteLedger;
use crate::ledger::sqlite::{audit, lease};

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

pub(super) async fn owners(ledger: &SqliteLedger) -> Result<Vec<DeadRequestOwner>, LedgerError> {
    let mut conn = ledger.reader(OWNERS).await?;
    let rows = sqlx::query("SELECT DISTINCT namespace, connection, uid FROM dead_requests")
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| OWNERS.failed(e))?;
    let owner = |row| {
        let (namespace, name): (String, String) = (get(row, "namespace")?, get(row, "connection")?);
        Ok(DeadRequestOwner { connection: ObjectKey::new(namespace, name), uid: get(row, "uid")? })
    };
    rows.iter().map(owner).collect()
}

pub(super) async fn delete_orphaned(
    ledger: &SqliteLedger,
    held: &Lease,
    owner: &DeadRequestOwner,
    before: Timestamp,
    entry: &AuditEntry,
) -> Result<u64, LedgerError> {
    let (held, owner, entry) = (held.clone(), owner.clone(), entry.clone());
    ledger
        .write(PURGE, |conn| {
            Box::pin(async move {
                lease::assert_held(conn, &held).await?;
                let delete = sqlx::query(
                    "DELETE FROM dead_requests
                     WHERE namespace = ?1 AND connection = ?2 AND uid = ?3 AND updated_ms < ?4",
                )
                .bind(&*owner.connection.namespace)
                .bind(&*owner.connection.name)
                .bind(owner.uid)
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
