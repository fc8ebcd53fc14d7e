//! Stored events.
//!
//! They are ordered by transaction, then by number, and shown once every transaction of this database with a smaller number
//! has ended: what is written later is then always after what was shown. Transactions of other databases of the server,
//! which may last for hours, delay nothing.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::clock_skew::latest_millis;
use super::codec::{count, get, millis, text, timestamp, timestamp_opt, to_i64};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::transaction::{Transaction, read_tx, write_tx};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::outbox::{ChangedRow, EventFilter, EventPosition, Outbox, OutboxEvent, OutboxUsage, StoredEvent};
use crate::ledger::page::PageCommit;

const APPEND: OperationName = OperationName("appending events");
const LIST: OperationName = OperationName("listing events");
const USAGE: OperationName = OperationName("counting events");
const PRUNE: OperationName = OperationName("pruning events");

/// Events of one statement.
const PIECE: usize = 1_000;

/// An event that is stored keeps its place: it was written by the transaction that this one repeats.
const INSERT: &str = "INSERT INTO outbox_event (id, type, namespace, aggregate, payload, correlation_id, created_ms)
     SELECT id, type, namespace, aggregate, payload, correlation_id, $7
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
         WITH ORDINALITY AS e (id, type, namespace, aggregate, payload, correlation_id, place)
     ORDER BY place ON CONFLICT (id) DO NOTHING";

/// A number that was not assigned yet came with a copy of another server's ledger: such events are old.
const SELECT: &str = "SELECT txid, seq, id, type, namespace, aggregate, payload, correlation_id, created_ms
     FROM outbox_event
     WHERE (txid, seq) > ($1, $2)
         AND (txid < $10 OR txid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
         AND ($3::text IS NULL OR namespace = $3)
         AND ($4::text IS NULL OR aggregate = $4 OR starts_with(aggregate, $4 || '/'))
         AND ($5::text[] IS NULL OR type = ANY ($5))
         AND ($6::text IS NULL OR correlation_id = $6)
         AND ($7::bigint IS NULL OR created_ms >= $7)
         AND ($8::bigint IS NULL OR created_ms < $8)
     ORDER BY txid, seq LIMIT $9";

/// The oldest transaction of this database that may still write: what is below has ended. Read before the events, in a
/// snapshot of its own: a transaction that ends in between is then visible to the events' snapshot. Sessions report their
/// number with 32 bits, so it is completed from that of the snapshot; one that began after the snapshot does not matter.
const HORIZON: &str = "WITH s AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS x)
     SELECT coalesce(min(s.x - a.age), min(s.x)) AS horizon FROM s LEFT JOIN LATERAL (
         SELECT ((s.x & 4294967295) - backend_xid::text::bigint + 4294967296) % 4294967296 AS age
         FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL
     ) AS a ON a.age < 2147483648";

impl Outbox for PostgresLedger {
    fn append_events<'a>(&'a self, events: &'a [OutboxEvent], now: Timestamp) -> LedgerFuture<'a, u64> {
        async move { write_tx!(self, APPEND, |tx| append(tx, events, now).await) }.boxed()
    }

    fn list_events<'a>(&'a self, filter: &'a EventFilter, limit: u32) -> LedgerFuture<'a, Vec<StoredEvent>> {
        async move {
            let horizon = read_tx!(self, LIST, |tx| horizon(tx).await)?;
            read_tx!(self, LIST, |tx| list(tx, filter, limit, horizon).await)
        }
        .boxed()
    }

    fn outbox_usage(&self) -> LedgerFuture<'_, OutboxUsage> {
        async move {
            read_tx!(self, USAGE, |tx| {
                let statement = sqlx::query("SELECT count(*) AS events, min(created_ms) AS oldest FROM outbox_event");
                match tx.fetch_optional(statement).await? {
                    None => Ok(OutboxUsage::default()),
                    Some(row) => {
                        Ok(OutboxUsage { events: count(&row, "events")?, oldest: timestamp_opt(&row, "oldest")? })
                    }
                }
            })
        }
        .boxed()
    }

    fn prune_events<'a>(
        &'a self,
        lease: &'a Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                // Events that are ahead cannot be corrected, because they are append-only. They are as old as their
                // successors.
                let statement = sqlx::query(
                    "DELETE FROM outbox_event WHERE seq = ANY (ARRAY(
                         SELECT seq FROM outbox_event WHERE created_ms > $2
                             AND seq < (SELECT max(seq) FROM outbox_event WHERE created_ms < $1) LIMIT $3))",
                );
                let statement = statement.bind(millis(before)).bind(latest_millis(now)).bind(i64::from(limit));
                let ahead = tx.execute(statement).await?;
                let statement = sqlx::query(
                    "DELETE FROM outbox_event WHERE seq = ANY (ARRAY(
                         SELECT seq FROM outbox_event WHERE created_ms < $1 ORDER BY created_ms, seq LIMIT $2))",
                );
                let left = to_i64(u64::from(limit).saturating_sub(ahead));
                Ok(ahead + tx.execute(statement.bind(millis(before)).bind(left)).await?)
            })
        }
        .boxed()
    }
}

