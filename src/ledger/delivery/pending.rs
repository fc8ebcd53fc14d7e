//! What the relay publishes next, and what it has published.

use std::time::Duration;

use jiff::Timestamp;

use super::status::PublishFailure;
use crate::domain::clock_skew::after;
use crate::ledger::outbox::StoredEvent;

/// The longest delay of a try. One that is further ahead was stored while the clock was ahead, and is due.
pub const MAX_TRY_DELAY: Duration = Duration::from_hours(1);

/// What to read of a consumer's pending deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingQuery {
    /// Whose.
    pub consumer_id: i64,
    /// The aggregate to go on after; `None`: from the first.
    pub after: Option<String>,
    /// When.
    pub now: Timestamp,
    /// Aggregates to look at, at most.
    pub limit: u32,
    /// Deliveries of each, at most: the oldest.
    pub per_aggregate: u32,
}

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDelivery {
    /// The event.
    pub event: StoredEvent,
    /// How often it was tried in vain.
    pub tries: u32,
}

/// A page of pending deliveries: by aggregate, and in their order within each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingPage {
    /// The deliveries. An aggregate whose oldest one waits for its next try is left out: the others must not overtake it.
    pub deliveries: Vec<PendingDelivery>,
    /// The aggregate to go on after; `None`: there is none behind, start again at the first.
    pub next: Option<String>,
}

/// A pending delivery as it is read.
#[derive(Debug)]
pub(crate) struct PendingRow {
    pub(crate) delivery: PendingDelivery,
    pub(crate) next_try_ms: i64,
}

impl PendingPage {
    /// The page of `rows`, which are those of at most `query.limit` aggregates: by aggregate, and in their order.
    pub(crate) fn of(rows: Vec<PendingRow>, query: &PendingQuery) -> Self {
        let now = query.now.as_millisecond();
        let latest = after(query.now, MAX_TRY_DELAY).as_millisecond();
        let mut page = Self::default();
        let mut current: Option<String> = None;
        let (mut aggregates, mut is_due) = (0_u32, true);
        for row in rows {
            if current.as_ref() != Some(&row.delivery.event.aggregate) {
                current = Some(row.delivery.event.aggregate.clone());
                aggregates += 1;
                is_due = true;
            }
            // One that waits holds back those behind it.
            is_due &= row.next_try_ms <= now || row.next_try_ms > latest;
            if is_due {
                page.deliveries.push(row.delivery);
            }
        }
        page.next = current.filter(|_| aggregates >= query.limit);
        page
    }
}

/// What became of one try.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker has confirmed it.
    Published,
    /// It has not.
    Failed {
        /// Why.
        reason: PublishFailure,
        /// When to try again.
        next_try: Timestamp,
    },
}

/// The result of one try.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PublishResult {
    /// Whose delivery.
    pub consumer_id: i64,
    /// The number of the event's position.
    pub seq: i64,
    /// What became of it.
    pub outcome: PublishOutcome,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ledger::outbox::EventPosition;

    fn row(aggregate: &str, seq: i64, next_try_ms: i64) -> PendingRow {
        let event = StoredEvent {
            position: EventPosition { transaction: 0, seq },
            id: Uuid::nil(),
            event_type: "fetch.started".to_owned(),
            namespace: "team".to_owned(),
            aggregate: aggregate.to_owned(),
            payload: "{}".to_owned(),
            correlation_id: Uuid::nil(),
            created: Timestamp::UNIX_EPOCH,
        };
        PendingRow { delivery: PendingDelivery { event, tries: 0 }, next_try_ms }
    }

    #[test]
    fn a_delivery_that_waits_holds_back_those_behind_it() {
        let query = PendingQuery {
            consumer_id: 1,
            after: None,
            now: Timestamp::from_millisecond(100).unwrap(),
            limit: 3,
            per_aggregate: 9,
        };
        let rows =
            vec![row("a", 1, 0), row("a", 4, 200), row("a", 5, 0), row("b", 2, 101), row("b", 3, 0), row("c", 6, 100)];
        let page = PendingPage::of(rows, &query);
        let seqs: Vec<i64> = page.deliveries.iter().map(|delivery| delivery.event.position.seq).collect();
        assert_eq!(seqs, [1, 6]);
        assert_eq!(page.next.as_deref(), Some("c"));
        let rest = PendingPage::of(vec![row("a", 1, 0)], &query);
        assert_eq!((rest.deliveries.len(), rest.next), (1, None));
    }
}
