//! Events: what Busbar tells others about syncs, stored records, banks and routes, written with the data that they are
//! about.
//!
//! An ID is derived from what the event says, never random: whatever is done again after a crash gives the same events,
//! and each is stored once. Payloads hold masked values only.

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::closed_list::closed_list;
use crate::domain::row_batch::RowView;

/// The namespace of event IDs (UUID version 5).
const EVENT_IDS: Uuid = Uuid::from_u128(0x8e2f_36d1_90a4_5c1b_9d0e_77b2_4f6a_1c35);

closed_list!(
    "event type",
    /// The type of an event. Types are never renamed.
    EventType {
        TransactionsIngested = "bank.transactions.ingested":
            "Records of a page were inserted, changed or withdrawn: one event for each page or record (`spec.events`)."
            => "None.",
        PipelineCompleted = "pipeline.completed":
            "A run ended, with its result and the counts of its records."
            => "See `reason` if the result is not Succeeded.",
        FetchStarted = "fetch.started":
            "A run started."
            => "None.",
        FetchCompleted = "fetch.completed":
            "A run read every window to its end."
            => "None.",
        FetchFailed = "fetch.failed":
            "A run, or the partition that `partition` names, failed; `failures` counts consecutive failures."
            => "See `reason`; the run is retried with backoff.",
        FetchFailureStreak = "fetch.failure_streak":
            "The number of consecutive failures reached `spec.sla.failureStreak` (5 by default), or is above it."
            => "See the condition Fresh and the runs of the job.",
        FetchLatencySlaExceeded = "fetch.latency_sla_exceeded":
            "Fetching a partition took longer than `spec.sla.fetchDuration` (2 s by default)."
            => "Check the health of the connection.",
        FetchZeroTransactions = "fetch.zero_transactions":
            "A run succeeded and read no record; `empty_runs` counts consecutive ones."
            => "None, if the source is known to be quiet.",
        BankFailover = "bank.failover":
            "A route failed over: `from` takes no payouts any more for `reason`; `to` takes them, null if no bank can."
            => "See the connection of `from`; payouts that were sent through it are followed as before.",
        BankCircuit = "bank.circuit":
            "The circuit of a connection changed from `from` to `to`; payouts need Closed, `ForcedClosed` or Shadow."
            => "See `reason` and the health of the connection.",
        PayoutHeld = "payout.held":
            "A payout waits for a person: `hold` says why, and `remedy` what to do."
            => "Resolve the payout with the bank's evidence, or let two people accept the risk of a duplicate.",
        PayoutRerouted = "payout.rerouted":
            "A payout goes on with the next attempt: its bank, its keys, and until when it may be sent."
            => "Send the payout through the bank of this attempt, and no other one.",
        PayoutConfirmed = "payout.confirmed":
            "A payout was executed."
            => "None.",
        ConsumerCreated = "consumer.created":
            "A consumer of events was created; `consumer` names it."
            => "None.",
        DeadRequestParked = "dlq.failed":
            "A failed provider request was retried for the last time and is parked; `reason` is that of the last failure."
            => "Check the connection, then replay or discard the dead request.",
    }
);

impl EventType {
    /// The name in the Mono pipeline, for consumers that know it; `None` for an event that the pipeline did not have.
    pub const fn legacy_name(self) -> Option<&'static str> {
        Some(match self {
            Self::TransactionsIngested => "mono.transactions.ingested",
            Self::PipelineCompleted => "mono.pipeline.completed",
            Self::FetchStarted => "mono.fetch.started",
            Self::FetchCompleted => "mono.fetch.completed",
            Self::FetchFailed => "mono.fetch.failed",
            Self::FetchFailureStreak => "mono.fetch.failure_streak",
            Self::FetchLatencySlaExceeded => "mono.fetch.latency_sla_exceeded",
            Self::FetchZeroTransactions => "mono.fetch.zero_transactions",
            Self::BankFailover
            | Self::BankCircuit
            | Self::PayoutHeld
            | Self::PayoutRerouted
            | Self::PayoutConfirmed
            | Self::ConsumerCreated
            | Self::DeadRequestParked => return None,
        })
    }

    /// Its [`routing_key`] for a consumer.
    pub fn routing_key(self, domain: &str, consumer: &str) -> String {
        routing_key(self.as_str(), domain, consumer)
    }
}

/// The routing key of an event for a consumer: `{domain}.{event}.{consumer}`. The event's name is without its leading
/// `bank.`, which the domain says, and with `_` for `.`.
pub fn routing_key(event_type: &str, domain: &str, consumer: &str) -> String {
    let name = event_type.strip_prefix("bank.").unwrap_or(event_type);
    format!("{domain}.{}.{consumer}", name.replace('.', "_"))
}

/// An event to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Derived from what the event says: see [`event_id`].
    pub id: Uuid,
    /// Its type.
    pub event_type: EventType,
    /// Namespace of the object that it is about: the permission to read it is granted there.
    pub namespace: String,
    /// What it is about. Events of one aggregate are published in the order in which they were stored.
    pub aggregate: String,
    /// A JSON object with masked values.
    pub payload: String,
    /// The correlation ID: that of the run, or of the request that caused it.
    pub correlation_id: Uuid,
}

