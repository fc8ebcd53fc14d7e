//! The counters of one bank.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The running counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    /// Responses by status class: `[1]` is 1xx; `[0]` counts requests without a response.
    pub(crate) by_class: [AtomicU64; 6],
    pub(crate) connections: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) tls_failed: AtomicU64,
    pub(crate) tokens_issued: AtomicU64,
    pub(crate) tokens_refused: AtomicU64,
}

/// A snapshot of a bank's counters.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CounterSnapshot {
    /// Requests received.
    pub requests: u64,
    /// Responses 2xx.
    pub answered_2xx: u64,
    /// Responses 3xx.
    pub answered_3xx: u64,
    /// Responses 4xx.
    pub answered_4xx: u64,
    /// Responses 5xx.
    pub answered_5xx: u64,
    /// Requests without a response: stalls, resets, closed connections.
    pub unanswered: u64,
    /// Connections accepted in total.
    pub connections: u64,
    /// Open connections.
    pub connections_open: u64,
    /// Connections closed or left hanging while the bank was down.
    pub turned_away: u64,
    /// TLS handshakes that failed.
    pub tls_failed: u64,
    /// Access tokens issued.
    pub tokens_issued: u64,
    /// Token requests rejected.
    pub tokens_refused: u64,
}

impl Counters {
    /// Counts a request and the class of its response.
    pub(crate) fn record(&self, status: Option<u16>) {
        increment(&self.requests);
        if let Some(class) = self.by_class.get(usize::from(status.unwrap_or(0) / 100)) {
            increment(class);
        }
    }

    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        let [none, _, two, three, four, five] = self.by_class.each_ref().map(get);
        CounterSnapshot {
            requests: get(&self.requests),
            answered_2xx: two,
            answered_3xx: three,
            answered_4xx: four,
            answered_5xx: five,
            unanswered: none,
            connections: get(&self.connections),
            connections_open: get(&self.open),
            turned_away: get(&self.turned_away),
            tls_failed: get(&self.tls_failed),
            tokens_issued: get(&self.tokens_issued),
            tokens_refused: get(&self.tokens_refused),
        }
    }

    /// Resets all counters except that of open connections.
    pub(crate) fn clear(&self) {
        let plain = [&self.requests, &self.connections, &self.turned_away, &self.tls_failed, &self.tokens_issued];
        for counter in plain.into_iter().chain([&self.tokens_refused]).chain(&self.by_class) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

pub(crate) fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
