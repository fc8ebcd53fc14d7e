//! One running connection: the settings in force, the call path built for them, and the monitor.
//!
//! Settings are replaced as a whole. A call in flight keeps those it started with; its credential is that in force when
//! a request is sent, and none is sent any more once the connection was removed or calls another endpoint.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tower::ServiceExt as _;

use crate::domain::breaker::{BreakerState, Snapshot};
use crate::domain::forecast::Forecast;
use crate::domain::forecast::outcome_counts::OutcomeCounts;
use crate::domain::health::RiskTier;
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::domain::time::Mono;
use crate::provider::access_denial::AccessDenial;
use crate::provider::call::{CallError, Request, Response};
use crate::provider::monitor::{ConnectionMonitor, ConnectionSnapshot};
use crate::provider::probe::{ProbeRecord, ProbeReport};
use crate::provider::rights::AuthorizedCall;
use crate::provider::stack::{self, Pipeline};
use crate::settings::Settings;

/// A connection that calls can be made through.
pub struct Connection {
    uid: Arc<str>,
    monitor: Arc<ConnectionMonitor>,
    pipeline: RwLock<Pipeline>,
}

/// The outcome of one probe.
#[derive(Debug)]
pub struct ProbeOutcome {
    /// How the call ended.
    pub result: Result<Response, CallError>,
    /// What was recorded of it; `None` if the probe was skipped for lack of quota or nothing was sent.
    pub record: Option<ProbeRecord>,
}

impl Connection {
    pub(crate) fn new(uid: Arc<str>, monitor: Arc<ConnectionMonitor>, pipeline: Pipeline) -> Self {
        Self { uid, monitor, pipeline: RwLock::new(pipeline) }
    }

    /// The object's namespace and name.
    pub fn key(&self) -> &ObjectKey {
        self.monitor.key()
    }

