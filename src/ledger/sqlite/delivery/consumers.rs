//! Consumers and their keys.

use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::{Row, params};

use super::history;
use crate::domain::clock_skew::after;
use crate::ledger::delivery::{
    Consumer, ConsumerKey, Consumers, CreateOutcome, NewConsumer, NewKey, RemovedConsumer, RenameOutcome, RetiredName,
    scope,
};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::codec::{OperationName, count, get, instant, instant_opt, millis, to_i64};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::database::SqliteLedger;
use crate::ledger::sqlite::lease::assert_held;
use crate::ledger::sqlite::outbox;

const CREATE: OperationName = OperationName("creating a consumer");
const CHANGE: OperationName = OperationName("changing a consumer");
const READ: OperationName = OperationName("reading consumers");
const FILL: OperationName = OperationName("making the deliveries of stored events");
const FORGET: OperationName = OperationName("forgetting names of consumers");

/// The columns of a consumer.
const CONSUMER: &str = "id, name, previous_name, namespaces, event_types, created_ms, created_by, version";

impl Consumers for SqliteLedger {
    fn create_consumer<'a>(&'a self, consumer: &'a NewConsumer, now: Timestamp) -> LedgerFuture<'a, CreateOutcome> {
        let consumer = consumer.clone();
        self.write(CREATE, move |tx| create(tx, &consumer, now)).boxed()
    }

    fn list_consumers(&self) -> LedgerFuture<'_, Vec<Consumer>> {
        self.read(READ, |tx| {
            let sql = format!("SELECT {CONSUMER} FROM consumers WHERE removed_ms IS NULL ORDER BY name");
            tx.query_all(&sql, [], decode)
        })
        .boxed()
    }

    fn consumer<'a>(&'a self, name: &'a str) -> LedgerFuture<'a, Option<Consumer>> {
        let name = name.to_owned();
        self.read(READ, move |tx| by_name(tx, &name)).boxed()
    }

    fn rename_consumer<'a>(
        &'a self,
        name: &'a str,
        new_name: &'a str,
        now: Timestamp,
    ) -> LedgerFuture<'a, RenameOutcome> {
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        self.write(CHANGE, move |tx| rename(tx, &name, &new_name, now)).boxed()
    }

    fn remove_consumer<'a>(&'a self, name: &'a str, now: Timestamp) -> LedgerFuture<'a, Option<RemovedConsumer>> {
        let name = name.to_owned();
        self.write(CHANGE, move |tx| remove(tx, &name, now)).boxed()
    }

    fn retired_names(&self) -> LedgerFuture<'_, Vec<RetiredName>> {
        self.read(READ, |tx| {
            let sql =
                "SELECT id, name FROM consumers WHERE removed_ms IS NOT NULL AND queues_gone_ms IS NULL ORDER BY id";
            tx.query_all(sql, [], |row| Ok(RetiredName { id: get(row, "id")?, name: get(row, "name")? }))
        })
        .boxed()
    }

    fn forget_names<'a>(&'a self, lease: &'a Lease, ids: &'a [i64], now: Timestamp) -> LedgerFuture<'a, ()> {
        let (lease, ids) = (lease.clone(), ids.to_vec());
        self.write(FORGET, move |tx| {
            assert_held(tx, &lease)?;
            for id in &ids {
                let sql = "UPDATE consumers SET queues_gone_ms = ?2 WHERE id = ?1 AND removed_ms IS NOT NULL";
                tx.execute(sql, params![id, millis(now)])?;
            }
            Ok(())
        })
        .boxed()
    }

    fn rotate_key<'a>(
        &'a self,
        name: &'a str,
        key: &'a NewKey,
        overlap: Duration,
        now: Timestamp,
    ) -> LedgerFuture<'a, Option<Consumer>> {
        let (name, key) = (name.to_owned(), key.clone());
        self.write(CHANGE, move |tx| rotate(tx, &name, &key, overlap, now)).boxed()
    }

    fn consumer_key<'a>(&'a self, key_id: &'a str) -> LedgerFuture<'a, Option<ConsumerKey>> {
        let key_id = key_id.to_owned();
        // After what was written: a key that was just replaced must not be found.
        self.read_in_order(READ, move |tx| key(tx, &key_id)).boxed()
    }

    fn consumers_version(&self) -> LedgerFuture<'_, u64> {
        self.read(READ, |tx| {
            let version = tx.query_opt("SELECT version FROM consumer_version", [], |row| count(row, "version"))?;
            Ok(version.unwrap_or_default())
        })
        .boxed()
    }

    fn fill_history<'a>(&'a self, lease: &'a Lease, limit: u32) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(FILL, move |tx| {
            assert_held(tx, &lease)?;
            history::fill(tx, limit)
        })
        .boxed()
    }
}

