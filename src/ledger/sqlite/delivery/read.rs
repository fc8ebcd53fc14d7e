//! Deliveries as consumers and staff see them, and what consumers say of them.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};
use uuid::Uuid;

use crate::ledger::delivery::{
    ConfirmOutcome, ConfirmStatus, DeliverStatus, DeliveryFilter, PublishStatus, StoredDelivery,
};
use crate::ledger::error::LedgerError;
use crate::ledger::sqlite::codec::{get, instant_opt, millis, stored_enum};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::outbox;

/// The columns of a delivery and of its event.
const DELIVERY: &str = "e.seq, e.id, e.type, e.namespace, e.aggregate, e.payload, e.correlation_id, e.created_ms,
    d.consumer_id, d.publish_status, d.publish_try_count, d.published_ms, d.publish_failure_reason, d.next_try_ms,
    d.deliver_status, d.deliver_try_count, d.delivered_ms";

/// Deliveries of consumers that are not removed.
const OF_CONSUMERS: &str = "JOIN outbox_delivery AS d ON d.event_seq = e.seq
    JOIN consumers AS c ON c.id = d.consumer_id AND c.removed_ms IS NULL";

pub(super) fn list(
    tx: &Transaction<'_>,
    filter: &DeliveryFilter,
    limit: u32,
) -> Result<Vec<StoredDelivery>, LedgerError> {
    let (conditions, mut params) = outbox::conditions(&filter.events);
    params.push(filter.consumer_id.into());
    let mut sql = format!(
        "SELECT {DELIVERY} FROM (SELECT * FROM outbox_event WHERE {conditions}) AS e {OF_CONSUMERS}
         WHERE d.consumer_id = ?"
    );
    let statuses = [
        (" AND d.publish_status = ?", filter.publish.map(PublishStatus::as_str)),
        (" AND d.deliver_status = ?", filter.deliver.map(DeliverStatus::as_str)),
    ];
    for (clause, status) in statuses {
        if let Some(status) = status {
            sql.push_str(clause);
            params.push(Value::from(status.to_owned()));
        }
    }
    // By the column of the index that the deliveries are found by, so that no page sorts all of them.
    sql.push_str(" ORDER BY d.event_seq LIMIT ?");
    params.push(i64::from(limit).into());
    tx.query_all(&sql, params_from_iter(params), decode)
}

pub(super) fn one(
    tx: &Transaction<'_>,
    consumer_id: i64,
    event_id: Uuid,
) -> Result<Option<StoredDelivery>, LedgerError> {
    let sql = format!("SELECT {DELIVERY} FROM outbox_event AS e {OF_CONSUMERS} WHERE e.id = ?1 AND d.consumer_id = ?2");
    tx.query_opt(&sql, params![event_id.to_string(), consumer_id], decode)
}

pub(super) fn of_event(tx: &Transaction<'_>, event_id: Uuid) -> Result<Vec<StoredDelivery>, LedgerError> {
    let sql = format!("SELECT {DELIVERY} FROM outbox_event AS e {OF_CONSUMERS} WHERE e.id = ?1 ORDER BY d.consumer_id");
    tx.query_all(&sql, [event_id.to_string()], decode)
}

/// Records what a consumer says, in the caller's transaction.
pub(super) fn confirm(
    tx: &Transaction<'_>,
    consumer_id: i64,
    event_id: Uuid,
    said: ConfirmStatus,
    now: Timestamp,
) -> Result<ConfirmOutcome, LedgerError> {
    let Some(delivery) = one(tx, consumer_id, event_id)? else { return Ok(ConfirmOutcome::NotFound) };
    let seq = delivery.event.position.seq;
    let known = "SELECT EXISTS (
        SELECT 1 FROM delivery_receipts WHERE event_seq = ?1 AND consumer_id = ?2 AND status = ?3)";
    let is_known: bool = tx.scalar(known, params![seq, consumer_id, said.as_str()])?;
    let outcome = ConfirmOutcome::of(delivery.deliver, said, is_known);
    let is_applied = matches!(outcome, ConfirmOutcome::Applied(_));
    if matches!(outcome, ConfirmOutcome::Applied(_) | ConfirmOutcome::Recorded(_)) {
        tx.execute(
            "INSERT INTO delivery_receipts (event_seq, consumer_id, status, at_ms, applied) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (event_seq, consumer_id, status) DO NOTHING",
            params![seq, consumer_id, said.as_str(), millis(now), is_applied],
        )?;
    }
    if is_applied {
        let delivered = said.status().is_delivered().then(|| millis(now));
        tx.execute(
            "UPDATE outbox_delivery SET deliver_status = ?3, delivered_ms = ?4 WHERE event_seq = ?1 AND consumer_id = ?2",
            params![seq, consumer_id, said.as_str(), delivered],
        )?;
    }
    Ok(outcome)
}

fn decode(row: &Row<'_>) -> Result<StoredDelivery, LedgerError> {
    let (publish, deliver): (String, String) = (get(row, "publish_status")?, get(row, "deliver_status")?);
    let (publish_column, deliver_column) = ("outbox_delivery.publish_status", "outbox_delivery.deliver_status");
    let next_try: i64 = get(row, "next_try_ms")?;
    Ok(StoredDelivery {
        event: outbox::decode(row)?,
        consumer_id: get(row, "consumer_id")?,
        publish: stored_enum(PublishStatus::ALL, PublishStatus::as_str, &publish, publish_column)?,
        publish_tries: get(row, "publish_try_count")?,
        published: instant_opt(get(row, "published_ms")?, "outbox_delivery.published_ms")?,
        failure: get(row, "publish_failure_reason")?,
        next_try: instant_opt((next_try > 0).then_some(next_try), "outbox_delivery.next_try_ms")?,
        deliver: stored_enum(DeliverStatus::ALL, DeliverStatus::as_str, &deliver, deliver_column)?,
        deliver_tries: get(row, "deliver_try_count")?,
        delivered: instant_opt(get(row, "delivered_ms")?, "outbox_delivery.delivered_ms")?,
    })
}
