//! The audit log and licence usage counters.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use super::codec::{OperationName, get, instant, millis, stored_enum, to_i64};
use super::database::SqliteLedger;
use crate::ledger::audit::{Audit, AuditEntry, AuditKind, StoredAudit, Usage, UsageKey};
use crate::ledger::error::{LedgerError, LedgerFuture};

const APPEND: OperationName = OperationName("appending to the audit log");
const LIST: OperationName = OperationName("reading the audit log");
const PRUNE: OperationName = OperationName("pruning the audit log");
const TAKE: OperationName = OperationName("counting licence usage");

impl Audit for SqliteLedger {
    fn append_audit<'a>(&'a self, entries: &'a [AuditEntry]) -> LedgerFuture<'a, ()> {
        async move {
            let entries = entries.to_vec();
            self.write(APPEND, |conn| {
                Box::pin(async move {
                    for entry in &entries {
                        append(conn, entry).await?;
                    }
                    Ok(())
                })
            })
            .await
        }
        .boxed()
    }

    fn list_audit<'a>(
        &'a self,
        namespace: Option<&'a str>,
        before: Option<i64>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredAudit>> {
        async move {
            let mut conn = self.reader(LIST).await?;
            let rows = sqlx::query(
                "SELECT seq, at_ms, kind, action, subject, rights_profile, allowed, namespace, connection, provider,
                     purpose, reason, request_id
                 FROM audit WHERE (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR seq < ?2)
                 ORDER BY seq DESC LIMIT ?3",
            )
            .bind(namespace)
            .bind(before)
            .bind(limit)
            .fetch_all(&mut *conn)
            .await
            .map_err(|e| LIST.failed(e))?;
            rows.iter().map(decode_entry).collect()
        }
        .boxed()
    }

    fn prune_audit(&self, before: Timestamp) -> LedgerFuture<'_, u64> {
        async move {
            self.write(PRUNE, |conn| {
                Box::pin(async move {
                    let deleted = sqlx::query("DELETE FROM audit WHERE at_ms < ?1")
                        .bind(millis(before))
                        .execute(&mut *conn)
                        .await
                        .map_err(|e| PRUNE.failed(e))?;
                    sqlx::query("DELETE FROM rights_usage WHERE day < ?1")
                        .bind(before.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
                        .execute(conn)
                        .await
                        .map_err(|e| PRUNE.failed(e))?;
                    Ok(deleted.rows_affected())
                })
            })
            .await
        }
        .boxed()
    }
}

impl Usage for SqliteLedger {
    fn take_usage<'a>(&'a self, key: &'a UsageKey, want: u64, limit: u64) -> LedgerFuture<'a, u64> {
        async move {
            let key = key.clone();
            self.write(TAKE, |conn| Box::pin(async move { take(conn, &key, want, limit).await })).await
        }
        .boxed()
    }
}

async fn take(conn: &mut SqliteConnection, key: &UsageKey, want: u64, limit: u64) -> Result<u64, LedgerError> {
    let day = key.day.to_string();
    let used: Option<i64> = sqlx::query_scalar(
        "SELECT used FROM rights_usage WHERE namespace = ?1 AND connection = ?2 AND profile = ?3 AND day = ?4",
    )
    .bind(&key.namespace)
    .bind(&key.connection)
    .bind(&key.profile)
    .bind(&day)
    .fetch_optional(&mut *conn)
    .await
    .map_err(|e| TAKE.failed(e))?;
    let used = u64::try_from(used.unwrap_or(0)).map_err(|_| LedgerError::Corrupt { column: "rights_usage.used" })?;
    let granted = want.min(limit.saturating_sub(used));
    if granted > 0 {
        sqlx::query(
            "INSERT INTO rights_usage (namespace, connection, profile, day, used) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (namespace, connection, profile, day) DO UPDATE SET used = used + ?5",
        )
        .bind(&key.namespace)
        .bind(&key.connection)
        .bind(&key.profile)
        .bind(&day)
        .bind(to_i64(granted))
        .execute(conn)
        .await
        .map_err(|e| TAKE.failed(e))?;
    }
    Ok(granted)
}

/// Appends one entry in the caller's transaction.
pub(super) async fn append(conn: &mut SqliteConnection, entry: &AuditEntry) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO audit (at_ms, kind, action, subject, rights_profile, allowed, namespace, connection, provider,
             purpose, reason, request_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )
    .bind(millis(entry.at))
    .bind(entry.kind.as_str())
    .bind(&entry.action)
    .bind(&entry.subject)
    .bind(&entry.rights_profile)
    .bind(entry.allowed)
    .bind(&entry.namespace)
    .bind(&entry.connection)
    .bind(&entry.provider)
    .bind(&entry.purpose)
    .bind(&entry.reason)
    .bind(entry.request_id.map(|id| id.to_string()))
    .execute(conn)
    .await
    .map_err(|e| APPEND.failed(e))?;
    Ok(())
}

fn decode_entry(row: &SqliteRow) -> Result<StoredAudit, LedgerError> {
    let kind: String = get(row, "kind")?;
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
        },
    })
}

/// A UUID from a column that may be NULL.
pub(super) fn uuid_opt(row: &SqliteRow, name: &'static str, column: &'static str) -> Result<Option<Uuid>, LedgerError> {
    let text: Option<String> = row.try_get(name).map_err(|_| LedgerError::Corrupt { column })?;
    text.map(|text| Uuid::parse_str(&text).map_err(|_| LedgerError::Corrupt { column })).transpose()
}
