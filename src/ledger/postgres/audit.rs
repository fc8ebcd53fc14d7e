//! The audit log and licence usage counters.

use futures::FutureExt as _;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sqlx::postgres::PgRow;
use sqlx::query;

use super::clock_skew::latest_millis;
use super::codec::{count, get, millis, stored_enum, text, text_opt, timestamp, timestamp_opt, to_i64, uuid_opt};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::transaction::{Transaction, lock, read_tx, write_tx};
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

impl Audit for PostgresLedger {
    fn append_audit<'a>(&'a self, entries: &'a [AuditEntry]) -> LedgerFuture<'a, ()> {
        async move { write_tx!(self, APPEND, |tx| append_all(tx, entries).await) }.boxed()
    }

    fn append_audit_batch<'a>(&'a self, batch: AuditBatch<'a>) -> LedgerFuture<'a, ()> {
        async move { write_tx!(self, APPEND, |tx| append_batch(tx, batch).await) }.boxed()
    }

    fn list_audit<'a>(
        &'a self,
        namespace: Option<&'a str>,
        before: Option<i64>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredAudit>> {
        async move {
            let rows = read_tx!(self, LIST, |tx| {
                let statement = query(
                    "SELECT seq, at_ms, kind, action, subject, rights_profile, allowed, namespace, connection, provider,
                         purpose, reason, request_id, count, last_ms
                     FROM audit WHERE ($1 IS NULL OR namespace = $1) AND ($2 IS NULL OR seq < $2)
                     ORDER BY seq DESC LIMIT $3",
                );
                tx.fetch_all(statement.bind(namespace).bind(before).bind(i64::from(limit))).await
            })?;
            rows.iter().map(decode_entry).collect()
        }
        .boxed()
    }

    fn prune_audit<'a>(&'a self, lease: &'a Lease, pruning: AuditPruning) -> LedgerFuture<'a, PrunedAudit> {
        async move { write_tx!(self, PRUNE, |tx| prune(tx, lease, pruning).await) }.boxed()
    }
}

async fn append_batch(tx: &mut Transaction, batch: AuditBatch<'_>) -> Result<(), LedgerError> {
    let statement = query(
        "INSERT INTO audit_batches (writer, number, at_ms) VALUES ($1, $2, $3)
         ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at_ms = excluded.at_ms
         WHERE excluded.number > audit_batches.number",
    );
    let statement = statement.bind(batch.writer.to_string()).bind(to_i64(batch.number)).bind(millis(batch.at));
    let is_new = tx.execute(statement).await? > 0;
    if is_new { append_all(tx, batch.entries).await } else { Ok(()) }
}

async fn prune(tx: &mut Transaction, lease: &Lease, pruning: AuditPruning) -> Result<PrunedAudit, LedgerError> {
    assert_held(tx, lease).await?;
    let AuditPruning { before, now, max_call_bytes, max_rows } = pruning;
    let mut pruned = PrunedAudit::default();
    let most = u64::from(max_rows);
    if let Some(before) = before {
        pruned.expired = prune_expired(tx, lease, before, now, most).await?;
        pruned.more = pruned.expired == most || prune_usage(tx, lease, before, now, most).await? == most;
        prune_batches(tx, lease, before, now).await?;
    }
    pruned.call_bytes = call_bytes(tx).await?;
    let left = most - pruned.expired;
    if pruned.call_bytes > max_call_bytes && left > 0 {
        // Aims below the limit: pruning ends although others write meanwhile.
        let target = max_call_bytes - max_call_bytes / 20;
        pruned.oversize = prune_oversize(tx, lease, pruned.call_bytes - target, left).await?;
        pruned.call_bytes = call_bytes(tx).await?;
    }
    pruned.more |= pruned.call_bytes > max_call_bytes && pruned.expired + pruned.oversize > 0;
    Ok(pruned)
}

