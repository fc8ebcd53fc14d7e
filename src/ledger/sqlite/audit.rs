//! The audit log and licence usage counters.

use futures::FutureExt as _;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::clock_skew::latest_millis;
use super::codec::{OperationName, count, get, instant, instant_opt, millis, stored_enum, to_i64};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::lease;
use crate::ledger::audit::{
    Audit, AuditBatch, AuditEntry, AuditKind, AuditPruning, PrunedAudit, Repeats, StoredAudit, Usage, UsageKey,
};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;

const APPEND: OperationName = OperationName("appending to the audit log");
const LIST: OperationName = OperationName("reading the audit log");
const PRUNE: OperationName = OperationName("pruning the audit log");
const TAKE: OperationName = OperationName("counting licence usage");

/// Size of a large call: most are smaller.
const LARGE_CALL_BYTES: u64 = 400;

impl Audit for SqliteLedger {
    fn append_audit<'a>(&'a self, entries: &'a [AuditEntry]) -> LedgerFuture<'a, ()> {
        let entries = entries.to_vec();
        self.write(APPEND, move |tx| entries.iter().try_for_each(|entry| append(tx, entry))).boxed()
    }

    fn append_audit_batch<'a>(&'a self, batch: AuditBatch<'a>) -> LedgerFuture<'a, ()> {
        let (entries, writer, at) = (batch.entries.to_vec(), batch.writer.to_string(), millis(batch.at));
        let number = to_i64(batch.number);
        self.write(APPEND, move |tx| {
            let is_new = tx.execute(
                "INSERT INTO audit_batches (writer, number, at_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at_ms = excluded.at_ms
                 WHERE excluded.number > audit_batches.number",
                params![writer, number, at],
            )? > 0;
            if is_new { entries.iter().try_for_each(|entry| append(tx, entry)) } else { Ok(()) }
        })
        .boxed()
    }

    fn list_audit<'a>(
        &'a self,
        namespace: Option<&'a str>,
        before: Option<i64>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredAudit>> {
        let namespace = namespace.map(str::to_owned);
        self.read(LIST, move |tx| {
            tx.query_all(
                "SELECT seq, at_ms, kind, action, subject, rights_profile, allowed, namespace, connection, provider,
                     purpose, reason, request_id, count, last_ms
                 FROM audit WHERE (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR seq < ?2)
                 ORDER BY seq DESC LIMIT ?3",
                params![namespace, before, limit],
                decode_entry,
            )
        })
        .boxed()
    }

    fn prune_audit<'a>(&'a self, lease: &'a Lease, pruning: AuditPruning) -> LedgerFuture<'a, PrunedAudit> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            lease::assert_held(tx, &lease)?;
            prune(tx, pruning)
        })
        .boxed()
    }
}

fn prune(tx: &Transaction<'_>, pruning: AuditPruning) -> Result<PrunedAudit, LedgerError> {
    let AuditPruning { before, now, max_call_bytes, max_rows } = pruning;
    let mut pruned = PrunedAudit::default();
    let most = u64::from(max_rows);
    if let Some(before) = before {
        pruned.expired = prune_expired(tx, before, now, most)?;
        pruned.more = pruned.expired == most || prune_usage(tx, before, now, most)? == most;
        prune_batches(tx, before, now)?;
    }
    pruned.call_bytes = call_bytes(tx)?;
    let left = most - pruned.expired;
    if pruned.call_bytes > max_call_bytes && left > 0 {
        // Aims below the limit: pruning ends although others write meanwhile.
        let target = max_call_bytes - max_call_bytes / 20;
        pruned.oversize = prune_oversize(tx, pruned.call_bytes - target, left)?;
        pruned.call_bytes = call_bytes(tx)?;
    }
    pruned.more |= pruned.call_bytes > max_call_bytes && pruned.expired + pruned.oversize > 0;
    Ok(pruned)
}

/// Deletes up to `most` entries by age.
fn prune_expired(tx: &Transaction<'_>, before: Timestamp, now: Timestamp, most: u64) -> Result<u64, LedgerError> {
    // Entries that are ahead cannot be corrected, because the log is append-only. They are as old as their successors.
    // The `+` makes SQLite look at the expired entries by time, instead of at all entries from the newest back.
    let ahead = tx.execute(
        "DELETE FROM audit WHERE seq IN (
             SELECT seq FROM audit WHERE at_ms > ?2 AND seq < (SELECT max(+seq) FROM audit WHERE at_ms < ?1) LIMIT ?3)",
        params![millis(before), latest_millis(now), to_i64(most)],
    )?;
    let deleted = tx.execute(
        "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
        params![millis(before), to_i64(most - ahead)],
    )?;
    Ok(ahead + deleted)
}

/// Deletes up to `most` counters of licence usage by age.
fn prune_usage(tx: &Transaction<'_>, before: Timestamp, now: Timestamp, most: u64) -> Result<u64, LedgerError> {
    // A day later than tomorrow was counted by a wrong clock; it must not be used up when it comes.
    let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    tx.execute(
        "DELETE FROM rights_usage WHERE (namespace, connection, profile, day) IN (
             SELECT namespace, connection, profile, day FROM rights_usage WHERE day < ?1 OR day > ?2 LIMIT ?3)",
        params![day(before).to_string(), day(now).tomorrow().unwrap_or(Date::MAX).to_string(), to_i64(most)],
    )
}

