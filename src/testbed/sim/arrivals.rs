//! The log of requests that a bank received: a ring buffer.
//!
//! Every request writes it, also under load, so an overwritten entry reuses its buffers and a full ring does not
//! allocate. Values of query parameters may be keys or tokens: only those of paging and date ranges are stored.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::domain::time::Mono;

/// Query parameters whose values are stored; of all others only the name is.
const STORED_PARAMETERS: [&str; 9] =
    ["page", "limit", "start", "end", "paginate", "startingIndex", "pageSize", "offset", "pageToken"];

/// Maximum length of a stored path, in bytes; bounds the size of an entry.
const MAX_PATH: usize = 512;

/// One received request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrival {
    /// Sequence number of the request at this bank, from 0.
    pub seq: u64,
    /// Time of arrival in nanoseconds since the simulator's start.
    pub at_ns: u64,
    /// The HTTP method.
    pub method: String,
    /// The path as sent.
    pub path: String,
    /// Names of the query parameters, with the values of those for paging and date ranges: `page=2`, `apikey`.
    pub query: Vec<String>,
    /// The response status chosen on arrival; none for a stall or reset before the head, or a closed connection.
    pub status: Option<u16>,
    /// Label of the scripted behaviour.
    pub behaviour: String,
    /// Result of the credential check.
    pub auth: String,
    /// Number of the connection at this bank; requests of one kept-alive connection share it.
    pub connection: u64,
    /// Whether it arrived over TLS.
    pub tls: bool,
}

impl Arrival {
    /// The value of a stored query parameter.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find_map(|q| q.strip_prefix(name)?.strip_prefix('='))
    }
}

/// One request to be recorded.
#[derive(Copy, Clone, Debug)]
pub(crate) struct NewArrival<'a> {
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
struct Entry {
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

/// The most recent arrivals of one bank; the oldest are dropped first.
#[derive(Debug)]
pub(crate) struct ArrivalRing {
    entries: Vec<Entry>,
    capacity: usize,
    next: u64,
    first: u64,
}

/// A range of the arrival log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrivals {
    /// The requests, oldest first.
    pub entries: Vec<Arrival>,
    /// How many of the requested entries had already been overwritten.
    pub dropped: u64,
    /// Sequence number from which to continue reading.
    pub next: u64,
}

impl ArrivalRing {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity: capacity.max(1), next: 0, first: 0 }
    }

    pub(crate) fn push(&mut self, arrival: NewArrival<'_>) {
        let path = clip(arrival.path);
        let index = self.index(self.next);
        self.next += 1;
        if let Some(entry) = self.entries.get_mut(index) {
            entry.path.clear();
            entry.path.push_str(path);
            entry.query.clear();
            store_query(arrival.query, &mut entry.query);
            entry.at = arrival.at;
            entry.method.clone_from(arrival.method);
            entry.status = arrival.status;
            entry.behaviour = arrival.behaviour;
            entry.auth = arrival.auth;
            entry.connection = arrival.connection;
            entry.tls = arrival.tls;
        } else {
            let mut query = String::new();
            store_query(arrival.query, &mut query);
            self.entries.push(Entry {
                at: arrival.at,
                method: arrival.method.clone(),
                path: path.to_owned(),
                query,
                status: arrival.status,
                behaviour: arrival.behaviour,
                auth: arrival.auth,
                connection: arrival.connection,
                tls: arrival.tls,
            });
        }
    }

    /// The stored arrivals with sequence number `since` and later.
    pub(crate) fn since(&self, since: u64) -> Arrivals {
        let from = since.max(self.first).min(self.next);
        let oldest = self.next.saturating_sub(self.capacity as u64).max(from);
        let entries =
            (oldest..self.next).filter_map(|seq| self.entries.get(self.index(seq)).map(|s| s.to_arrival(seq)));
        Arrivals { entries: entries.collect(), dropped: oldest - from, next: self.next }
    }

    /// Deletes all entries; sequence numbers continue.
    pub(crate) fn clear(&mut self) {
        self.first = self.next;
    }

    fn index(&self, seq: u64) -> usize {
        usize::try_from(seq % self.capacity as u64).unwrap_or(0)
    }
}

impl Entry {
    fn to_arrival(&self, seq: u64) -> Arrival {
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
    let end = (0..=MAX_PATH.min(path.len())).rev().find(|i| path.is_char_boundary(*i)).unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

fn store_query(query: Option<&str>, out: &mut String) {
    for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()).take(32) {
        let name = pair.split('=').next().unwrap_or_default();
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(clip(if STORED_PARAMETERS.contains(&name) { pair } else { name }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(path: &str) -> NewArrival<'_> {
        NewArrival {
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
    fn the_ring_keeps_the_newest_and_counts_the_dropped() {
        let mut ring = ArrivalRing::new(3);
        for path in ["/0", "/1", "/2", "/3", "/4"] {
            ring.push(arrival(path));
        }
        let all = ring.since(0);
        assert_eq!(all.entries.iter().map(|a| a.path.as_str()).collect::<Vec<_>>(), ["/2", "/3", "/4"]);
        assert_eq!((all.dropped, all.next), (2, 5));
        assert_eq!(ring.since(4).entries.len(), 1);
        ring.clear();
        assert_eq!(ring.since(0), Arrivals { entries: vec![], dropped: 0, next: 5 });
        ring.push(arrival("/5"));
        assert_eq!(ring.since(0).entries[0].seq, 5);
    }

    #[test]
    fn values_of_other_parameters_are_not_stored() {
        let mut ring = ArrivalRing::new(1);
        ring.push(arrival("/x"));
        let arrival = &ring.since(0).entries[0];
        assert_eq!(arrival.query, ["page=2", "apikey"]);
        assert_eq!((arrival.query_value("page"), arrival.query_value("apikey")), (Some("2"), None));
    }
}