fn create(tx: &Transaction<'_>, consumer: &NewConsumer, now: Timestamp) -> Result<CreateOutcome, LedgerError> {
    if is_taken(tx, &consumer.name, None)? {
        return Ok(CreateOutcome::Exists);
    }
    let (after, through) = history::range(tx, consumer.history_from)?;
    // Before the consumer is there: it is not told of itself.
    outbox::append(tx, &consumer.events, now)?;
    let version = next_version(tx)?;
    tx.execute(
        "INSERT INTO consumers (name, namespaces, event_types, created_ms, created_by, version, history_from_ms,
             history_after, history_through) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            consumer.name,
            consumer.namespaces.as_deref().map(scope::encode),
            scope::encode(&consumer.event_types),
            millis(now),
            consumer.created_by,
            to_i64(version),
            consumer.history_from.map(millis),
            after,
            through,
        ],
    )?;
    let Some(created) = by_name(tx, &consumer.name)? else {
        return Err(LedgerError::Corrupt { column: "consumers.name" });
    };
    store_key(tx, created.id, &consumer.key, now)?;
    Ok(CreateOutcome::Created(created))
}

fn rename(tx: &Transaction<'_>, name: &str, new_name: &str, now: Timestamp) -> Result<RenameOutcome, LedgerError> {
    let Some(consumer) = by_name(tx, name)? else { return Ok(RenameOutcome::NotFound) };
    if name == new_name {
        return Ok(RenameOutcome::Renamed(consumer));
    }
    if is_taken(tx, new_name, Some(consumer.id))? {
        return Ok(RenameOutcome::Exists);
    }
    let version = next_version(tx)?;
    // The queue of the name before the former one is known by nothing else.
    if let Some(forgotten) = consumer.previous_name.as_deref().filter(|previous| *previous != new_name) {
        tx.execute(
            "INSERT INTO consumers (name, event_types, created_ms, created_by, version, removed_ms)
             VALUES (?1, '', ?2, ?3, ?4, ?2)",
            params![forgotten, millis(now), consumer.created_by, to_i64(version)],
        )?;
    }
    tx.execute(
        "UPDATE consumers SET name = ?2, previous_name = name, version = ?3 WHERE id = ?1",
        params![consumer.id, new_name, to_i64(version)],
    )?;
    let renamed = Consumer { name: new_name.to_owned(), previous_name: Some(consumer.name), version, ..consumer };
    Ok(RenameOutcome::Renamed(renamed))
}

fn remove(tx: &Transaction<'_>, name: &str, now: Timestamp) -> Result<Option<RemovedConsumer>, LedgerError> {
    let Some(consumer) = by_name(tx, name)? else { return Ok(None) };
    let version = next_version(tx)?;
    tx.execute("DELETE FROM consumer_keys WHERE consumer_id = ?1", [consumer.id])?;
    tx.execute(
        "UPDATE consumers SET removed_ms = ?2, version = ?3, history_through = NULL WHERE id = ?1",
        params![consumer.id, millis(now), to_i64(version)],
    )?;
    let sql = "SELECT count(*) AS cancelled FROM outbox_delivery INDEXED BY outbox_delivery_pending
        WHERE consumer_id = ?1 AND publish_status = 'pending'";
    let cancelled = tx.query_opt(sql, [consumer.id], |row| count(row, "cancelled"))?.unwrap_or_default();
    Ok(Some(RemovedConsumer { id: consumer.id, cancelled }))
}

