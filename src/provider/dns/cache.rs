//! The resolved names and how long each is used. Knows no clock: `now` is an argument.
//!
//! While no server answers, addresses that have expired go on being used (RFC 8767): a bank must not become unreachable
//! because its name cannot be looked up. An answer that the name does not exist removes them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::lookup::{Addresses, LookupError};
use crate::domain::time::Mono;

/// A shorter TTL, zero included, is this: calls that begin together share one look-up.
const MIN_TTL: Duration = Duration::from_secs(1);
/// A longer TTL is this: a bank that has moved is found, whatever it had announced.
const MAX_TTL: Duration = Duration::from_mins(5);
/// A name that does not exist is looked up again after at most this: it may be about to be created.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// How long expired addresses are used while no server answers.
const MAX_STALE: Duration = Duration::from_hours(1);
/// The first delay after a failed look-up; it doubles.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest delay after a failed look-up.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(16);
/// Names that are kept: some for each of ten thousand connections.
const MAX_NAMES: usize = 32_768;
/// Addresses that are kept of a name. No host has more of which one must be tried.
const MAX_ADDRESSES: usize = 256;

/// What is known of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// An answer to use.
    Answer(Arc<[IpAddr]>),
    /// No answer, and no look-up to make yet.
    Missing,
    /// A look-up is due. The addresses have expired; they may be used if it takes long.
    Expired(Arc<[IpAddr]>),
    /// A look-up is due, and there are no addresses.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    addresses: Arc<[IpAddr]>,
    fresh_until: Mono,
    stale_until: Mono,
    /// No look-up before: the last one failed, or is taking long.
    retry_at: Mono,
    failures: u32,
}

/// The names.
#[derive(Debug, Default)]
pub(super) struct DnsCache {
    entries: HashMap<Arc<str>, Entry>,
}

impl DnsCache {
    /// What is known of `name`.
    pub(super) fn get(&self, name: &str, now: Mono) -> Known {
        let Some(entry) = self.entries.get(name) else { return Known::Unknown };
        let usable = now < entry.stale_until && !entry.addresses.is_empty();
        match (usable, now < entry.fresh_until || now < entry.retry_at) {
            (true, true) => Known::Answer(Arc::clone(&entry.addresses)),
            (true, false) => Known::Expired(Arc::clone(&entry.addresses)),
            (false, true) => Known::Missing,
            (false, false) => Known::Unknown,
        }
    }

    /// Stores the result of a look-up.
    pub(super) fn put(&mut self, name: &Arc<str>, result: Result<Addresses, LookupError>, now: Mono) {
        match result {
            Ok(Addresses { addresses, ttl }) => {
                let fresh_until = now + ttl.clamp(MIN_TTL, MAX_TTL);
                let stale_until = fresh_until + MAX_STALE;
                let addresses = addresses.into_iter().take(MAX_ADDRESSES).collect();
                self.insert(name, Entry { addresses, fresh_until, stale_until, retry_at: now, failures: 0 }, now);
            }
            Err(LookupError::NotFound { ttl }) => {
                let retry_at = now + ttl.unwrap_or(MAX_NEGATIVE_TTL).clamp(MIN_TTL, MAX_NEGATIVE_TTL);
                self.insert(name, Entry { retry_at, ..Entry::empty(now) }, now);
            }
            Err(LookupError::Failed) => {
                let mut entry = self.entries.remove(name).unwrap_or_else(|| Entry::empty(now));
                let delay = MIN_RETRY_DELAY.saturating_mul(1 << entry.failures.min(8)).min(MAX_RETRY_DELAY);
                entry.failures = entry.failures.saturating_add(1);
                entry.retry_at = now + delay;
                self.insert(name, entry, now);
            }
        }
    }

    /// A look-up of `name` takes long: its expired addresses are used meanwhile, and no caller waits for it.
    pub(super) fn use_expired(&mut self, name: &str, now: Mono) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.retry_at = entry.retry_at.max(now + MAX_RETRY_DELAY);
        }
    }

    fn insert(&mut self, name: &Arc<str>, entry: Entry, now: Mono) {
        if self.entries.len() >= MAX_NAMES && !self.entries.contains_key(name) {
            self.entries.retain(|_, entry| now < entry.fresh_until || now < entry.retry_at);
            // All are in use: any of them is looked up again when it is needed.
            while self.entries.len() >= MAX_NAMES {
                let Some(any) = self.entries.keys().next().cloned() else { break };
                self.entries.remove(&any);
            }
        }
        self.entries.insert(Arc::clone(name), entry);
    }
}

