//! Deliveries as consumers and staff see them, and what consumers say of them.

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use crate::ledger::delivery::{
    ConfirmOutcome, ConfirmStatus, DeliverStatus, DeliveryFilter, PublishStatus, StoredDelivery,
};
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::{get, instant_opt, millis, small, stored_enum, timestamp_opt};
use crate::ledger::postgres::outbox;
use crate::ledger::postgres::transaction::Transaction;

/// The columns of a delivery and of its event.
const DELIVERY: &str =
    "e.txid, e.seq, e.id, e.type, e.namespace, e.aggregate, e.payload, e.correlation_id, e.created_ms,
    d.consumer_id, d.publish_status, d.publish_try_count, d.published_ms, d.publish_failure_reason, d.next_try_ms,
    d.deliver_status, d.deliver_try_count, d.delivered_ms";

/// Deliveries of consumers that are not removed.
const OF_CONSUMERS: &str = "JOIN outbox_delivery d ON d.event_seq = e.seq
    JOIN consumers c ON c.id = d.consumer_id AND c.removed_ms IS NULL";

/// In the order of events, and with what is shown of them: see [`outbox`].
pub(super) async fn list(
    tx: &mut Transaction,
    filter: &DeliveryFilter,
    limit: u32,
    horizon: i64,
) -> Result<Vec<StoredDelivery>, LedgerError> {
    let sql = format!(
        "SELECT {DELIVERY} FROM outbox_event e {OF_CONSUMERS}
         WHERE (e.txid, e.seq) > ($1, $2)
             AND (e.txid < $10 OR e.txid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
             AND ($3::text IS NULL OR e.namespace = $3)
             AND ($4::text IS NULL OR e.aggregate = $4 OR starts_with(e.aggregate, $4 || '/'))
             AND ($5::text[] IS NULL OR e.type = ANY ($5))
             AND ($6::text IS NULL OR e.correlation_id = $6)
             AND ($7::bigint IS NULL OR e.created_ms >= $7)
             AND ($8::bigint IS NULL OR e.created_ms < $8)
             AND d.consumer_id = $11
             AND ($12::text IS NULL OR d.publish_status = $12)
             AND ($13::text IS NULL OR d.deliver_status = $13)
         ORDER BY e.txid, e.seq LIMIT $9"
    );
    let events = &filter.events;
    let types = (!events.types.is_empty()).then(|| events.types.clone());
    let statement = query(AssertSqlSafe(sql))
        .bind(events.after.transaction)
        .bind(events.after.seq)
        .bind(events.namespace.as_deref())
        .bind(events.aggregate.as_deref())
        .bind(types)
        .bind(events.correlation_id.map(|id| id.to_string()))
        .bind(events.from.map(millis))
        .bind(events.to.map(millis))
        .bind(i64::from(limit))
        .bind(horizon)
        .bind(filter.consumer_id)
        .bind(filter.publish.map(PublishStatus::as_str))
        .bind(filter.deliver.map(DeliverStatus::as_str));
    tx.fetch_all(statement).await?.iter().map(decode).collect()
}

pub(super) async fn one(
    tx: &mut Transaction,
    consumer_id: i64,
    event_id: Uuid,
) -> Result<Option<StoredDelivery>, LedgerError> {
    let sql = format!("SELECT {DELIVERY} FROM outbox_event e {OF_CONSUMERS} WHERE e.id = $1 AND d.consumer_id = $2");
    let statement = query(AssertSqlSafe(sql)).bind(event_id.to_string()).bind(consumer_id);
    tx.fetch_optional(statement).await?.map(|row| decode(&row)).transpose()
}

pub(super) async fn of_event(tx: &mut Transaction, event_id: Uuid) -> Result<Vec<StoredDelivery>, LedgerError> {
    let sql = format!("SELECT {DELIVERY} FROM outbox_event e {OF_CONSUMERS} WHERE e.id = $1 ORDER BY d.consumer_id");
    tx.fetch_all(query(AssertSqlSafe(sql)).bind(event_id.to_string())).await?.iter().map(decode).collect()
}

/// Records what a consumer says, in the caller's transaction.
pub(super) async fn confirm(
    tx: &mut Transaction,
    consumer_id: i64,
    event_id: Uuid,
    said: ConfirmStatus,
    now: Timestamp,
) -> Result<ConfirmOutcome, LedgerError> {
    // What is said at the same time waits, and then reads what this one wrote.
    let locked = query(
        "SELECT 1 FROM outbox_delivery WHERE consumer_id = $1
             AND event_seq = (SELECT seq FROM outbox_event WHERE id = $2) FOR UPDATE",
    );
    tx.fetch_optional(locked.bind(consumer_id).bind(event_id.to_string())).await?;
    let Some(delivery) = one(tx, consumer_id, event_id).await? else { return Ok(ConfirmOutcome::NotFound) };
    let seq = delivery.event.position.seq;
    let known = query(
        "SELECT EXISTS (
             SELECT 1 FROM delivery_receipts WHERE event_seq = $1 AND consumer_id = $2 AND status = $3)",
    );
    let is_known: bool = tx.scalar(known.bind(seq).bind(consumer_id).bind(said.as_str())).await?;
    let outcome = ConfirmOutcome::of(delivery.deliver, said, is_known);
    let is_applied = matches!(outcome, ConfirmOutcome::Applied(_));
    if matches!(outcome, ConfirmOutcome::Applied(_) | ConfirmOutcome::Recorded(_)) {
        let statement = query(
            "INSERT INTO delivery_receipts (event_seq, consumer_id, status, at_ms, applied) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (event_seq, consumer_id, status) DO NOTHING",
        );
        let statement = statement.bind(seq).bind(consumer_id).bind(said.as_str()).bind(millis(now)).bind(is_applied);
        tx.execute(statement).await?;
    }
    if is_applied {
        let delivered = said.status().is_delivered().then(|| millis(now));
        let statement = query(
            "UPDATE outbox_delivery SET deliver_status = $3, delivered_ms = $4 WHERE event_seq = $1 AND consumer_id = $2",
        );
        tx.execute(statement.bind(seq).bind(consumer_id).bind(said.as_str()).bind(delivered)).await?;
    }
    Ok(outcome)
}

fn decode(row: &PgRow) -> Result<StoredDelivery, LedgerError> {
    let (publish, deliver): (String, String) = (get(row, "publish_status")?, get(row, "deliver_status")?);
    let (publish_column, deliver_column) = ("outbox_delivery.publish_status", "outbox_delivery.deliver_status");
    let next_try: i64 = get(row, "next_try_ms")?;
    Ok(StoredDelivery {
        event: outbox::decode(row)?,
        consumer_id: get(row, "consumer_id")?,
        publish: stored_enum(PublishStatus::ALL, PublishStatus::as_str, &publish, publish_column)?,
        publish_tries: small(row, "publish_try_count")?,
        published: timestamp_opt(row, "published_ms")?,
        failure: get(row, "publish_failure_reason")?,
        next_try: instant_opt((next_try > 0).then_some(next_try), "outbox_delivery.next_try_ms")?,
        deliver: stored_enum(DeliverStatus::ALL, DeliverStatus::as_str, &deliver, deliver_column)?,
        deliver_tries: small(row, "deliver_try_count")?,
        delivered: timestamp_opt(row, "delivered_ms")?,
    })
}
