//! What is to be published, and what was.

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::query;

use crate::ledger::delivery::pending::{PendingPage, PendingRow};
use crate::ledger::delivery::{DeliveryUsage, PendingDelivery, PendingQuery, PublishOutcome, PublishResult};
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::{count, get, millis, small, timestamp_opt};
use crate::ledger::postgres::outbox;
use crate::ledger::postgres::transaction::Transaction;

/// Results of one statement.
const PIECE: usize = 1_000;

/// One look at the index for each aggregate with pending deliveries, however many it has, and then the oldest of each.
const PAGE: &str = "WITH RECURSIVE aggregates (name, place) AS (
        SELECT (SELECT min(d.aggregate) FROM outbox_delivery d
                WHERE d.consumer_id = $1 AND d.publish_status = 'pending' AND d.aggregate > $2), 1::bigint
        UNION ALL
        SELECT (SELECT min(d.aggregate) FROM outbox_delivery d
                WHERE d.consumer_id = $1 AND d.publish_status = 'pending' AND d.aggregate > a.name), a.place + 1
        FROM aggregates a WHERE a.name IS NOT NULL AND a.place < $3
    )
    SELECT e.txid, e.seq, e.id, e.type, e.namespace, e.aggregate, e.payload, e.correlation_id, e.created_ms,
        o.publish_try_count, o.next_try_ms
    FROM aggregates a
    CROSS JOIN LATERAL (
        SELECT d.event_seq, d.publish_try_count, d.next_try_ms FROM outbox_delivery d
        WHERE d.consumer_id = $1 AND d.publish_status = 'pending' AND d.aggregate = a.name
        ORDER BY d.event_seq LIMIT $4
    ) AS o
    JOIN outbox_event e ON e.seq = o.event_seq
    WHERE a.name IS NOT NULL
    ORDER BY a.place, e.seq";

/// A page of pending deliveries.
pub(super) async fn page(tx: &mut Transaction, pending: &PendingQuery) -> Result<PendingPage, LedgerError> {
    let ready = query(
        "SELECT EXISTS (SELECT 1 FROM consumers WHERE id = $1 AND removed_ms IS NULL AND history_through IS NULL)",
    );
    if !tx.scalar::<bool>(ready.bind(pending.consumer_id)).await? {
        return Ok(PendingPage::default());
    }
    let statement = query(PAGE)
        .bind(pending.consumer_id)
        .bind(pending.after.as_deref().unwrap_or_default())
        .bind(i64::from(pending.limit))
        .bind(i64::from(pending.per_aggregate));
    let decode = |row: &PgRow| -> Result<PendingRow, LedgerError> {
        let delivery = PendingDelivery { event: outbox::decode(row)?, tries: small(row, "publish_try_count")? };
        Ok(PendingRow { delivery, next_try_ms: get(row, "next_try_ms")? })
    };
    let rows = tx.fetch_all(statement).await?.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    Ok(PendingPage::of(rows, pending))
}

/// Records tries, in the caller's transaction.
pub(super) async fn record(tx: &mut Transaction, results: &[PublishResult], now: Timestamp) -> Result<(), LedgerError> {
    for piece in results.chunks(PIECE) {
        let (mut published, mut failed) = (Columns::default(), Columns::default());
        for result in piece {
            match result.outcome {
                PublishOutcome::Published => published.push(result, "", 0),
                PublishOutcome::Failed { reason, next_try } => failed.push(result, reason.as_str(), millis(next_try)),
            }
        }
        published.record_published(tx, now).await?;
        failed.record_failed(tx).await?;
    }
    Ok(())
}

/// The results of one statement, by column.
#[derive(Default)]
struct Columns {
    seqs: Vec<i64>,
    consumers: Vec<i64>,
    reasons: Vec<String>,
    next_tries: Vec<i64>,
}

impl Columns {
    fn push(&mut self, result: &PublishResult, reason: &str, next_try: i64) {
        self.seqs.push(result.seq);
        self.consumers.push(result.consumer_id);
        self.reasons.push(reason.to_owned());
        self.next_tries.push(next_try);
    }

    async fn record_published(self, tx: &mut Transaction, now: Timestamp) -> Result<(), LedgerError> {
        if self.seqs.is_empty() {
            return Ok(());
        }
        let statement = query(
            "UPDATE outbox_delivery d SET publish_status = 'published', publish_try_count = d.publish_try_count + 1,
                 published_ms = $3, publish_failure_reason = NULL, next_try_ms = 0,
                 deliver_try_count = d.deliver_try_count + 1
             FROM unnest($1::bigint[], $2::bigint[]) AS r (seq, consumer)
             WHERE d.event_seq = r.seq AND d.consumer_id = r.consumer AND d.publish_status = 'pending'",
        );
        tx.execute(statement.bind(self.seqs).bind(self.consumers).bind(millis(now))).await.map(drop)
    }

    async fn record_failed(self, tx: &mut Transaction) -> Result<(), LedgerError> {
        if self.seqs.is_empty() {
            return Ok(());
        }
        let statement = query(
            "UPDATE outbox_delivery d SET publish_try_count = d.publish_try_count + 1, publish_failure_reason = r.reason,
                 next_try_ms = r.next_try
             FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) AS r (seq, consumer, reason, next_try)
             WHERE d.event_seq = r.seq AND d.consumer_id = r.consumer AND d.publish_status = 'pending'",
        );
        let statement = statement.bind(self.seqs).bind(self.consumers).bind(self.reasons).bind(self.next_tries);
        tx.execute(statement).await.map(drop)
    }
}

/// How much is pending.
pub(super) async fn usage(tx: &mut Transaction) -> Result<Vec<DeliveryUsage>, LedgerError> {
    let statement = query(
        "SELECT c.id, c.name, coalesce(p.pending, 0) AS pending, coalesce(p.failing, 0) AS failing,
             (SELECT e.created_ms FROM outbox_event e WHERE e.seq = p.oldest) AS oldest_ms
         FROM consumers c LEFT JOIN (
             SELECT consumer_id, count(*) AS pending, count(*) FILTER (WHERE next_try_ms > 0) AS failing,
                 min(event_seq) AS oldest
             FROM outbox_delivery WHERE publish_status = 'pending' GROUP BY consumer_id
         ) AS p ON p.consumer_id = c.id
         WHERE c.removed_ms IS NULL ORDER BY c.name",
    );
    let decode = |row: &PgRow| -> Result<DeliveryUsage, LedgerError> {
        Ok(DeliveryUsage {
            consumer_id: get(row, "id")?,
            consumer: get(row, "name")?,
            pending: count(row, "pending")?,
            failing: count(row, "failing")?,
            oldest_pending: timestamp_opt(row, "oldest_ms")?,
        })
    };
    tx.fetch_all(statement).await?.iter().map(decode).collect()
}
