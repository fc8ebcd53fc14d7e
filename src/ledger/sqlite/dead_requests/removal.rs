//! Deletes dead requests: discarded or purged by a user, or orphaned by a deleted connection.

use jiff::Timestamp;
use rusqlite::params;
use uuid::Uuid;

use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::dead_requests::{DeadRequestOwner, DeadRequestState};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::codec::{OperationName, get, millis};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::database::SqliteLedger;
use crate::ledger::sqlite::{audit, lease};

const DISCARD: OperationName = OperationName("deleting a dead request");
const PURGE: OperationName = OperationName("deleting a connection's dead requests");
const OWNERS: OperationName = OperationName("listing the owners of dead requests");

pub(super) async fn discard(ledger: &SqliteLedger, id: Uuid, entry: &AuditEntry) -> Result<bool, LedgerError> {
    let entry = entry.clone();
    ledger
        .write(DISCARD, move |tx| {
            let deleted = tx.execute("DELETE FROM dead_requests WHERE id = ?1", [id.to_string()])?;
            Ok(append_audit_entry(tx, &entry, deleted)? > 0)
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
        .write(PURGE, move |tx| {
            let deleted = tx.execute(
                "DELETE FROM dead_requests WHERE namespace = ?1 AND connection = ?2 AND state = ?3",
                params![&*connection.namespace, &*connection.name, state.as_str()],
            )?;
            append_audit_entry(tx, &entry, deleted)
        })
        .await
}

pub(super) async fn owners(ledger: &SqliteLedger) -> Result<Vec<DeadRequestOwner>, LedgerError> {
    ledger
        .read(OWNERS, |tx| {
            tx.query_all("SELECT DISTINCT namespace, connection, uid FROM dead_requests", [], |row| {
                let (namespace, name): (String, String) = (get(row, "namespace")?, get(row, "connection")?);
                Ok(DeadRequestOwner { connection: ObjectKey::new(namespace, name), uid: get(row, "uid")? })
            })
        })
        .await
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
        .write(PURGE, move |tx| {
            lease::assert_held(tx, &held)?;
            let deleted = tx.execute(
                "DELETE FROM dead_requests
                 WHERE namespace = ?1 AND connection = ?2 AND uid = ?3 AND updated_ms < ?4",
                params![&*owner.connection.namespace, &*owner.connection.name, owner.uid, millis(before)],
            )?;
            append_audit_entry(tx, &entry, deleted)
        })
        .await
}

/// Appends the audit entry if anything was deleted; returns the number deleted.
fn append_audit_entry(tx: &Transaction<'_>, entry: &AuditEntry, deleted: u64) -> Result<u64, LedgerError> {
    if deleted > 0 {
        audit::append(tx, entry)?;
    }
    Ok(deleted)
}
