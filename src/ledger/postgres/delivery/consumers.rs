//! Consumers and their keys.

use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};

use super::history;
use crate::domain::clock_skew::after;
use crate::ledger::delivery::{
    Consumer, ConsumerKey, Consumers, CreateOutcome, NewConsumer, NewKey, RemovedConsumer, RenameOutcome, RetiredName,
    scope,
};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::postgres::codec::{count, get, millis, timestamp, timestamp_opt, to_i64};
use crate::ledger::postgres::database::PostgresLedger;
use crate::ledger::postgres::failure::OperationName;
use crate::ledger::postgres::lease::assert_held;
use crate::ledger::postgres::outbox;
use crate::ledger::postgres::transaction::{Transaction, lock, read_tx, write_tx};

const CREATE: OperationName = OperationName("creating a consumer");
const CHANGE: OperationName = OperationName("changing a consumer");
const READ: OperationName = OperationName("reading consumers");
const FILL: OperationName = OperationName("making the deliveries of stored events");
const FORGET: OperationName = OperationName("forgetting names of consumers");

/// The lock of everything that changes consumers: names are compared, and versions are numbered.
const LOCK: &str = "consumers";

/// The columns of a consumer.
const CONSUMER: &str =
    "c.id, c.name, c.previous_name, c.namespaces, c.event_types, c.created_ms, c.created_by, c.version";

impl Consumers for PostgresLedger {
    fn create_consumer<'a>(&'a self, consumer: &'a NewConsumer, now: Timestamp) -> LedgerFuture<'a, CreateOutcome> {
        async move { write_tx!(self, CREATE, |tx| create(tx, consumer, now).await) }.boxed()
    }

    fn list_consumers(&self) -> LedgerFuture<'_, Vec<Consumer>> {
        async move {
            read_tx!(self, READ, |tx| {
                let sql = format!("SELECT {CONSUMER} FROM consumers c WHERE c.removed_ms IS NULL ORDER BY c.name");
                tx.fetch_all(query(AssertSqlSafe(sql))).await?.iter().map(decode).collect::<Result<Vec<_>, _>>()
            })
        }
        .boxed()
    }

    fn consumer<'a>(&'a self, name: &'a str) -> LedgerFuture<'a, Option<Consumer>> {
        async move { read_tx!(self, READ, |tx| by_name(tx, name).await) }.boxed()
    }

    fn rename_consumer<'a>(
        &'a self,
        name: &'a str,
        new_name: &'a str,
        now: Timestamp,
    ) -> LedgerFuture<'a, RenameOutcome> {
        async move { write_tx!(self, CHANGE, |tx| rename(tx, name, new_name, now).await) }.boxed()
    }

    fn remove_consumer<'a>(&'a self, name: &'a str, now: Timestamp) -> LedgerFuture<'a, Option<RemovedConsumer>> {
        async move { write_tx!(self, CHANGE, |tx| remove(tx, name, now).await) }.boxed()
    }

    fn retired_names(&self) -> LedgerFuture<'_, Vec<RetiredName>> {
        async move {
            read_tx!(self, READ, |tx| {
                let sql =
                    "SELECT id, name FROM consumers WHERE removed_ms IS NOT NULL AND queues_gone_ms IS NULL ORDER BY id";
                let decode = |row: &PgRow| -> Result<RetiredName, LedgerError> {
                    Ok(RetiredName { id: get(row, "id")?, name: get(row, "name")? })
                };
                tx.fetch_all(query(sql)).await?.iter().map(decode).collect::<Result<Vec<_>, _>>()
            })
        }
        .boxed()
    }

    fn forget_names<'a>(&'a self, lease: &'a Lease, ids: &'a [i64], now: Timestamp) -> LedgerFuture<'a, ()> {
        async move {
            write_tx!(self, FORGET, |tx| {
                assert_held(tx, lease).await?;
                let sql = "UPDATE consumers SET queues_gone_ms = $2 WHERE id = ANY ($1) AND removed_ms IS NOT NULL";
                tx.execute(query(sql).bind(ids.to_vec()).bind(millis(now))).await.map(drop)
            })
        }
        .boxed()
    }

    fn rotate_key<'a>(
        &'a self,
        name: &'a str,
        key: &'a NewKey,
        overlap: Duration,
        now: Timestamp,
    ) -> LedgerFuture<'a, Option<Consumer>> {
        async move { write_tx!(self, CHANGE, |tx| rotate(tx, name, key, overlap, now).await) }.boxed()
    }

    fn consumer_key<'a>(&'a self, key_id: &'a str) -> LedgerFuture<'a, Option<ConsumerKey>> {
        async move { read_tx!(self, READ, |tx| key(tx, key_id).await) }.boxed()
    }

    fn consumers_version(&self) -> LedgerFuture<'_, u64> {
        async move {
            read_tx!(self, READ, |tx| {
                match tx.fetch_optional(query("SELECT version FROM consumer_version")).await? {
                    Some(row) => count(&row, "version"),
                    None => Ok(0),
                }
            })
        }
        .boxed()
    }

    fn fill_history<'a>(&'a self, lease: &'a Lease, limit: u32) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, FILL, |tx| {
                assert_held(tx, lease).await?;
                history::fill(tx, limit).await
            })
        }
        .boxed()
    }
}