/// Deletes up to `most` entries by age.
async fn prune_expired(
    tx: &mut Transaction,
    lease: &Lease,
    before: Timestamp,
    now: Timestamp,
    most: u64,
) -> Result<u64, LedgerError> {
    assert_held(tx, lease).await?;
    // Entries that are ahead cannot be corrected, because the log is append-only. They are as old as their successors.
    let statement = query(
        "DELETE FROM audit WHERE seq IN (
             SELECT seq FROM audit WHERE at_ms > $2 AND seq < (
                 SELECT max(e.seq) FROM (SELECT seq FROM audit WHERE at_ms < $1 OFFSET 0) e) LIMIT $3)",
    );
    let ahead = tx.execute(statement.bind(millis(before)).bind(latest_millis(now)).bind(to_i64(most))).await?;
    let statement =
        query("DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)");
    let deleted = tx.execute(statement.bind(millis(before)).bind(to_i64(most - ahead))).await?;
    Ok(ahead + deleted)
}

/// Deletes up to `most` counters of licence usage by age.
async fn prune_usage(
    tx: &mut Transaction,
    lease: &Lease,
    before: Timestamp,
    now: Timestamp,
    most: u64,
) -> Result<u64, LedgerError> {
    assert_held(tx, lease).await?;
    // A day later than tomorrow was counted by a wrong clock; it must not be used up when it comes.
    let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let statement = query(
        "DELETE FROM rights_usage WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM rights_usage WHERE day < $1 OR day > $2 LIMIT $3))",
    );
    let latest = day(now).tomorrow().unwrap_or(Date::MAX).to_string();
    tx.execute(statement.bind(day(before).to_string()).bind(latest).bind(to_i64(most))).await
}

/// Deletes the batches of writers that have ended: one row for each process.
async fn prune_batches(
    tx: &mut Transaction,
    lease: &Lease,
    before: Timestamp,
    now: Timestamp,
) -> Result<(), LedgerError> {
    assert_held(tx, lease).await?;
    let statement = query("DELETE FROM audit_batches WHERE at_ms < $1 OR at_ms > $2");
    tx.execute(statement.bind(millis(before)).bind(latest_millis(now))).await.map(drop)
}

/// Deletes the oldest calls of the namespace that has most, up to `most` of them, until they were `excess` bytes. So a
/// namespace whose callers make many calls displaces its own entries, not those of others.
async fn prune_oversize(tx: &mut Transaction, lease: &Lease, excess: u64, most: u64) -> Result<u64, LedgerError> {
    assert_held(tx, lease).await?;
    // As many rows as would be enough if they were large: rather a further piece than a row too many.
    let most = most.min(excess.div_ceil(LARGE_CALL_BYTES));
    let statement = query(
        "DELETE FROM audit WHERE seq IN (
             SELECT seq FROM audit
             WHERE kind = 'call' AND namespace = (SELECT namespace FROM audit_size ORDER BY call_bytes DESC LIMIT 1)
             ORDER BY seq LIMIT $1)",
    );
    tx.execute(statement.bind(to_i64(most))).await
}

/// The size of all calls, as the triggers of the schema count it.
async fn call_bytes(tx: &mut Transaction) -> Result<u64, LedgerError> {
    let bytes: i64 = tx.scalar(query("SELECT coalesce(sum(call_bytes), 0)::bigint FROM audit_size")).await?;
    u64::try_from(bytes).map_err(|_| LedgerError::Corrupt { column: "audit_size.call_bytes" })
}

impl Usage for PostgresLedger {
    fn take_usage<'a>(&'a self, key: &'a UsageKey, want: u64, limit: u64) -> LedgerFuture<'a, u64> {
        async move { write_tx!(self, TAKE, |tx| take(tx, key, want, limit).await) }.boxed()
    }
}

