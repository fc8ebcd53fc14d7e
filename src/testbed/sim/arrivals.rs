//! What a bank saw: a ring of arrivals and a few counters.
//!
//! The ring is written on every request, also under load, so a slot that is overwritten keeps its buffers and a full
//! ring allocates nothing. Values of query parameters may be keys or tokens: only those of paging and windows are kept.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use serde::{Deserialize, Serialize};

use crate::domain::time::Mono;

/// Query parameters whose values are shown; of all others only the name is.
const SHOWN: [&str; 9] =
    ["page", "limit", "start", "end", "paginate", "startingIndex", "pageSize", "offset", "pageToken"];

/// Longer paths are cut, so that one slot stays small.
const PATH_CAP: usize = 512;

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrival {
    /// Number of the request at this bank, from 0.
    pub seq: u64,
    /// Nanoseconds from the simulator's start to the arrival.
    pub at_ns: u64,
    /// The method.
    pub method: String,
    /// The path as sent.
    pub path: String,
    /// Names of the query parameters, and the values of those that page or narrow a list: `page=2`, `apikey`.
    pub query: Vec<String>,
    /// The status that the bank decided to answer; none for a stall before the head, a reset or a closed line.
    pub status: Option<u16>,
    /// What the script made of it.
    pub behaviour: String,
    /// What the bank thought of the credentials.
    pub auth: String,
    /// Number of the connection at this bank: equal numbers are one kept-alive connection.
    pub connection: u64,
    /// Whether it came over TLS.
    pub tls: bool,
}

impl Arrival {
    /// The value of a shown query parameter.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find_map(|q| q.strip_prefix(name)?.strip_prefix('='))
    }
}

/// One request, borrowed from where it is handled.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) at: Mono,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) status: Option<u16>,
    pub(crate) behaviour: &'static str,
    pub(crate) auth: &'static str,
    pub(crate) connection: u64,
    pub(crate) tls: bool,
}

#[derive(Debug)]
struct Slot {
    at: Mono,
    method: Method,
    path: String,
    query: String,
    status: Option<u16>,
    behaviour: &'static str,
    auth: &'static str,
    connection: u64,
    tls: bool,
}

/// The arrivals of one bank, oldest dropped first.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: Vec<Slot>,
    capacity: usize,
    next: u64,
    first: u64,
}

/// A stretch of the arrival log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrivals {
    /// The requests, oldest first.
    pub entries: Vec<Arrival>,
    /// How many of those asked for had already been overwritten.
    pub dropped: u64,
    /// Ask from this number on for what comes later.
    pub next: u64,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { slots: Vec::new(), capacity: capacity.max(1), next: 0, first: 0 }
    }

    pub(crate) fn push(&mut self, seen: Seen<'_>) {
        let path = clip(seen.path);
        let place = self.place(self.next);
        self.next += 1;
        if let Some(slot) = self.slots.get_mut(place) {
            slot.path.clear();
            slot.path.push_str(path);
            slot.query.clear();
            show(seen.query, &mut slot.query);
            slot.at = seen.at;
            slot.method.clone_from(seen.method);
            slot.status = seen.status;
            slot.behaviour = seen.behaviour;
            slot.auth = seen.auth;
            slot.connection = seen.connection;
            slot.tls = seen.tls;
        } else {
            let mut query = String::new();
            show(seen.query, &mut query);
            self.slots.push(Slot {
                at: seen.at,
                method: seen.method.clone(),
                path: path.to_owned(),
                query,
                status: seen.status,
                behaviour: seen.behaviour,
                auth: seen.auth,
                connection: seen.connection,
                tls: seen.tls,
            });
        }
    }

    /// The arrivals numbered `since` and later that are still here.
    pub(crate) fn since(&self, since: u64) -> Arrivals {
        let asked = since.max(self.first).min(self.next);
        let oldest = self.next.saturating_sub(self.capacity as u64).max(asked);
        let entries = (oldest..self.next).filter_map(|seq| self.slots.get(self.place(seq)).map(|s| s.arrival(seq)));
        Arrivals { entries: entries.collect(), dropped: oldest - asked, next: self.next }
    }

    /// Forgets what came so far; numbers go on.
    pub(crate) fn clear(&mut self) {
        self.first = self.next;
    }

    fn place(&self, seq: u64) -> usize {
        usize::try_from(seq % self.capacity as u64).unwrap_or(0)
    }
}

