//! The current credential of one connection. A refusal is how a rotation shows: a refused caller has the Secret read
//! again, once for all callers refused with the same credential, and gets the new credential if there is one.
//!
//! A new credential (a client certificate with a client of its own) serves calls until the controller puts new settings
//! in force; it is notified to do so. The credential is taken only if the settings still call the same endpoint for the
//! same object: a connection that is about to move must not send the new provider's credential to the old one. While a
//! credential stays refused, the Secret is read at growing intervals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use crate::domain::time::Mono;
use crate::provider::auth::endpoint_credential::{EndpointCredential, InForce};
use crate::provider::auth::secret_source::SecretSource;
use crate::provider::call::CallError;
use crate::provider::http_clients::HttpClients;
use crate::provider::monitor::ConnectionMonitor;
use crate::settings::{Auth, Settings};

/// Delay after a read that found nothing new; it doubles with each further one.
const MIN_READ_INTERVAL: Duration = Duration::from_secs(2);
/// The longest delay: Secrets are refreshed every minute unless configured otherwise.
const MAX_READ_INTERVAL: Duration = Duration::from_mins(1);

type Flight = Shared<BoxFuture<'static, ()>>;

struct State {
    /// The credential of the settings in force.
    applied: Arc<EndpointCredential>,
    /// The same, or a newer one for the same endpoint, as read from the Secrets.
    current: Arc<EndpointCredential>,
    /// The read in flight.
    flight: Option<Flight>,
    /// No read before this.
    next_read: Mono,
}

/// The credentials of one connection.
pub(crate) struct CredentialCache {
    in_force: Arc<InForce>,
    monitor: Arc<ConnectionMonitor>,
    clients: HttpClients,
    /// Where a replacement for a refused credential is read.
    secrets: Option<Arc<dyn SecretSource>>,
    state: Mutex<State>,
}

impl CredentialCache {
    /// Starts with the credentials of `applied`.
    pub(crate) fn new(
        applied: Arc<Settings>,
        clients: HttpClients,
        monitor: Arc<ConnectionMonitor>,
        secrets: Option<Arc<dyn SecretSource>>,
    ) -> Arc<Self> {
        let in_force = Arc::new(InForce::default());
        let applied = EndpointCredential::new(applied, &clients, Arc::clone(&in_force));
        let current = Arc::clone(&applied);
        let state = Mutex::new(State { applied, current, flight: None, next_read: Mono::ZERO });
        Arc::new(Self { in_force, monitor, clients, secrets, state })
    }

    /// Puts other settings with the same authentication in force: what was obtained by the credential stays valid.
    pub(crate) fn reconfigure(&self, settings: &Arc<Settings>) {
        let mut state = self.lock();
        let Some(applied) = state.applied.with_settings(settings, &self.clients) else { return };
        if state.current.id() == applied.id() {
            state.current = Arc::clone(&applied);
        }
        state.applied = applied;
    }

    /// Whether a refused credential can be read again from a Secret.
    pub(crate) fn can_change(&self) -> bool {
        self.secrets.is_some() && !matches!(self.lock().applied.settings().auth(), Auth::None)
    }

    /// Fails with [`CallError::Superseded`] once the credentials may not be used any more.
    pub(crate) fn check_in_force(&self) -> Result<(), CallError> {
        self.in_force.check()
    }

    /// Returns once the use of the credentials has ended.
    pub(crate) async fn ended(&self) {
        self.in_force.ended().await;
    }

    /// Ends the use of the credentials.
    pub(crate) fn end(&self) {
        self.in_force.end();
    }

    /// The latest known credential.
    pub(crate) fn current(&self) -> Arc<EndpointCredential> {
        Arc::clone(&self.lock().current)
    }

    /// The credential `sent` was refused: another one to send, if the Secret holds one by now.
    pub(crate) async fn replacement_for(
        self: &Arc<Self>,
        sent: &Arc<EndpointCredential>,
    ) -> Option<Arc<EndpointCredential>> {
        self.replacement(|current| !current.settings().same_credentials(sent.settings())).await
    }

    /// The client certificate of `sent` was refused: a credential with another one, if the Secret holds one by now.
    pub(crate) async fn replacement_for_certificate(
        self: &Arc<Self>,
        sent: &Arc<EndpointCredential>,
    ) -> Option<Arc<EndpointCredential>> {
        self.replacement(|current| !current.settings().same_certificate(sent.settings())).await
    }

    /// The latest credential that `is_other` accepts, after another read of the Secret if necessary.
    async fn replacement(
        self: &Arc<Self>,
        is_other: impl Fn(&EndpointCredential) -> bool,
    ) -> Option<Arc<EndpointCredential>> {
        let read = {
            let mut state = self.lock();
            if is_other(&state.current) {
                return Some(Arc::clone(&state.current));
            }
            self.read(&mut state)?
        };
        read.await;
        Some(self.current()).filter(|current| is_other(current))
    }

    /// The read in flight; starts one if there is none and the next one is due.
    fn read(self: &Arc<Self>, state: &mut State) -> Option<Flight> {
        if let Some(flight) = &state.flight {
            return Some(flight.clone());
        }
        let secrets = Arc::clone(self.secrets.as_ref()?);
        if self.in_force.check().is_err() || self.monitor.clock().mono() < state.next_read {
            return None;
        }
        let (cache, refused) = (Arc::clone(self), self.monitor.refused_since(state.applied.settings()));
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
        let found = found.filter(|found| found.same_endpoint(state.applied.settings()));
        let other = |found: &Arc<Settings>| {
            let current = state.current.settings();
            !found.same_credentials(current) || !found.same_certificate(current)
        };
        let changed = found.filter(other);
        state.next_read = match &changed {
            Some(_) => Mono::ZERO,
            None => now + now.since(refused).clamp(MIN_READ_INTERVAL, MAX_READ_INTERVAL),
        };
        let Some(found) = changed else { return };
        state.current = EndpointCredential::new(found, &self.clients, Arc::clone(&self.in_force));
        drop(state);
        self.monitor.secret_changed();
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
