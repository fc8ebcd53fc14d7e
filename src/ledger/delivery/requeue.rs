//! What is published again because a person asks for it.

use jiff::Timestamp;
use uuid::Uuid;

/// Deliveries that one call touches at most; the oldest first.
pub(crate) const MAX_REQUEUED: u32 = 100_000;

/// Which deliveries are meant.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RequeueKind {
    /// Those that are not published: they are tried at once.
    Resend,
    /// Those that are published and not delivered: they are published again.
    Redeliver,
}

/// What to publish again. Unset fields match all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requeue {
    /// Which deliveries are meant.
    pub kind: RequeueKind,
    /// Only those of this consumer.
    pub consumer_id: Option<i64>,
    /// Only events of these namespaces.
    pub namespaces: Option<Vec<String>>,
    /// Only events that were stored at or after this time.
    pub from: Option<Timestamp>,
    /// Only deliveries that were tried at most this often: published (resend), delivered (redeliver).
    pub max_tries: Option<u32>,
    /// Only events of these types; empty: all.
    pub event_types: Vec<String>,
    /// Only these events; empty: all.
    pub event_ids: Vec<Uuid>,
    /// Only count.
    pub dry_run: bool,
}

/// How many deliveries are meant, of one consumer and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequeueCount {
    /// Which consumer.
    pub consumer_id: i64,
    /// The events' type.
    pub event_type: String,
    /// How many.
    pub count: u64,
}