impl Slot {
    fn arrival(&self, seq: u64) -> Arrival {
        Arrival {
            seq,
            at_ns: self.at.nanos(),
            method: self.method.to_string(),
            path: self.path.clone(),
            query: self.query.split('&').filter(|q| !q.is_empty()).map(str::to_owned).collect(),
            status: self.status,
            behaviour: self.behaviour.to_owned(),
            auth: self.auth.to_owned(),
            connection: self.connection,
            tls: self.tls,
        }
    }
}

fn clip(path: &str) -> &str {
    let end = (0..=PATH_CAP.min(path.len())).rev().find(|i| path.is_char_boundary(*i)).unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

fn show(query: Option<&str>, out: &mut String) {
    for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()).take(32) {
        let name = pair.split('=').next().unwrap_or_default();
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(clip(if SHOWN.contains(&name) { pair } else { name }));
    }
}

/// Running numbers of one bank.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    /// Answers by hundreds: `[1]` is 1xx; `[0]` counts requests that got no answer.
    pub(crate) by_class: [AtomicU64; 6],
    pub(crate) connections: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) tls_failed: AtomicU64,
    pub(crate) tokens_issued: AtomicU64,
    pub(crate) tokens_refused: AtomicU64,
}

/// A reading of a bank's counters.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests read from the wire.
    pub requests: u64,
    /// Answers 2xx.
    pub answered_2xx: u64,
    /// Answers 3xx.
    pub answered_3xx: u64,
    /// Answers 4xx.
    pub answered_4xx: u64,
    /// Answers 5xx.
    pub answered_5xx: u64,
    /// Requests that got no answer: stalls, resets, a line that went down.
    pub unanswered: u64,
    /// Connections served, ever.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Connections closed or left hanging because the bank was down.
    pub turned_away: u64,
    /// TLS handshakes that failed.
    pub tls_failed: u64,
    /// Access tokens issued.
    pub tokens_issued: u64,
    /// Token requests refused.
    pub tokens_refused: u64,
}

impl Counters {
    pub(crate) fn answered(&self, status: Option<u16>) {
        bump(&self.requests);
        if let Some(class) = self.by_class.get(usize::from(status.unwrap_or(0) / 100)) {
            bump(class);
        }
    }

    pub(crate) fn read(&self) -> Counts {
        let [none, _, two, three, four, five] = self.by_class.each_ref().map(get);
        Counts {
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

    /// Back to zero, but for the connections that are open.
    pub(crate) fn clear(&self) {
        let plain = [&self.requests, &self.connections, &self.turned_away, &self.tls_failed, &self.tokens_issued];
        for counter in plain.into_iter().chain([&self.tokens_refused]).chain(&self.by_class) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str) -> Seen<'_> {
        Seen {
            at: Mono::from_nanos(5),
            method: &Method::GET,
            path,
            query: Some("page=2&apikey=canary-not-a-key"),
            status: Some(200),
            behaviour: "healthy",
            auth: "ok",
            connection: 1,
            tls: false,
        }
    }

    #[test]
    fn the_ring_keeps_the_newest_and_tells_how_many_it_dropped() {
        let mut ring = Ring::new(3);
        for path in ["/0", "/1", "/2", "/3", "/4"] {
            ring.push(seen(path));
        }
        let all = ring.since(0);
        assert_eq!(all.entries.iter().map(|a| a.path.as_str()).collect::<Vec<_>>(), ["/2", "/3", "/4"]);
        assert_eq!((all.dropped, all.next), (2, 5));
        assert_eq!(ring.since(4).entries.len(), 1);
        ring.clear();
        assert_eq!(ring.since(0), Arrivals { entries: vec![], dropped: 0, next: 5 });
        ring.push(seen("/5"));
        assert_eq!(ring.since(0).entries[0].seq, 5);
    }

    #[test]
    fn values_of_unknown_parameters_are_not_kept() {
        let mut ring = Ring::new(1);
        ring.push(seen("/x"));
        let arrival = &ring.since(0).entries[0];
        assert_eq!(arrival.query, ["page=2", "apikey"]);
        assert_eq!((arrival.query_value("page"), arrival.query_value("apikey")), (Some("2"), None));
    }
}
