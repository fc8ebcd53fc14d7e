//! Stored events.

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};
use uuid::Uuid;

use super::clock_skew::latest_millis;
use super::codec::{OperationName, count, get, instant, instant_opt, millis, to_i64};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::lease::assert_held;
use super::owned_page::OwnedPage;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::outbox::{ChangedRow, EventFilter, EventPosition, Outbox, OutboxEvent, OutboxUsage, StoredEvent};

const APPEND: OperationName = OperationName("appending events");
const LIST: OperationName = OperationName("listing events");
const USAGE: OperationName = OperationName("counting events");
const PRUNE: OperationName = OperationName("pruning events");

/// An event that is stored keeps its place: it was written by the transaction that this one repeats.
const INSERT: &str = "INSERT INTO outbox_event (id, type, namespace, aggregate, payload, correlation_id, created_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING";

impl Outbox for SqliteLedger {
    fn append_events<'a>(&'a self, events: &'a [OutboxEvent], now: Timestamp) -> LedgerFuture<'a, u64> {
        let events = events.to_vec();
        self.write(APPEND, move |tx| append(tx, &events, now)).boxed()
    }

    fn list_events<'a>(&'a self, filter: &'a EventFilter, limit: u32) -> LedgerFuture<'a, Vec<StoredEvent>> {
        let (sql, params) = query(filter, limit);
        self.read(LIST, move |tx| tx.query_all(&sql, params_from_iter(params), decode)).boxed()
    }

    fn outbox_usage(&self) -> LedgerFuture<'_, OutboxUsage> {
        self.read(USAGE, |tx| {
            let usage =
                tx.query_opt("SELECT count(*) AS events, min(created_ms) AS oldest FROM outbox_event", [], |row| {
                    let oldest = instant_opt(get(row, "oldest")?, "outbox_event.created_ms")?;
                    Ok(OutboxUsage { events: count(row, "events")?, oldest })
                })?;
            Ok(usage.unwrap_or_default())
        })
        .boxed()
    }

    fn prune_events<'a>(
        &'a self,
        lease: &'a Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            assert_held(tx, &lease)?;
            // Events that are ahead cannot be corrected, because they are append-only. They are as old as their successors.
            let ahead = tx.execute(
                "DELETE FROM outbox_event WHERE seq IN (
                     SELECT seq FROM outbox_event WHERE created_ms > ?2
                         AND seq < (SELECT max(+seq) FROM outbox_event WHERE created_ms < ?1) LIMIT ?3)",
                params![millis(before), latest_millis(now), limit],
            )?;
            let deleted = tx.execute(
                "DELETE FROM outbox_event WHERE seq IN (
                     SELECT seq FROM outbox_event WHERE created_ms < ?1 ORDER BY created_ms, seq LIMIT ?2)",
                params![millis(before), to_i64(u64::from(limit).saturating_sub(ahead))],
            )?;
            Ok(ahead + deleted)
        })
        .boxed()
    }
}

/// Appends the events of a page's changed rows in the page's transaction.
pub(super) fn write_page(
    tx: &Transaction<'_>,
    page: &OwnedPage,
    changed: &[ChangedRow<'_>],
) -> Result<(), LedgerError> {
    match &page.events {
        Some(events) if !changed.is_empty() => append(tx, &events.events(changed), page.now).map(drop),
        _ => Ok(()),
    }
}

/// Appends events in the caller's transaction; returns the number of those that were not stored yet.
pub(super) fn append(tx: &Transaction<'_>, events: &[OutboxEvent], now: Timestamp) -> Result<u64, LedgerError> {
    let mut appended = 0;
    for event in events {
        appended += tx.execute(
            INSERT,
            params![
                event.id.to_string(),
                event.event_type.as_str(),
                event.namespace,
                event.aggregate,
                event.payload,
                event.correlation_id.to_string(),
                millis(now),
            ],
        )?;
    }
    if appended > 0 {
        tx.note_events();
    }
    Ok(appended)
}

/// The columns of an event.
pub(super) const EVENT: &str = "seq, id, type, namespace, aggregate, payload, correlation_id, created_ms";

/// The statement for a filter, and its parameters.
fn query(filter: &EventFilter, limit: u32) -> (String, Vec<Value>) {
    let (conditions, mut params) = conditions(filter);
    params.push(i64::from(limit).into());
    (format!("SELECT {EVENT} FROM outbox_event WHERE {conditions} ORDER BY seq LIMIT ?"), params)
}

/// The conditions of a filter on the columns of `outbox_event`, and their parameters.
pub(super) fn conditions(filter: &EventFilter) -> (String, Vec<Value>) {
    let mut sql = "seq > ?".to_owned();
    let mut params: Vec<Value> = vec![filter.after.seq.into()];
    let equal = [
        (" AND namespace = ?", filter.namespace.clone().map(Value::from)),
        (" AND correlation_id = ?", filter.correlation_id.map(|id| id.to_string().into())),
        (" AND created_ms >= ?", filter.from.map(|at| millis(at).into())),
        (" AND created_ms < ?", filter.to.map(|at| millis(at).into())),
    ];
    for (clause, value) in equal {
        if let Some(value) = value {
            sql.push_str(clause);
            params.push(value);
        }
    }
    if let Some(aggregate) = &filter.aggregate {
        sql.push_str(" AND (aggregate = ? OR substr(aggregate, 1, ?) = ?)");
        let prefix = format!("{aggregate}/");
        let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
        params.extend([aggregate.clone().into(), length.into(), Value::from(prefix)]);
    }
    if !filter.types.is_empty() {
        sql.push_str(" AND type IN (");
        sql.push_str(&vec!["?"; filter.types.len()].join(", "));
        sql.push(')');
        params.extend(filter.types.iter().cloned().map(Value::from));
    }
    (sql, params)
}

/// The event in the columns [`EVENT`].
pub(super) fn decode(row: &Row<'_>) -> Result<StoredEvent, LedgerError> {
    Ok(StoredEvent {
        position: EventPosition { transaction: 0, seq: get(row, "seq")? },
        id: uuid(row, "id", "outbox_event.id")?,
        event_type: get(row, "type")?,
        namespace: get(row, "namespace")?,
        aggregate: get(row, "aggregate")?,
        payload: get(row, "payload")?,
        correlation_id: uuid(row, "correlation_id", "outbox_event.correlation_id")?,
        created: instant(get(row, "created_ms")?, "outbox_event.created_ms")?,
    })
}

/// A UUID from its column.
pub(super) fn uuid(row: &Row<'_>, name: &'static str, column: &'static str) -> Result<Uuid, LedgerError> {
    let text: String = get(row, name)?;
    Uuid::parse_str(&text).map_err(|_| LedgerError::Corrupt { column })
}
