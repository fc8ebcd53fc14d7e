//! What is to be published, and what was.

use jiff::Timestamp;
use rusqlite::params;

use crate::ledger::delivery::pending::{PendingPage, PendingRow};
use crate::ledger::delivery::{DeliveryUsage, PendingDelivery, PendingQuery, PublishOutcome, PublishResult};
use crate::ledger::error::LedgerError;
use crate::ledger::sqlite::codec::{count, get, instant_opt, millis};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::outbox;

/// The aggregates with pending deliveries: one look at the index for each, however many deliveries it has.
const AGGREGATES: &str = "WITH RECURSIVE aggregates (name, place) AS (
        SELECT (SELECT min(aggregate) FROM outbox_delivery
                WHERE consumer_id = ?1 AND publish_status = 'pending' AND aggregate > ?2), 1
        UNION ALL
        SELECT (SELECT min(d.aggregate) FROM outbox_delivery AS d
                WHERE d.consumer_id = ?1 AND d.publish_status = 'pending' AND d.aggregate > a.name), a.place + 1
        FROM aggregates AS a WHERE a.name IS NOT NULL AND a.place < ?3
    )
    SELECT name FROM aggregates WHERE name IS NOT NULL ORDER BY place";

/// The oldest pending deliveries of an aggregate.
const OLDEST: &str = "SELECT e.seq, e.id, e.type, e.namespace, e.aggregate, e.payload, e.correlation_id, e.created_ms,
        d.publish_try_count, d.next_try_ms
    FROM outbox_delivery AS d JOIN outbox_event AS e ON e.seq = d.event_seq
    WHERE d.consumer_id = ?1 AND d.publish_status = 'pending' AND d.aggregate = ?2
    ORDER BY d.event_seq LIMIT ?3";

/// A page of pending deliveries.
pub(super) fn page(tx: &Transaction<'_>, query: &PendingQuery) -> Result<PendingPage, LedgerError> {
    let ready =
        "SELECT EXISTS (SELECT 1 FROM consumers WHERE id = ?1 AND removed_ms IS NULL AND history_through IS NULL)";
    if !tx.scalar::<bool>(ready, [query.consumer_id])? {
        return Ok(PendingPage::default());
    }
    let from = query.after.as_deref().unwrap_or_default();
    let aggregates: Vec<String> =
        tx.query_all(AGGREGATES, params![query.consumer_id, from, query.limit], |row| get(row, "name"))?;
    let mut rows = Vec::new();
    for aggregate in aggregates {
        rows.extend(tx.query_all(OLDEST, params![query.consumer_id, aggregate, query.per_aggregate], |row| {
            let delivery = PendingDelivery { event: outbox::decode(row)?, tries: get(row, "publish_try_count")? };
            Ok(PendingRow { delivery, next_try_ms: get(row, "next_try_ms")? })
        })?);
    }
    Ok(PendingPage::of(rows, query))
}

/// Records tries, in the caller's transaction.
pub(super) fn record(tx: &Transaction<'_>, results: &[PublishResult], now: Timestamp) -> Result<(), LedgerError> {
    for result in results {
        match result.outcome {
            PublishOutcome::Published => tx.execute(
                "UPDATE outbox_delivery SET publish_status = 'published', publish_try_count = publish_try_count + 1,
                     published_ms = ?3, publish_failure_reason = NULL, next_try_ms = 0,
                     deliver_try_count = deliver_try_count + 1
                 WHERE event_seq = ?1 AND consumer_id = ?2 AND publish_status = 'pending'",
                params![result.seq, result.consumer_id, millis(now)],
            )?,
            PublishOutcome::Failed { reason, next_try } => tx.execute(
                "UPDATE outbox_delivery SET publish_try_count = publish_try_count + 1, publish_failure_reason = ?3,
                     next_try_ms = ?4
                 WHERE event_seq = ?1 AND consumer_id = ?2 AND publish_status = 'pending'",
                params![result.seq, result.consumer_id, reason.as_str(), millis(next_try)],
            )?,
        };
    }
    Ok(())
}

/// How much is pending.
pub(super) fn usage(tx: &Transaction<'_>) -> Result<Vec<DeliveryUsage>, LedgerError> {
    tx.query_all(
        "SELECT c.id, c.name, coalesce(p.pending, 0) AS pending, coalesce(p.failing, 0) AS failing,
             (SELECT created_ms FROM outbox_event WHERE seq = p.oldest) AS oldest_ms
         FROM consumers AS c LEFT JOIN (
             SELECT consumer_id, count(*) AS pending, sum(next_try_ms > 0) AS failing, min(event_seq) AS oldest
             FROM outbox_delivery WHERE publish_status = 'pending' GROUP BY consumer_id
         ) AS p ON p.consumer_id = c.id
         WHERE c.removed_ms IS NULL ORDER BY c.name",
        [],
        |row| {
            Ok(DeliveryUsage {
                consumer_id: get(row, "id")?,
                consumer: get(row, "name")?,
                pending: count(row, "pending")?,
                failing: count(row, "failing")?,
                oldest_pending: instant_opt(get(row, "oldest_ms")?, "outbox_event.created_ms")?,
            })
        },
    )
}