async fn create(tx: &mut Transaction, consumer: &NewConsumer, now: Timestamp) -> Result<CreateOutcome, LedgerError> {
    lock(tx, LOCK).await?;
    if is_taken(tx, &consumer.name, None).await? {
        return Ok(CreateOutcome::Exists);
    }
    let range = history::range(tx, consumer.history_from).await?;
    // Before the consumer is there: it is not told of itself.
    outbox::append(tx, &consumer.events, now).await?;
    let version = next_version(tx).await?;
    let statement = query(
        "INSERT INTO consumers (name, namespaces, event_types, created_ms, created_by, version, history_from_ms,
             history_after, history_through) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&consumer.name)
    .bind(consumer.namespaces.as_deref().map(scope::encode))
    .bind(scope::encode(&consumer.event_types))
    .bind(millis(now))
    .bind(&consumer.created_by)
    .bind(to_i64(version))
    .bind(consumer.history_from.map(millis))
    .bind(range.map(|_| 0_i64))
    .bind(range);
    tx.execute(statement).await?;
    let Some(created) = by_name(tx, &consumer.name).await? else {
        return Err(LedgerError::Corrupt { column: "consumers.name" });
    };
    store_key(tx, created.id, &consumer.key, now).await?;
    Ok(CreateOutcome::Created(created))
}

async fn rename(
    tx: &mut Transaction,
    name: &str,
    new_name: &str,
    now: Timestamp,
) -> Result<RenameOutcome, LedgerError> {
    lock(tx, LOCK).await?;
    let Some(consumer) = by_name(tx, name).await? else { return Ok(RenameOutcome::NotFound) };
    if name == new_name {
        return Ok(RenameOutcome::Renamed(consumer));
    }
    if is_taken(tx, new_name, Some(consumer.id)).await? {
        return Ok(RenameOutcome::Exists);
    }
    let version = next_version(tx).await?;
    // The queue of the name before the former one is known by nothing else.
    if let Some(forgotten) = consumer.previous_name.as_deref().filter(|previous| *previous != new_name) {
        let statement = query(
            "INSERT INTO consumers (name, event_types, created_ms, created_by, version, removed_ms)
             VALUES ($1, '', $2, $3, $4, $2)",
        );
        let statement = statement.bind(forgotten).bind(millis(now)).bind(&consumer.created_by).bind(to_i64(version));
        tx.execute(statement).await?;
    }
    let statement = query("UPDATE consumers SET name = $2, previous_name = name, version = $3 WHERE id = $1");
    tx.execute(statement.bind(consumer.id).bind(new_name).bind(to_i64(version))).await?;
    let renamed = Consumer { name: new_name.to_owned(), previous_name: Some(consumer.name), version, ..consumer };
    Ok(RenameOutcome::Renamed(renamed))
}

async fn remove(tx: &mut Transaction, name: &str, now: Timestamp) -> Result<Option<RemovedConsumer>, LedgerError> {
    lock(tx, LOCK).await?;
    let Some(consumer) = by_name(tx, name).await? else { return Ok(None) };
    let version = next_version(tx).await?;
    tx.execute(query("DELETE FROM consumer_keys WHERE consumer_id = $1").bind(consumer.id)).await?;
    let statement = query("UPDATE consumers SET removed_ms = $2, version = $3, history_through = NULL WHERE id = $1");
    tx.execute(statement.bind(consumer.id).bind(millis(now)).bind(to_i64(version))).await?;
    let pending = query("SELECT count(*) FROM outbox_delivery WHERE consumer_id = $1 AND publish_status = 'pending'");
    let cancelled: i64 = tx.scalar(pending.bind(consumer.id)).await?;
    Ok(Some(RemovedConsumer { id: consumer.id, cancelled: u64::try_from(cancelled).unwrap_or_default() }))
}