async fn take(tx: &mut Transaction, key: &UsageKey, want: u64, limit: u64) -> Result<u64, LedgerError> {
    let UsageKey { namespace, connection, profile, day } = key;
    lock(tx, &format!("licence {namespace}/{connection}/{profile}/{day}")).await?;
    let day = day.to_string();
    let statement =
        query("SELECT used FROM rights_usage WHERE namespace = $1 AND connection = $2 AND profile = $3 AND day = $4");
    let used: Option<i64> = tx.scalar_opt(statement.bind(namespace).bind(connection).bind(profile).bind(&day)).await?;
    let used = u64::try_from(used.unwrap_or(0)).map_err(|_| LedgerError::Corrupt { column: "rights_usage.used" })?;
    let granted = want.min(limit.saturating_sub(used));
    if granted > 0 {
        let statement = query(
            "INSERT INTO rights_usage (namespace, connection, profile, day, used) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (namespace, connection, profile, day) DO UPDATE SET used = rights_usage.used + $5",
        );
        let statement = statement.bind(namespace).bind(connection).bind(profile).bind(&day);
        tx.execute(statement.bind(to_i64(granted))).await?;
    }
    Ok(granted)
}

/// Appends one entry in the caller's transaction.
pub(super) async fn append(tx: &mut Transaction, entry: &AuditEntry) -> Result<(), LedgerError> {
    append_all(tx, std::slice::from_ref(entry)).await
}

async fn append_all(tx: &mut Transaction, entries: &[AuditEntry]) -> Result<(), LedgerError> {
    if entries.is_empty() {
        return Ok(());
    }
    let all = entries.iter();
    let statement = query(
        "INSERT INTO audit (at_ms, kind, action, subject, rights_profile, allowed, namespace, connection, provider,
             purpose, reason, request_id, count, last_ms)
         SELECT p.* FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[],
             $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::bigint[]) p",
    )
    .bind(all.clone().map(|entry| millis(entry.at)).collect::<Vec<_>>())
    .bind(all.clone().map(|entry| entry.kind.as_str()).collect::<Vec<_>>())
    .bind(all.clone().map(|entry| text(&entry.action).into_owned()).collect::<Vec<_>>())
    .bind(all.clone().map(|entry| text(&entry.subject).into_owned()).collect::<Vec<_>>())
    .bind(optional(entries, |entry| entry.rights_profile.as_deref()))
    .bind(all.clone().map(|entry| entry.allowed).collect::<Vec<_>>())
    .bind(all.clone().map(|entry| entry.namespace.as_str()).collect::<Vec<_>>())
    .bind(all.clone().map(|entry| entry.connection.as_str()).collect::<Vec<_>>())
    .bind(optional(entries, |entry| entry.provider.as_deref()))
    .bind(optional(entries, |entry| entry.purpose.as_deref()))
    .bind(optional(entries, |entry| entry.reason.as_deref()))
    .bind(all.clone().map(|entry| entry.request_id.map(|id| id.to_string())).collect::<Vec<_>>())
    .bind(all.clone().map(|entry| to_i64(entry.count())).collect::<Vec<_>>())
    .bind(all.map(|entry| entry.repeats.map(|repeats| millis(repeats.last))).collect::<Vec<_>>());
    tx.execute(statement).await.map(drop)
}

fn optional(entries: &[AuditEntry], of: impl Fn(&AuditEntry) -> Option<&str>) -> Vec<Option<String>> {
    entries.iter().map(|entry| text_opt(of(entry)).map(std::borrow::Cow::into_owned)).collect()
}

fn decode_entry(row: &PgRow) -> Result<StoredAudit, LedgerError> {
    let (kind, times): (String, u64) = (get(row, "kind")?, count(row, "count")?);
    Ok(StoredAudit {
        seq: get(row, "seq")?,
        entry: AuditEntry {
            at: timestamp(row, "at_ms")?,
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
            request_id: uuid_opt(row, "request_id")?,
            repeats: timestamp_opt(row, "last_ms")?.map(|last| Repeats { count: times, last }),
        },
    })
}