/// Appends the events of a page's changed rows in the page's transaction.
pub(super) async fn write_page(
    tx: &mut Transaction,
    page: &PageCommit<'_>,
    changed: &[ChangedRow<'_>],
) -> Result<(), LedgerError> {
    match page.events {
        Some(events) if !changed.is_empty() => {
            let events = events.events(changed);
            append(tx, &events, page.now).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Appends events in the caller's transaction; returns the number of those that were not stored yet.
pub(super) async fn append(tx: &mut Transaction, events: &[OutboxEvent], now: Timestamp) -> Result<u64, LedgerError> {
    let mut appended = 0;
    for piece in events.chunks(PIECE) {
        let texts = |value: fn(&OutboxEvent) -> String| piece.iter().map(value).collect::<Vec<String>>();
        let statement = sqlx::query(INSERT)
            .bind(texts(|event| event.id.to_string()))
            .bind(texts(|event| event.event_type.as_str().to_owned()))
            .bind(texts(|event| event.namespace.clone()))
            .bind(texts(|event| text(&event.aggregate).into_owned()))
            .bind(texts(|event| text(&event.payload).into_owned()))
            .bind(texts(|event| event.correlation_id.to_string()))
            .bind(millis(now));
        appended += tx.execute(statement).await?;
    }
    if appended > 0 {
        tx.note_events();
    }
    Ok(appended)
}

/// The number of the oldest transaction that may still write: what is below has ended.
pub(super) async fn horizon(tx: &mut Transaction) -> Result<i64, LedgerError> {
    match tx.fetch_optional(sqlx::query(HORIZON)).await? {
        Some(row) => get(&row, "horizon"),
        None => Ok(0),
    }
}

async fn list(
    tx: &mut Transaction,
    filter: &EventFilter,
    limit: u32,
    horizon: i64,
) -> Result<Vec<StoredEvent>, LedgerError> {
    let types = (!filter.types.is_empty()).then(|| filter.types.clone());
    let statement = sqlx::query(SELECT)
        .bind(filter.after.transaction)
        .bind(filter.after.seq)
        .bind(filter.namespace.as_deref())
        .bind(filter.aggregate.as_deref())
        .bind(types)
        .bind(filter.correlation_id.map(|id| id.to_string()))
        .bind(filter.from.map(millis))
        .bind(filter.to.map(millis))
        .bind(i64::from(limit))
        .bind(horizon);
    tx.fetch_all(statement).await?.iter().map(decode).collect()
}

/// The event in the columns of `outbox_event`.
pub(super) fn decode(row: &PgRow) -> Result<StoredEvent, LedgerError> {
    Ok(StoredEvent {
        position: EventPosition { transaction: get(row, "txid")?, seq: get(row, "seq")? },
        id: uuid(row, "id")?,
        event_type: get(row, "type")?,
        namespace: get(row, "namespace")?,
        aggregate: get(row, "aggregate")?,
        payload: get(row, "payload")?,
        correlation_id: uuid(row, "correlation_id")?,
        created: timestamp(row, "created_ms")?,
    })
}

/// A UUID from its column.
pub(super) fn uuid(row: &PgRow, column: &'static str) -> Result<Uuid, LedgerError> {
    let text: String = get(row, column)?;
    Uuid::parse_str(&text).map_err(|_| LedgerError::Corrupt { column })
}