async fn rotate(
    tx: &mut Transaction,
    name: &str,
    key: &NewKey,
    overlap: Duration,
    now: Timestamp,
) -> Result<Option<Consumer>, LedgerError> {
    lock(tx, LOCK).await?;
    let Some(consumer) = by_name(tx, name).await? else { return Ok(None) };
    // The same rotation again: its answer was lost.
    let known = query("SELECT EXISTS (SELECT 1 FROM consumer_keys WHERE key_id = $1 AND consumer_id = $2)");
    if tx.scalar(known.bind(&key.key_id).bind(consumer.id)).await? {
        return Ok(Some(consumer));
    }
    let version = next_version(tx).await?;
    let retiring = query("DELETE FROM consumer_keys WHERE consumer_id = $1 AND (expires_ms IS NOT NULL OR $2)");
    tx.execute(retiring.bind(consumer.id).bind(overlap.is_zero())).await?;
    let replaced = query("UPDATE consumer_keys SET expires_ms = $2 WHERE consumer_id = $1");
    tx.execute(replaced.bind(consumer.id).bind(millis(after(now, overlap)))).await?;
    store_key(tx, consumer.id, key, now).await?;
    let changed = query("UPDATE consumers SET version = $2 WHERE id = $1");
    tx.execute(changed.bind(consumer.id).bind(to_i64(version))).await?;
    Ok(Some(Consumer { version, ..consumer }))
}

async fn store_key(tx: &mut Transaction, consumer_id: i64, key: &NewKey, now: Timestamp) -> Result<(), LedgerError> {
    let statement = query("INSERT INTO consumer_keys (key_id, consumer_id, hash, created_ms) VALUES ($1, $2, $3, $4)")
        .bind(&key.key_id)
        .bind(consumer_id)
        .bind(&key.hash)
        .bind(millis(now));
    tx.execute(statement).await.map(drop)
}

async fn next_version(tx: &mut Transaction) -> Result<u64, LedgerError> {
    let statement = query(
        "INSERT INTO consumer_version AS v (id, version) VALUES (1, 1)
         ON CONFLICT (id) DO UPDATE SET version = v.version + 1",
    );
    tx.execute(statement).await?;
    let version: i64 = tx.scalar(query("SELECT version FROM consumer_version")).await?;
    u64::try_from(version).map_err(|_| LedgerError::Corrupt { column: "consumer_version.version" })
}

async fn by_name(tx: &mut Transaction, name: &str) -> Result<Option<Consumer>, LedgerError> {
    let sql = format!("SELECT {CONSUMER} FROM consumers c WHERE c.name = $1 AND c.removed_ms IS NULL");
    tx.fetch_optional(query(AssertSqlSafe(sql)).bind(name)).await?.map(|row| decode(&row)).transpose()
}

/// Whether another consumer than `own` has the name, or had it before it was renamed: the queue of that name may hold its
/// messages.
async fn is_taken(tx: &mut Transaction, name: &str, own: Option<i64>) -> Result<bool, LedgerError> {
    let statement = query(
        "SELECT EXISTS (SELECT 1 FROM consumers
             WHERE removed_ms IS NULL AND (name = $1 OR previous_name = $1) AND ($2::bigint IS NULL OR id <> $2))",
    );
    tx.scalar(statement.bind(name).bind(own)).await
}

async fn key(tx: &mut Transaction, key_id: &str) -> Result<Option<ConsumerKey>, LedgerError> {
    let sql = format!(
        "SELECT {CONSUMER}, k.key_id, k.hash, k.expires_ms FROM consumer_keys k
         JOIN consumers c ON c.id = k.consumer_id AND c.removed_ms IS NULL WHERE k.key_id = $1"
    );
    let Some(row) = tx.fetch_optional(query(AssertSqlSafe(sql)).bind(key_id)).await? else { return Ok(None) };
    Ok(Some(ConsumerKey {
        key_id: get(&row, "key_id")?,
        hash: get(&row, "hash")?,
        consumer: decode(&row)?,
        expires: timestamp_opt(&row, "expires_ms")?,
    }))
}

fn decode(row: &PgRow) -> Result<Consumer, LedgerError> {
    let (namespaces, event_types): (Option<String>, String) = (get(row, "namespaces")?, get(row, "event_types")?);
    Ok(Consumer {
        id: get(row, "id")?,
        name: get(row, "name")?,
        previous_name: get(row, "previous_name")?,
        namespaces: namespaces.as_deref().map(scope::decode),
        event_types: scope::decode(&event_types),
        created: timestamp(row, "created_ms")?,
        created_by: get(row, "created_by")?,
        version: count(row, "version")?,
    })
}
