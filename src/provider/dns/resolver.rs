//! The resolver: cached answers, one look-up of a name at a time, each with a time limit, and few at a time of all names.
//!
//! A look-up is a task of its own: a caller that gives up, by its connect time-out, does not end it, and the next call
//! finds its answer. Domains have their turns, and one has a quarter of the look-ups at most, so that a domain whose
//! servers do not answer delays no other. Names that have never been resolved delay none that have.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::sync::watch;

use super::cache::{DnsCache, Known};
use super::lookup::{LookupError, NameLookup};
use super::system::SystemLookup;
use crate::clock::Clock;
use crate::domain::fair_shares::{FairLimits, WhenFull};
use crate::domain::key::ObjectKey;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::fair_semaphore::FairSemaphore;
use crate::tasks::TaskGroup;

/// Look-ups at a time of names that have addresses, and of those that have none: some sockets each. An answer takes
/// milliseconds, so that these are thousands a second.
const MAX_LOOKUPS: usize = 256;
/// Look-ups at a time of the names of one domain.
const MAX_PER_DOMAIN: usize = MAX_LOOKUPS / 4;
/// Time of one look-up with all its search domains and tries. Callers wait for their connect time-out at most; the answer
/// is for the next one then.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for a look-up if there are expired addresses (RFC 8767 suggests at most 1.8 s).
const STALE_AFTER: Duration = Duration::from_millis(500);
/// How long a caller waits for a look-up and for its turn.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// Resolves names. Clones share the cache.
#[derive(Clone)]
pub(crate) struct DnsResolver {
    inner: Arc<Inner>,
}

struct Inner {
    source: Box<dyn NameLookup>,
    clock: Clock,
    tasks: TaskGroup,
    lookups: Option<IntCounterVec>,
    /// Look-ups of names that have addresses.
    known: FairSemaphore,
    /// Those of names that have none, or never had.
    unknown: FairSemaphore,
    state: Mutex<ResolverState>,
}

#[derive(Default)]
struct ResolverState {
    cache: DnsCache,
    /// Look-ups in flight; the channel closes at the end of the task.
    in_flight: HashMap<Arc<str>, watch::Receiver<()>>,
}

impl fmt::Debug for DnsResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsResolver").finish_non_exhaustive()
    }
}

impl Default for DnsResolver {
    fn default() -> Self {
        Self::with(Box::new(SystemLookup::new(Clock::system())), Clock::system(), TaskGroup::default(), None)
    }
}

impl DnsResolver {
    /// A resolver that asks the system's name servers; its look-ups are tasks of `tasks`.
    pub(crate) fn system(clock: Clock, tasks: TaskGroup, metrics: &Metrics) -> Result<Self, MetricsError> {
        let lookups = metrics.counter_from_zero(
            "busbar_dns_lookups_total",
            "DNS look-ups of provider hosts, by result: found, not_found, failed, timeout; stale: a look-up failed or took long, and expired addresses were used.",
            ["result"],
            [["found"], ["not_found"], ["failed"], ["timeout"], ["stale"]],
        )?;
        Ok(Self::with(Box::new(SystemLookup::new(clock)), clock, tasks, Some(lookups)))
    }

    fn with(source: Box<dyn NameLookup>, clock: Clock, tasks: TaskGroup, lookups: Option<IntCounterVec>) -> Self {
        let limits = FairLimits {
            total: MAX_LOOKUPS,
            per_namespace: MAX_PER_DOMAIN,
            per_connection: 1,
            when_full: WhenFull::Refuse,
        };
        let (known, unknown) = (FairSemaphore::new(limits), FairSemaphore::new(limits));
        Self { inner: Arc::new(Inner { source, clock, tasks, lookups, known, unknown, state: Mutex::default() }) }
    }

    /// The addresses of `name`; `None` if there are none or none could be found.
    pub(crate) async fn resolve(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        // A fully qualified name and case are no other name.
        let name = name.to_ascii_lowercase();
        let (mut in_flight, expired) = {
            let mut state = self.inner.lock();
            match state.cache.get(&name, self.inner.clock.mono()) {
                Known::Answer(addresses) => return Some(addresses),
                Known::Missing => return None,
                Known::Expired(addresses) => (self.join(&mut state, &name, true), Some(addresses)),
                Known::Unknown => (self.join(&mut state, &name, false), None),
            }
        };
        let patience = if expired.is_some() { STALE_AFTER } else { MAX_WAIT };
        tokio::select! {
            // Closed at the end of the look-up, whose result is in the cache then.
            _ = in_flight.changed() => {}
            () = self.inner.clock.sleep_until(self.inner.clock.mono() + patience) => {
                self.inner.lock().cache.use_expired(&name, self.inner.clock.mono());
            }
        }
        let now = self.inner.clock.mono();
        match self.inner.lock().cache.get(&name, now) {
            Known::Answer(addresses) | Known::Expired(addresses) => {
                if expired.as_ref() == Some(&addresses) {
                    self.inner.count("stale");
                }
                Some(addresses)
            }
            Known::Missing | Known::Unknown => None,
        }
    }

    /// The look-up of `name` that is in flight, or a new one.
    fn join(&self, state: &mut ResolverState, name: &str, known: bool) -> watch::Receiver<()> {
        if let Some(in_flight) = state.in_flight.get(name) {
            return in_flight.clone();
        }
        let name: Arc<str> = name.into();
        let (done, in_flight) = watch::channel(());
        state.in_flight.insert(Arc::clone(&name), in_flight.clone());
        let flight = Flight { inner: Arc::clone(&self.inner), name, _done: done };
        // Nothing needs its answer at shutdown.
        self.inner.tasks.spawn_until_drain("dns look-up", flight.run(known));
        in_flight
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, ResolverState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, result: &str) {
        if let Some(lookups) = &self.lookups {
            lookups.with_label_values(&[result]).inc();
        }
    }
}

/// A look-up in flight; its drop ends the waiting of those that joined it, whatever ended it.
struct Flight {
    inner: Arc<Inner>,
    name: Arc<str>,
    _done: watch::Sender<()>,
}

impl Flight {
    async fn run(self, known: bool) {
        let Inner { source, clock, .. } = &*self.inner;
        let semaphore = if known { &self.inner.known } else { &self.inner.unknown };
        let _permit = semaphore.acquire(&owner(&self.name)).await;
        let (result, label) = tokio::select! {
            result = source.lookup(&self.name) => {
                let label = match result {
                    Ok(_) => "found",
                    Err(LookupError::NotFound { .. }) => "not_found",
                    Err(LookupError::Failed) => "failed",
                };
                (result, label)
            }
            () = clock.sleep_until(clock.mono() + LOOKUP_TIMEOUT) => (Err(LookupError::Failed), "timeout"),
        };
        self.inner.count(label);
        self.inner.lock().cache.put(&self.name, result, clock.mono());
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.inner.lock().in_flight.remove(&self.name);
    }
}

/// Whose turn a look-up is: that of the name's domain, its last two labels.
fn owner(name: &str) -> ObjectKey {
    let name = name.trim_end_matches('.');
    let before = name.rmatch_indices('.').nth(1);
    let domain = before.map_or(name, |(at, _)| &name[at + 1..]);
    ObjectKey::new(domain, name)
}

#[cfg(test)]
mod tests;