/// Deletes the batches of writers that have ended: one row for each process.
fn prune_batches(tx: &Transaction<'_>, before: Timestamp, now: Timestamp) -> Result<(), LedgerError> {
    tx.execute(
        "DELETE FROM audit_batches WHERE at_ms < ?1 OR at_ms > ?2",
        params![millis(before), latest_millis(now)],
    )?;
    Ok(())
}

/// Deletes the oldest calls of the namespace that has most, up to `most` of them, until they were `excess` bytes. So a
/// namespace whose callers make many calls displaces its own entries, not those of others.
fn prune_oversize(tx: &Transaction<'_>, excess: u64, most: u64) -> Result<u64, LedgerError> {
    // As many rows as would be enough if they were large: rather a further piece than a row too many.
    let most = most.min(excess.div_ceil(LARGE_CALL_BYTES));
    tx.execute(
        "DELETE FROM audit WHERE seq IN (
             SELECT seq FROM audit
             WHERE kind = 'call' AND namespace = (SELECT namespace FROM audit_size ORDER BY call_bytes DESC LIMIT 1)
             ORDER BY seq LIMIT ?1)",
        [to_i64(most)],
    )
}

/// The size of all calls, as the triggers of the schema count it.
fn call_bytes(tx: &Transaction<'_>) -> Result<u64, LedgerError> {
    let bytes: i64 = tx.scalar("SELECT coalesce(sum(call_bytes), 0) FROM audit_size", [])?;
    u64::try_from(bytes).map_err(|_| LedgerError::Corrupt { column: "audit_size.call_bytes" })
}

impl Usage for SqliteLedger {
    fn take_usage<'a>(&'a self, key: &'a UsageKey, want: u64, limit: u64) -> LedgerFuture<'a, u64> {
        let key = key.clone();
        self.write(TAKE, move |tx| take(tx, &key, want, limit)).boxed()
    }
}

fn take(tx: &Transaction<'_>, key: &UsageKey, want: u64, limit: u64) -> Result<u64, LedgerError> {
    let day = key.day.to_string();
    let used: Option<i64> = tx.scalar_opt(
        "SELECT used FROM rights_usage WHERE namespace = ?1 AND connection = ?2 AND profile = ?3 AND day = ?4",
        params![key.namespace, key.connection, key.profile, day],
    )?;
    let used = u64::try_from(used.unwrap_or(0)).map_err(|_| LedgerError::Corrupt { column: "rights_usage.used" })?;
    let granted = want.min(limit.saturating_sub(used));
    if granted > 0 {
        tx.execute(
            "INSERT INTO rights_usage (namespace, connection, profile, day, used) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (namespace, connection, profile, day) DO UPDATE SET used = used + ?5",
            params![key.namespace, key.connection, key.profile, day, to_i64(granted)],
        )?;
    }
    Ok(granted)
}

/// Appends one entry in the caller's transaction.
pub(super) fn append(tx: &Transaction<'_>, entry: &AuditEntry) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO audit (at_ms, kind, action, subject, rights_profile, allowed, namespace, connection, provider,
             purpose, reason, request_id, count, last_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            millis(entry.at),
            entry.kind.as_str(),
            entry.action,
            entry.subject,
            entry.rights_profile,
            entry.allowed,
            entry.namespace,
            entry.connection,
            entry.provider,
            entry.purpose,
            entry.reason,
            entry.request_id.map(|id| id.to_string()),
            to_i64(entry.count()),
            entry.repeats.map(|repeats| millis(repeats.last)),
        ],
    )?;
    Ok(())
}

fn decode_entry(row: &Row<'_>) -> Result<StoredAudit, LedgerError> {
    let (kind, times): (String, u64) = (get(row, "kind")?, count(row, "count")?);
    Ok(StoredAudit {
        seq: get(row, "seq")?,
        entry: AuditEntry {
            at: instant(get(row, "at_ms")?, "audit.at_ms")?,
            kind: stored_enum(&AuditKind::ALL, AuditKind::as_str, &kind, "audit.kind")?,
            action: get(row, "action")?,
            subject: get(row, "subject")?,
            rights_profile: get(row, "rights_profile")?,
            allowed: get(row, "allowed")?,
            namespace: get(row, "namespace")?,
            connection: get(row, "connection")?,
            provider: get(row, "provider")?,
            purpose: get(row, "purpose")?,
            reason: get(row, "reason")?,
            request_id: uuid_opt(row, "request_id", "audit.request_id")?,
            repeats: instant_opt(get(row, "last_ms")?, "audit.last_ms")?.map(|last| Repeats { count: times, last }),
        },
    })
}

/// A UUID from a column that may be NULL.
pub(super) fn uuid_opt(row: &Row<'_>, name: &'static str, column: &'static str) -> Result<Option<Uuid>, LedgerError> {
    let text: Option<String> = row.get(name).map_err(|_| LedgerError::Corrupt { column })?;
    text.map(|text| Uuid::parse_str(&text).map_err(|_| LedgerError::Corrupt { column })).transpose()
}