/// The ID of an event: the same for the same type, aggregate and parts, whenever it is made.
pub fn event_id(event_type: EventType, aggregate: &str, parts: &[&[u8]]) -> Uuid {
    let mut name = Vec::with_capacity(128);
    for part in [event_type.as_str().as_bytes(), aggregate.as_bytes()].into_iter().chain(parts.iter().copied()) {
        // With lengths: "a" + "bc" must differ from "ab" + "c".
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&EVENT_IDS, &name)
}

/// The aggregate of a sync job.
pub fn job_aggregate(namespace: &str, job: &str) -> String {
    format!("syncjob/{namespace}/{job}")
}

/// The aggregate of a route.
pub fn route_aggregate(namespace: &str, route: &str) -> String {
    format!("bankroute/{namespace}/{route}")
}

/// The aggregate of a consumer.
pub fn consumer_aggregate(consumer: &str) -> String {
    format!("consumer/{consumer}")
}

/// The aggregate of a connection.
pub fn connection_aggregate(namespace: &str, connection: &str) -> String {
    format!("providerconnection/{namespace}/{connection}")
}

/// How many events tell of the records of a page.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum EventGranularity {
    /// None.
    None,
    /// One for each page with changes.
    #[default]
    Page,
    /// One for each record that changed.
    Record,
}

/// How a row changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowChange {
    /// The row is new.
    Inserted,
    /// Its content changed.
    Updated,
    /// The provider withdrew the record.
    Removed,
}

impl RowChange {
    /// The value in payloads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inserted => "inserted",
            Self::Updated => "updated",
            Self::Removed => "removed",
        }
    }
}

/// A row that a page changed.
#[derive(Copy, Clone, Debug)]
pub struct ChangedRow<'a> {
    /// How it changed.
    pub change: RowChange,
    /// 1 at insertion, incremented by each change.
    pub revision: i64,
    /// The row as it is stored now; a withdrawn one as it was stored last.
    pub row: RowView<'a>,
}

/// Makes the events of a page from the rows that it changed. Pure: called in the page's transaction, and again for the
/// same rows if the transaction is rolled back.
pub trait PageEvents: Send + Sync + std::fmt::Debug {
    /// The events, in order; none if no row changed.
    fn events(&self, changed: &[ChangedRow<'_>]) -> Vec<OutboxEvent>;
}

/// An event as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the order of the store.
    pub position: EventPosition,
    /// Its ID.
    pub id: Uuid,
    /// Its type; may be one that only another version knows.
    pub event_type: String,
    /// Namespace of the object that it is about.
    pub namespace: String,
    /// What it is about.
    pub aggregate: String,
    /// A JSON object.
    pub payload: String,
    /// The correlation ID.
    pub correlation_id: Uuid,
    /// When it was stored.
    pub created: Timestamp,
}

/// A place in the order of stored events. Opaque to clients.
///
/// Transactions may end in another order than that of their numbers, so an engine with concurrent writers orders by
/// transaction first and shows events only once every earlier transaction has ended.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPosition {
    /// Number of the transaction; 0 in a store with one writer.
    pub transaction: i64,
    /// Number of the event.
    pub seq: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_depends_on_every_part_and_on_nothing_else() {
        let id = |parts: &[&[u8]]| event_id(EventType::FetchFailed, "syncjob/team/books", parts);
        assert_eq!(id(&[b"a", b"bc"]), id(&[b"a", b"bc"]));
        assert_ne!(id(&[b"a", b"bc"]), id(&[b"ab", b"c"]));
        assert_ne!(id(&[b"a"]), event_id(EventType::FetchStarted, "syncjob/team/books", &[b"a"]));
        assert_ne!(id(&[b"a"]), event_id(EventType::FetchFailed, "syncjob/team/other", &[b"a"]));
        assert_eq!(id(&[]).get_version_num(), 5);
    }

    #[test]
    fn routing_keys_have_three_parts() {
        for event_type in EventType::ALL {
            let key = event_type.routing_key("bank", "ledger_team");
            assert_eq!(key.split('.').count(), 3, "{key}");
            let is_new = ["bank.failover", "bank.circuit", "payout.held", "payout.rerouted", "payout.confirmed"]
                .contains(&event_type.as_str())
                || ["consumer.created", "dlq.failed"].contains(&event_type.as_str());
            assert_eq!(event_type.legacy_name().is_some_and(|name| name.starts_with("mono.")), !is_new);
        }
        let key = |event_type: EventType| event_type.routing_key("bank", "ops");
        assert_eq!(key(EventType::TransactionsIngested), "bank.transactions_ingested.ops");
        assert_eq!(key(EventType::FetchFailed), "bank.fetch_failed.ops");
        assert_eq!(key(EventType::BankFailover), "bank.failover.ops");
        assert_eq!(key(EventType::PayoutHeld), "bank.payout_held.ops");
        assert_eq!(routing_key("of.a.later.version", "money", "a-b"), "money.of_a_later_version.a-b");
        assert_eq!(EventType::DeadRequestParked.routing_key("bank", "ops"), "bank.dlq_failed.ops");
    }
}
