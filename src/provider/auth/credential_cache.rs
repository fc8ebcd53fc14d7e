//! The current credentials of one connection. A refusal is how a rotation shows: a refused caller has the Secret read
//! again, once for all callers refused with the same credential, and gets the new credential if there is one.
//!
//! A new credential serves calls (a client certificate through a client of its own) until the controller puts new
//! settings in force; it is notified to do so. The credential is taken only if the settings still call the same
//! endpoint: a connection that is about to move must not send the new provider's credential to the old one. While a
//! credential stays refused, the Secret is read at growing intervals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use crate::domain::time::Mono;
use crate::provider::auth::secret_source::SecretSource;
use crate::provider::http_clients::{HttpClient, HttpClients};
use crate::provider::monitor::ConnectionMonitor;
use crate::settings::{Auth, Settings};

/// Delay after a read that found nothing new; it doubles with each further one.
const MIN_READ_INTERVAL: Duration = Duration::from_secs(2);
/// The longest delay: Secrets are refreshed every minute unless configured otherwise.
const MAX_READ_INTERVAL: Duration = Duration::from_mins(1);

type Flight = Shared<BoxFuture<'static, ()>>;

#[derive(Default)]
struct State {
    /// Settings with another credential than those in force, as read from the Secrets.
    replaced: Option<Arc<Settings>>,
    /// The client that presents the certificate in the Secret, if it differs, and the settings it was built from.
    certified: Option<(Arc<Settings>, HttpClient)>,
    /// The read in flight.
    flight: Option<Flight>,
    /// No read before this.
    next_read: Mono,
}

/// The credentials of one connection.
pub(crate) struct CredentialCache {
    initial: Arc<Settings>,
    monitor: Arc<ConnectionMonitor>,
    lookup: Option<SecretLookup>,
    state: Mutex<State>,
}

/// Where a replacement for a refused credential is read, and what builds clients with another certificate.
pub(crate) struct SecretLookup {
    pub(crate) secrets: Arc<dyn SecretSource>,
    pub(crate) clients: HttpClients,
}

impl CredentialCache {
    /// Starts with the credentials of `initial`.
    pub(crate) fn new(
        initial: Arc<Settings>,
        monitor: Arc<ConnectionMonitor>,
        lookup: Option<SecretLookup>,
    ) -> Arc<Self> {
        Arc::new(Self { initial, monitor, lookup, state: Mutex::default() })
    }

    /// Whether a refused credential can be read again from a Secret.
    pub(crate) fn can_change(&self) -> bool {
        self.lookup.is_some() && !matches!(self.initial.auth(), Auth::None)
    }

    /// The client with the certificate in the Secret, if that is known to differ from the one in the settings.
    pub(crate) fn client(&self) -> Option<HttpClient> {
        self.lock().certified.as_ref().map(|(_, client)| client.clone())
    }

    /// The certificate of `sent` (`None`: of the settings) was refused: a client with another one, if the Secret holds
    /// one by now.
    pub(crate) async fn replacement_for_client(self: &Arc<Self>, sent: Option<&HttpClient>) -> Option<HttpClient> {
        let other = |client: &HttpClient| sent.is_none_or(|sent| !client.is_same(sent));
        let read = {
            let mut state = self.lock();
            if let Some((_, client)) = state.certified.as_ref().filter(|(_, client)| other(client)) {
                return Some(client.clone());
            }
            self.read(&mut state)?
        };
        read.await;
        self.client().filter(other)
    }

    /// The latest known credentials.
    pub(crate) fn current(&self) -> Arc<Settings> {
        Arc::clone(self.lock().replaced.as_ref().unwrap_or(&self.initial))
    }

    /// The credentials of `sent` were refused: others to send, if the Secret holds some by now.
    pub(crate) async fn replacement_for(self: &Arc<Self>, sent: &Arc<Settings>) -> Option<Arc<Settings>> {
        let read = {
            let mut state = self.lock();
            let current = state.replaced.as_ref().unwrap_or(&self.initial);
            if !Arc::ptr_eq(current, sent) {
                return Some(Arc::clone(current));
            }
            self.read(&mut state)?
        };
        read.await;
        let current = self.current();
        (!Arc::ptr_eq(&current, sent)).then_some(current)
    }

    /// The read in flight; starts one if there is none and the next one is due.
    fn read(self: &Arc<Self>, state: &mut State) -> Option<Flight> {
        if let Some(flight) = &state.flight {
            return Some(flight.clone());
        }
        let secrets = Arc::clone(&self.lookup.as_ref()?.secrets);
        if self.monitor.clock().mono() < state.next_read {
            return None;
        }
        let (cache, refused) = (Arc::clone(self), self.monitor.refused_since(&self.initial));
        // In a task of its own, so that a caller that gives up does not end it for the others.
        let task = self.monitor.tasks().spawn("secret read", async move {
            let flight = FlightGuard(cache);
            let found = secrets.settings(flight.0.monitor.key(), refused).await;
            flight.0.finish_read(found, refused);
        });
        let flight = task.map(drop).boxed().shared();
        state.flight = Some(flight.clone());
        Some(flight)
    }

    fn finish_read(&self, found: Option<Arc<Settings>>, refused: Mono) {
        let now = self.monitor.clock().mono();
        let mut state = self.lock();
        let found = found.filter(|found| found.same_endpoint(&self.initial));
        let auth =
            found.as_ref().filter(|found| !found.same_credentials(state.replaced.as_ref().unwrap_or(&self.initial)));
        let certified = state.certified.as_ref().map_or(&self.initial, |(settings, _)| settings);
        let certificate = found.as_ref().filter(|found| !found.same_certificate(certified)).zip(self.lookup.as_ref());
        let changed = auth.is_some() || certificate.is_some();
        if let Some(found) = auth {
            state.replaced = Some(Arc::clone(found));
        }
        if let Some((found, lookup)) = certificate {
            state.certified = Some((Arc::clone(found), lookup.clients.for_provider(found)));
        }
        state.next_read =
            if changed { Mono::ZERO } else { now + now.since(refused).clamp(MIN_READ_INTERVAL, MAX_READ_INTERVAL) };
        drop(state);
        if changed {
            self.monitor.secret_changed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the flight of a read when it is dropped, after a panic too: the next refused caller starts another.
struct FlightGuard(Arc<CredentialCache>);

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.0.lock().flight = None;
    }
}