    /// The object's UID: another object of the same name is another connection.
    pub fn uid(&self) -> &Arc<str> {
        &self.uid
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.lock().settings)
    }

    /// Makes one call through the whole call path. Dropping the future cancels the call.
    pub async fn call(&self, request: Request) -> Result<Response, CallError> {
        self.send(self.pipeline(), request).await
    }

    /// The same for a request that was built for `settings`: a path, parameters or a cursor of one endpoint are not sent
    /// to another.
    ///
    /// # Errors
    /// [`CallError::Superseded`] if the connection calls another endpoint by now; nothing is sent then.
    pub async fn call_with(&self, settings: &Arc<Settings>, request: Request) -> Result<Response, CallError> {
        let pipeline = self.pipeline();
        if !Arc::ptr_eq(&pipeline.settings, settings) && !pipeline.settings.same_endpoint(settings) {
            return Err(CallError::Superseded);
        }
        self.send(pipeline, request).await
    }

    async fn send(&self, pipeline: Pipeline, request: Request) -> Result<Response, CallError> {
        // Built per call: that costs no more than cloning a stack, and idle connections hold none.
        let stack = stack::build(&self.monitor, pipeline);
        stack.oneshot(request).await
    }

    /// Checks a caller's right to an operation without a provider call, such as a stub; counted and audited like a
    /// call that lasts at most `timeout`.
    pub async fn authorize(&self, caller: &Caller, operation: &str, timeout: Duration) -> Result<(), AccessDenial> {
        let Pipeline { settings, licence_meter, .. } = self.pipeline();
        let call = AuthorizedCall { caller, operation, deadline: self.now() + timeout };
        licence_meter.authorize(self.key(), &settings, call).await
    }

    /// Runs one health check; `None` if the settings define none.
    pub async fn probe(&self) -> Option<ProbeOutcome> {
        self.check(false).await
    }

    /// Runs one health check that a user requested: it is sent although the provider's rate limit has not ended, once in
    /// a while.
    pub async fn probe_requested(&self) -> Option<ProbeOutcome> {
        self.check(true).await
    }

    async fn check(&self, requested: bool) -> Option<ProbeOutcome> {
        let pipeline = self.pipeline();
        let path = pipeline.settings.health_check().path.clone()?;
        let report = ProbeReport::default();
        let request = Request { report: Some(report.clone()), requested, ..Request::probe(path) };
        let result = self.send(pipeline, request).await;
        Some(ProbeOutcome { result, record: report.take() })
    }

    /// The observed state.
    pub fn snapshot(&self) -> ConnectionSnapshot {
        self.monitor.snapshot(&self.settings())
    }

    /// The forecast that holds now; the same until the next one is made.
    pub fn forecast(&self) -> Option<Forecast> {
        self.monitor.forecast()
    }

    /// Outcomes of calls, checks and reported payouts since the connection started.
    pub fn outcome_counts(&self) -> OutcomeCounts {
        self.monitor.outcome_counts()
    }

    /// The last health check, if there was one.
    pub fn last_probe(&self) -> Option<ProbeRecord> {
        self.monitor.lock().last_probe().cloned()
    }

    /// Restores the risk tier that a former process stored; it decays from now on.
    pub fn restore_risk(&self, tier: RiskTier) {
        self.monitor.restore_risk(tier);
    }

    /// The circuit, as it is stored across restarts.
    pub fn circuit_snapshot(&self) -> Snapshot {
        self.snapshot().circuit
    }

    /// When the next trial is due, while the circuit is open.
    pub fn next_trial(&self) -> Option<Mono> {
        self.monitor.next_trial()
    }

    /// The circuit's own state, without any override.
    pub fn circuit_state(&self) -> BreakerState {
        self.monitor.circuit_state()
    }

    /// Whether the last health checks have failed, or the last calls if the health check is passive.
    pub fn is_unhealthy(&self) -> bool {
        self.monitor.lock().is_unhealthy()
    }

    /// When [`tick`](Self::tick) may next change something.
    pub fn next_tick(&self) -> Option<Mono> {
        self.monitor.next_tick()
    }

    /// Applies what is due: lost trials, the end of a dwell or an override, decay of the risk. Returns when to call it
    /// again.
    pub fn tick(&self) -> Option<Mono> {
        self.monitor.tick()
    }

    /// Now, on the clock of this connection's instants.
    pub fn now(&self) -> Mono {
        self.monitor.clock().mono()
    }

    /// When the access token expires, if there is one.
    pub fn token_expires_at(&self) -> Option<Mono> {
        self.lock().authenticator.tokens.as_ref().and_then(|tokens| tokens.expires_at())
    }

    /// Whether there is no valid access token and the token endpoint's circuit is open.
    pub fn token_unavailable(&self) -> bool {
        self.lock().authenticator.tokens.as_ref().is_some_and(|tokens| tokens.unavailable())
    }

    pub(crate) fn monitor(&self) -> &Arc<ConnectionMonitor> {
        &self.monitor
    }

    pub(crate) fn pipeline(&self) -> Pipeline {
        self.lock().clone()
    }

    fn lock(&self) -> RwLockReadGuard<'_, Pipeline> {
        self.pipeline.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts new settings in force. What calls in flight have sent is not affected; requests that they have not sent yet
    /// go to the same endpoint with the new credential, or not at all.
    pub(crate) fn replace(&self, pipeline: Pipeline) {
        // In this order, no call with the new settings can end before the monitor accepts its results.
        self.monitor.reconfigure(&self.settings(), &pipeline.settings);
        let mut current = self.pipeline.write().unwrap_or_else(PoisonError::into_inner);
        if !pipeline.authenticator.is_same(&current.authenticator) {
            let successor = current.settings.same_endpoint(&pipeline.settings).then(|| pipeline.authenticator.clone());
            current.authenticator.end(successor);
        }
        *current = pipeline;
    }

    /// Ends the connection: nothing is sent for it any more. What calls in flight have sent is not affected.
    pub(crate) fn end(&self) {
        self.lock().authenticator.end(None);
        self.monitor.drop_responses();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("key", self.key()).field("uid", &self.uid).finish_non_exhaustive()
    }
}
