//! Consumers of events.

use std::time::Duration;

use jiff::Timestamp;

use super::key::NewKey;
use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;
use crate::ledger::outbox::OutboxEvent;

/// A consumer of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// What its deliveries refer to; stays when it is renamed.
    pub id: i64,
    /// Its name, which its queue is named after.
    pub name: String,
    /// The name that it had before it was renamed: its former queue may still hold messages.
    pub previous_name: Option<String>,
    /// The namespaces whose events it gets; `None`: all.
    pub namespaces: Option<Vec<String>>,
    /// The types of events that it gets; empty: all.
    pub event_types: Vec<String>,
    /// When it was created.
    pub created: Timestamp,
    /// Who created it.
    pub created_by: String,
    /// [`consumers_version`](Consumers::consumers_version) of its last change.
    pub version: u64,
}

/// A consumer to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConsumer {
    /// Its name: unique among those that are not removed.
    pub name: String,
    /// The namespaces whose events it gets; `None`: all.
    pub namespaces: Option<Vec<String>>,
    /// The types of events that it gets; empty: all.
    pub event_types: Vec<String>,
    /// Who creates it.
    pub created_by: String,
    /// Its key.
    pub key: NewKey,
    /// Since when it gets the events that are stored already; `None`: it gets none of them.
    pub history_from: Option<Timestamp>,
    /// Events that tell the other consumers of it, stored in the same transaction.
    pub events: Vec<OutboxEvent>,
}

/// A key as stored, with its consumer.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsumerKey {
    /// The public part of the key.
    pub key_id: String,
    /// Its argon2 hash, as a PHC string.
    pub hash: String,
    /// Whose it is.
    pub consumer: Consumer,
    /// When it ends, if another one has replaced it.
    pub expires: Option<Timestamp>,
}

// The hash is not shown: who has it can try keys without being counted.
impl std::fmt::Debug for ConsumerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerKey")
            .field("key_id", &self.key_id)
            .field("consumer", &self.consumer)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What became of a creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    /// It is stored.
    Created(Consumer),
    /// A consumer has the name, or had it before it was renamed; nothing is stored.
    Exists,
}

/// What became of a new name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenameOutcome {
    /// The consumer has it.
    Renamed(Consumer),
    /// No consumer has the old name.
    NotFound,
    /// Another consumer has the new name, or had it before it was renamed.
    Exists,
}

/// A consumer that was removed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RemovedConsumer {
    /// What its deliveries referred to.
    pub id: i64,
    /// How many deliveries will not be published any more.
    pub cancelled: u64,
}

/// A name that no consumer has any more, whose queues may still hold what was published for the one that had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredName {
    /// What it is forgotten by.
    pub id: i64,
    /// The name.
    pub name: String,
}

/// Access to consumers and their keys.
pub trait Consumers {
    /// Creates a consumer. It gets every event whose transaction begins after this one, and the history that it asks for.
    fn create_consumer<'a>(&'a self, consumer: &'a NewConsumer, now: Timestamp) -> LedgerFuture<'a, CreateOutcome>;

    /// All consumers, by name.
    fn list_consumers(&self) -> LedgerFuture<'_, Vec<Consumer>>;

    /// The consumer with this name.
    fn consumer<'a>(&'a self, name: &'a str) -> LedgerFuture<'a, Option<Consumer>>;

    /// Renames a consumer; its keys and deliveries stay. Its former name stays its own, because the queue of that name may
    /// hold its messages; one that it had before that is retired.
    fn rename_consumer<'a>(
        &'a self,
        name: &'a str,
        new_name: &'a str,
        now: Timestamp,
    ) -> LedgerFuture<'a, RenameOutcome>;

    /// Removes a consumer with its keys. Nothing is published to it any more, and its deliveries are deleted by
    /// [`prune_deliveries`](super::store::Deliveries::prune_deliveries); its name is free.
    fn remove_consumer<'a>(&'a self, name: &'a str, now: Timestamp) -> LedgerFuture<'a, Option<RemovedConsumer>>;

    /// The names of removed consumers, and those before the former one of renamed ones, whose queues are not known to be gone.
    fn retired_names(&self) -> LedgerFuture<'_, Vec<RetiredName>>;

    /// Records that the queues of retired names are gone.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process relays; nothing is recorded.
    fn forget_names<'a>(&'a self, lease: &'a Lease, ids: &'a [i64], now: Timestamp) -> LedgerFuture<'a, ()>;

    /// Replaces the key of a consumer. The old one works for another `overlap`, a still older one not any more. The same key
    /// again changes nothing.
    fn rotate_key<'a>(
        &'a self,
        name: &'a str,
        key: &'a NewKey,
        overlap: Duration,
        now: Timestamp,
    ) -> LedgerFuture<'a, Option<Consumer>>;

    /// The key with this public part, if its consumer is not removed. Whether it has ended is for the caller to say.
    fn consumer_key<'a>(&'a self, key_id: &'a str) -> LedgerFuture<'a, Option<ConsumerKey>>;

    /// A number that grows with every change of a consumer or of a key.
    fn consumers_version(&self) -> LedgerFuture<'_, u64>;

    /// Makes the deliveries of at most `limit` stored events for consumers that asked for their history; returns how many
    /// events it looked at, 0 if there is nothing to do.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process relays; nothing is made.
    fn fill_history<'a>(&'a self, lease: &'a Lease, limit: u32) -> LedgerFuture<'a, u64>;
}