fn rotate(
    tx: &Transaction<'_>,
    name: &str,
    key: &NewKey,
    overlap: Duration,
    now: Timestamp,
) -> Result<Option<Consumer>, LedgerError> {
    let Some(consumer) = by_name(tx, name)? else { return Ok(None) };
    // The same rotation again: its answer was lost.
    let known = "SELECT EXISTS (SELECT 1 FROM consumer_keys WHERE key_id = ?1 AND consumer_id = ?2)";
    if tx.scalar(known, params![key.key_id, consumer.id])? {
        return Ok(Some(consumer));
    }
    let version = next_version(tx)?;
    let retiring = "DELETE FROM consumer_keys WHERE consumer_id = ?1 AND (expires_ms IS NOT NULL OR ?2)";
    tx.execute(retiring, params![consumer.id, overlap.is_zero()])?;
    let replaced = "UPDATE consumer_keys SET expires_ms = ?2 WHERE consumer_id = ?1";
    tx.execute(replaced, params![consumer.id, millis(after(now, overlap))])?;
    store_key(tx, consumer.id, key, now)?;
    tx.execute("UPDATE consumers SET version = ?2 WHERE id = ?1", params![consumer.id, to_i64(version)])?;
    Ok(Some(Consumer { version, ..consumer }))
}

fn store_key(tx: &Transaction<'_>, consumer_id: i64, key: &NewKey, now: Timestamp) -> Result<(), LedgerError> {
    let sql = "INSERT INTO consumer_keys (key_id, consumer_id, hash, created_ms) VALUES (?1, ?2, ?3, ?4)";
    tx.execute(sql, params![key.key_id, consumer_id, key.hash, millis(now)]).map(drop)
}

fn next_version(tx: &Transaction<'_>) -> Result<u64, LedgerError> {
    tx.execute(
        "INSERT INTO consumer_version (id, version) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET version = version + 1",
        [],
    )?;
    let version = tx.query_opt("SELECT version FROM consumer_version", [], |row| count(row, "version"))?;
    version.ok_or(LedgerError::Corrupt { column: "consumer_version.version" })
}

fn by_name(tx: &Transaction<'_>, name: &str) -> Result<Option<Consumer>, LedgerError> {
    let sql = format!("SELECT {CONSUMER} FROM consumers WHERE name = ?1 AND removed_ms IS NULL");
    tx.query_opt(&sql, [name], decode)
}

/// Whether another consumer than `own` has the name, or had it before it was renamed: the queue of that name may hold its
/// messages.
fn is_taken(tx: &Transaction<'_>, name: &str, own: Option<i64>) -> Result<bool, LedgerError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM consumers
        WHERE removed_ms IS NULL AND (name = ?1 OR previous_name = ?1) AND (?2 IS NULL OR id <> ?2))";
    tx.scalar(sql, params![name, own])
}

fn key(tx: &Transaction<'_>, key_id: &str) -> Result<Option<ConsumerKey>, LedgerError> {
    let sql = format!(
        "SELECT {CONSUMER}, key_id, hash, expires_ms FROM consumers
         JOIN (SELECT key_id, consumer_id, hash, expires_ms FROM consumer_keys WHERE key_id = ?1) ON consumer_id = id
         WHERE removed_ms IS NULL"
    );
    tx.query_opt(&sql, [key_id], |row| {
        Ok(ConsumerKey {
            key_id: get(row, "key_id")?,
            hash: get(row, "hash")?,
            consumer: decode(row)?,
            expires: instant_opt(get(row, "expires_ms")?, "consumer_keys.expires_ms")?,
        })
    })
}

fn decode(row: &Row<'_>) -> Result<Consumer, LedgerError> {
    let (namespaces, event_types): (Option<String>, String) = (get(row, "namespaces")?, get(row, "event_types")?);
    Ok(Consumer {
        id: get(row, "id")?,
        name: get(row, "name")?,
        previous_name: get(row, "previous_name")?,
        namespaces: namespaces.as_deref().map(scope::decode),
        event_types: scope::decode(&event_types),
        created: instant(get(row, "created_ms")?, "consumers.created_ms")?,
        created_by: get(row, "created_by")?,
        version: count(row, "version")?,
    })
}
