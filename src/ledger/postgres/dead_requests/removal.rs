//! Deletes dead requests: discarded or purged by a user, orphaned by a deleted connection, or old.

use jiff::Timestamp;
use sqlx::query;
use uuid::Uuid;

use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::dead_requests::{DeadRequestOwner, DeadRequestState};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::postgres::audit;
use crate::ledger::postgres::codec::millis;
use crate::ledger::postgres::lease::assert_held;
use crate::ledger::postgres::transaction::Transaction;

pub(super) async fn discard(tx: &mut Transaction, id: Uuid, entry: &AuditEntry) -> Result<bool, LedgerError> {
    let deleted = tx.execute(query("DELETE FROM dead_requests WHERE id = $1").bind(id.to_string())).await?;
    Ok(append_audit_entry(tx, entry, deleted).await? > 0)
}

pub(super) async fn purge(
    tx: &mut Transaction,
    connection: &ObjectKey,
    state: DeadRequestState,
    entry: &AuditEntry,
) -> Result<u64, LedgerError> {
    let statement = query("DELETE FROM dead_requests WHERE namespace = $1 AND connection = $2 AND state = $3");
    let statement = statement.bind(&*connection.namespace).bind(&*connection.name).bind(state.as_str());
    let deleted = tx.execute(statement).await?;
    append_audit_entry(tx, entry, deleted).await
}

pub(super) async fn delete_orphaned(
    tx: &mut Transaction,
    held: &Lease,
    owner: &DeadRequestOwner,
    before: Timestamp,
    entry: &AuditEntry,
) -> Result<u64, LedgerError> {
    assert_held(tx, held).await?;
    let statement =
        query("DELETE FROM dead_requests WHERE namespace = $1 AND connection = $2 AND uid = $3 AND updated_ms < $4");
    let statement = statement.bind(&*owner.connection.namespace).bind(&*owner.connection.name);
    let deleted = tx.execute(statement.bind(&owner.uid).bind(millis(before))).await?;
    append_audit_entry(tx, entry, deleted).await
}

pub(super) async fn prune(
    tx: &mut Transaction,
    held: &Lease,
    done: Timestamp,
    parked: Timestamp,
) -> Result<u64, LedgerError> {
    assert_held(tx, held).await?;
    let statement = query(
        "DELETE FROM dead_requests
         WHERE (state = 'done' AND updated_ms < $1) OR (state = 'parked' AND updated_ms < $2)",
    );
    tx.execute(statement.bind(millis(done)).bind(millis(parked))).await
}

/// Appends the audit entry if anything was deleted; returns the number deleted.
async fn append_audit_entry(tx: &mut Transaction, entry: &AuditEntry, deleted: u64) -> Result<u64, LedgerError> {
    if deleted > 0 {
        audit::append(tx, entry).await?;
    }
    Ok(deleted)
}
