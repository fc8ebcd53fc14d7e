//! One running connection: settings in force, the path built for them, and what was observed.
//!
//! Settings are replaced as a whole. A call that is under way keeps the ones it started with.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tower::ServiceExt as _;

use crate::domain::breaker::{Snapshot, State};
use crate::domain::health::RiskTier;
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::domain::time::Mono;
use crate::provider::auth::Proof;
use crate::provider::call::{Answer, CallError, Request};
use crate::provider::clients::Client;
use crate::provider::observe::{Core, LastProbe, LiveStatus};
use crate::provider::rights::Licences;
use crate::provider::settings::Settings;
use crate::provider::stack;

/// A connection that calls can be made through.
pub struct Live {
    uid: Arc<str>,
    core: Arc<Core>,
    running: RwLock<Running>,
}

/// What is replaced when settings change.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) settings: Arc<Settings>,
    pub(crate) client: Client,
    pub(crate) proof: Proof,
    pub(crate) licences: Arc<Licences>,
}

impl Live {
    pub(crate) fn new(uid: Arc<str>, core: Arc<Core>, running: Running) -> Self {
        Self { uid, core, running: RwLock::new(running) }
    }

    /// The object's namespace and name.
    pub fn key(&self) -> &ObjectKey {
        self.core.key()
    }

    /// The object's UID: another object of the same name is another connection.
    pub fn uid(&self) -> &Arc<str> {
        &self.uid
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.lock().settings)
    }

    /// Makes one call through the whole path. Dropping the future ends the call.
    pub async fn call(&self, request: Request) -> Result<Answer, CallError> {
        // Built for each call: that costs no more than a copy of one would, and thousands of connections at rest keep none.
        let stack = stack::build(&self.core, self.read());
        stack.oneshot(request).await
    }

    /// Judges a caller's right to something that takes no call, such as a stub; counted and written down like a call.
    pub async fn permit(&self, caller: &Caller, operation: &str) -> Result<(), CallError> {
        let Running { settings, licences, .. } = self.read();
        licences.admit(self.key(), &settings, caller, operation).await
    }

    /// Makes one health check, if there is anything to check.
    pub async fn probe(&self) -> Option<Result<Answer, CallError>> {
        let path = self.settings().health_check().path.clone()?;
        Some(self.call(Request::probe(path)).await)
    }

    /// The connection as it is now.
    pub fn observed(&self) -> LiveStatus {
        self.core.observed(&self.settings())
    }

    /// The last health check, if there was one.
    pub fn last_probe(&self) -> Option<LastProbe> {
        self.core.lock().last_probe().cloned()
    }

    /// Takes up the band of risk that a former process left, which fades from now on.
    pub fn recall(&self, tier: RiskTier) {
        self.core.recall(tier);
    }

    /// The circuit, as it is kept over a restart.
    pub fn snapshot(&self) -> Snapshot {
        self.observed().snapshot
    }

    /// While the circuit is open: when the next trial is due.
    pub fn next_trial(&self) -> Option<Mono> {
        self.core.next_trial()
    }

    /// The circuit's own state, beneath any override.
    pub fn circuit(&self) -> State {
        self.core.circuit()
    }

    /// When [`tick`](Self::tick) may next have something to say.
    pub fn next_tick(&self) -> Option<Mono> {
        self.core.next_tick()
    }

    /// Lets time pass: lost trials, the end of a dwell or an override, the risk that fades. Returns when to come again.
    pub fn tick(&self) -> Option<Mono> {
        self.core.tick()
    }

    /// Now, on the clock that instants of this connection are told by.
    pub fn now(&self) -> Mono {
        self.core.clock().mono()
    }

    /// When the token in use expires, where tokens are fetched.
    pub fn token_expires_at(&self) -> Option<Mono> {
        self.lock().proof.tokens.as_ref().and_then(|tokens| tokens.expires_at())
    }

    /// Whether no call can be made because the token endpoint's circuit is open and no token is left.
    pub fn token_unavailable(&self) -> bool {
        self.lock().proof.tokens.as_ref().is_some_and(|tokens| tokens.unavailable())
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn read(&self) -> Running {
        self.lock().clone()
    }

    fn lock(&self) -> RwLockReadGuard<'_, Running> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts new settings in force. Whoever is in a call finishes it with the old ones.
    pub(crate) fn replace(&self, running: Running) {
        // In this order, no call can end with the new settings before what it says is listened to.
        self.core.reconfigure(&self.settings(), &running.settings);
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = running;
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("key", self.key()).field("uid", &self.uid).finish_non_exhaustive()
    }
}