impl Entry {
    fn empty(now: Mono) -> Self {
        Self { addresses: Arc::default(), fresh_until: now, stale_until: now, retry_at: now, failures: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "bank.test";

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a look-up returns")]
    fn found(last: u8, ttl: Duration) -> Result<Addresses, LookupError> {
        Ok(Addresses { addresses: vec![IpAddr::from([192, 0, 2, last])], ttl })
    }

    fn answer(last: u8) -> Arc<[IpAddr]> {
        Arc::from([IpAddr::from([192, 0, 2, last])])
    }

    fn cache(result: Result<Addresses, LookupError>) -> DnsCache {
        let mut cache = DnsCache::default();
        cache.put(&HOST.into(), result, at(0));
        cache
    }

    #[test]
    fn an_answer_is_used_for_its_ttl_within_a_second_and_five_minutes() {
        for (ttl, used) in [(0, 1), (1, 1), (20, 20), (300, 300), (86_400, 300), (u64::MAX, 300)] {
            let cache = cache(found(1, Duration::from_secs(ttl)));
            assert_eq!(cache.get(HOST, at(used) - Duration::from_millis(1)), Known::Answer(answer(1)), "{ttl}");
            assert_eq!(cache.get(HOST, at(used)), Known::Expired(answer(1)), "{ttl}");
        }
    }

    #[test]
    fn expired_addresses_are_used_for_an_hour_while_no_server_answers() {
        let mut cache = cache(found(1, Duration::from_mins(1)));
        cache.put(&HOST.into(), Err(LookupError::Failed), at(60));
        assert_eq!(cache.get(HOST, at(60)), Known::Answer(answer(1)), "at once, without another look-up");
        assert_eq!(cache.get(HOST, at(61)), Known::Expired(answer(1)));
        assert_eq!(cache.get(HOST, at(3_659)), Known::Expired(answer(1)));
        assert_eq!(cache.get(HOST, at(3_660)), Known::Unknown);
        cache.put(&HOST.into(), found(2, Duration::from_mins(1)), at(3_661));
        assert_eq!(cache.get(HOST, at(3_661)), Known::Answer(answer(2)));
    }

    #[test]
    fn a_name_that_does_not_exist_any_more_loses_its_addresses() {
        let mut cache = cache(found(1, Duration::from_mins(1)));
        cache.put(&HOST.into(), Err(LookupError::NotFound { ttl: Some(Duration::from_hours(24)) }), at(60));
        assert_eq!(cache.get(HOST, at(89)), Known::Missing);
        assert_eq!(cache.get(HOST, at(90)), Known::Unknown);
    }

    #[test]
    fn failed_look_ups_are_repeated_with_growing_delays() {
        let mut cache = DnsCache::default();
        let (mut now, mut delays) = (0, Vec::new());
        for _ in 0..7 {
            cache.put(&HOST.into(), Err(LookupError::Failed), at(now));
            let next = (now..now + 100_000).find(|second| cache.get(HOST, at(*second)) != Known::Missing).unwrap();
            delays.push(next - now);
            now = next;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 16, 16]);
    }

    #[test]
    fn memory_is_bounded_in_names_and_in_addresses() {
        let many = (0..5_000_u16).map(|n| IpAddr::from([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect();
        let mut cache = cache(Ok(Addresses { addresses: many, ttl: MAX_TTL }));
        let Known::Answer(kept) = cache.get(HOST, at(1)) else { panic!("an answer") };
        assert_eq!(kept.len(), MAX_ADDRESSES);
        for n in 0..MAX_NAMES + 100 {
            cache.put(&format!("bank-{n}.test").into(), found(1, MAX_TTL), at(1));
        }
        assert_eq!(cache.entries.len(), MAX_NAMES);
    }
}
