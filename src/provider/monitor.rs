//! Monitors one connection: its circuit, its health, its rate limits and the verification of its credentials.
//!
//! Every call is recorded here once. The state has one lock, which is never held across I/O. Changes that a status shows
//! are published after the lock is released; those that a probe causes while it runs are published once, at its end.

mod parts;
mod payout_outcome;
pub(crate) mod rate_limit;
mod read;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod tick;
mod token;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::clock::Clock;
use crate::domain::breaker::{Breaker, CallClass, CallNotPermitted, CallOutcome, Override, Permit, Throttle};
use crate::domain::check_failure::CheckFailureLatch;
use crate::domain::health::{HealthMonitor, Observation, Thresholds};
use crate::domain::key::ObjectKey;
use crate::domain::retry_budget::RetryBudget;
use crate::domain::time::{Mono, Now};
use crate::notify::Topic;
use crate::profile::CheckMode;
use crate::provider::assessment::{CallAssessment, assess};
use crate::provider::auth::client_authentication::AcceptedMethod;
use crate::provider::auth::refresh_lock::RefreshLock;
use crate::provider::bulkhead_limit::Bulkhead;
use crate::provider::call::{CallError, Response};
use crate::provider::call_progress::CallProgress;
use crate::provider::call_resources::CallResources;
use crate::provider::check_failure::check_failure;
use crate::provider::day_quota::DayQuota;
use crate::provider::metrics::{ConnectionCounters, IGNORED, ProviderMetrics, ResultCode};
use crate::provider::monitor::state::HealthObservation;
use crate::provider::probe::{CallResult, ProbeRecord};
use crate::provider::response_cache::ResponseCache;
use crate::provider::restore::Restore;
use crate::settings::{CircuitOverride, HealthCheck, Settings};

pub use self::snapshot::{ConnectionSnapshot, HealthReading, Verification};
pub(crate) use self::state::MonitorState;

/// A call that has ended, as the breaker layer reports it.
pub(crate) struct CompletedCall<'a> {
    pub(crate) permit: Permit,
    pub(crate) class: CallClass,
    pub(crate) operation: &'a Arc<str>,
    pub(crate) started: Mono,
    /// Decides which part of the call is attributed to the provider.
    pub(crate) progress: &'a CallProgress,
    pub(crate) result: Result<&'a Response, &'a CallError>,
}

/// The state of a connection that outlives its settings.
pub(crate) struct ConnectionMonitor {
    key: ObjectKey,
    clock: Clock,
    /// The keys of connections that changed, shared with the registry.
    changes: Arc<Topic<ObjectKey>>,
    metrics: Arc<ProviderMetrics>,
    resources: CallResources,
    bulkhead: Bulkhead,
    state: Mutex<MonitorState>,
    /// Created on first use: most connections cache nothing.
    response_cache: OnceLock<Arc<ResponseCache>>,
    /// Counts daily limits in the ledger, if there is one.
    day_quota: OnceLock<Box<DayQuota>>,
    /// Serializes refreshes of the access token, also across changes of settings.
    refresh_lock: OnceLock<Box<RefreshLock>>,
    /// How the client authenticates at the token endpoint, also across changes of settings.
    accepted_method: OnceLock<Arc<AcceptedMethod>>,
}

impl ConnectionMonitor {
    pub(crate) fn new(
        key: ObjectKey,
        clock: Clock,
        changes: Arc<Topic<ObjectKey>>,
        metrics: Arc<ProviderMetrics>,
        resources: CallResources,
        settings: &Settings,
        restore: &Restore,
    ) -> Arc<Self> {
        let now = clock.now();
        let mut breaker = match &restore.circuit {
            Some(snapshot) => Breaker::restore(*settings.breaker(), snapshot, now),
            None => Breaker::new(*settings.breaker(), now.mono),
        };
        let mut counts = ConnectionCounters::default();
        if let Some(transition) = breaker.set_override(override_for(settings.circuit_override(), now), now.mono) {
            counts.transition(&transition);
        }
        let mut state = MonitorState {
            breaker,
            transitions: Vec::new(),
            probes_in_flight: 0,
            unpublished: false,
            circuit_override: settings.circuit_override(),
            flap_reported: false,
            health: HealthMonitor::new(thresholds(settings.health_check())),
            forecast: None,
            ever_healthy: restore.ever_healthy,
            verification: Verification::Pending,
            verification_revision: Arc::clone(settings.verification_revision()),
            authenticated: None,
            refused_since: None,
            last_probe: None,
            check_failure: CheckFailureLatch::default(),
            throttle: Throttle::default(),
            throttled_until_wall: None,
            consecutive_throttles: 0,
            pause_overridden_at: None,
            retry_budget: RetryBudget::default(),
            quota: None,
            blocked: None,
            token_missing: false,
            token_fault: None,
            counts,
        };
        if restore.unhealthy {
            state.health.restore_unhealthy();
        }
        if let Some(until) = restore.throttled_until {
            state.restore_throttle(until, now);
        }
        let (response_cache, day_quota, refresh_lock) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (state, bulkhead) = (Mutex::new(state), Bulkhead::new(resources.bulkhead_limit));
        Arc::new(Self {
            key,
            clock,
            changes,
            metrics,
            resources,
            bulkhead,
            state,
            response_cache,
            day_quota,
            refresh_lock,
            accepted_method: OnceLock::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, MonitorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` under the lock, counts the circuit's transitions that it added to the state, and publishes the
    /// connection if anything that a status shows has changed.
    fn update<T>(&self, act: impl FnOnce(&mut MonitorState, Mono) -> T) -> T {
        self.update_and_publish(Publish::Now, act)
    }

    /// Like [`update`](Self::update). A change is published when `publish` says.
    fn update_and_publish<T>(&self, publish: Publish, act: impl FnOnce(&mut MonitorState, Mono) -> T) -> T {
        let (result, publishes) = {
            let mut state = self.lock_current();
            let before = state.visible();
            self.resume_override(&mut state);
            let result = act(&mut state, self.clock.mono());
            for transition in std::mem::take(&mut state.transitions) {
                state.counts.transition(&transition);
                tracing::info!(
                    namespace = %self.key.namespace, name = %self.key.name,
                    from = transition.from.as_str(), to = transition.to.as_str(), reason = transition.reason.as_str(),
                    "circuit state changed"
                );
            }
            if state.started_flapping() {
                tracing::warn!(
                    namespace = %self.key.namespace, name = %self.key.name,
                    "circuit is flapping: trials succeed, but calls fail soon after it closes"
                );
            }
            state.unpublished |= before != state.visible();
            (result, publish == Publish::Now && std::mem::take(&mut state.unpublished))
        };
        if publishes {
            self.changes.publish(&self.key);
        }
        result
    }

    /// Publishes a change that the state does not hold: at once, or at the end of a probe that is in flight and may have
    /// caused it.
    fn publish_external(&self) {
        {
            let mut state = self.lock();
            if state.probes_in_flight > 0 {
                state.unpublished = true;
                return;
            }
        }
        self.changes.publish(&self.key);
    }

    /// Since when the credential of `settings` has been refused; it starts now if it is new.
    pub(crate) fn refused_since(&self, settings: &Settings) -> Mono {
        let now = self.clock.mono();
        let mut state = self.lock();
        // An older credential says nothing about the one in force.
        if state.verification_revision != *settings.verification_revision() {
            return now;
        }
        *state.refused_since.get_or_insert(now)
    }

    /// Drops the cached responses: the credential that they were obtained with has ended.
    pub(crate) fn drop_responses(&self) {
        if let Some(cache) = self.response_cache.get() {
            cache.clear();
        }
    }

    /// Publishes that the Secrets differ from the settings in force, so that the controller applies new ones. Responses
    /// that were obtained with the former credential are dropped.
    pub(crate) fn secret_changed(&self) {
        self.drop_responses();
        tracing::info!(
            namespace = %self.key.namespace, name = %self.key.name,
            "credential was refused and the Secret holds a new one; calls use it, and new settings are requested"
        );
        self.publish_external();
    }

    /// Admits or rejects a call.
    pub(crate) fn admit(&self, class: CallClass, now: Mono) -> Result<Permit, CallNotPermitted> {
        self.update_and_publish(Publish::of(class), |state, _| {
            let admitted = state.breaker.admit(class, now);
            if admitted.is_ok() {
                state.retry_budget.deposit(now);
                state.probes_in_flight += u32::from(class == CallClass::Probe);
            }
            let transition = state.breaker.take_transition();
            state.transitions.extend(transition);
            admitted
        })
    }

    /// Counts a call that the breaker rejected.
    pub(crate) fn record_refused(&self, operation: &Arc<str>) {
        self.lock().counts.request(operation, ResultCode::Reason("circuit_open"), "refused");
    }

    /// Returns the permit of a call of `class` that was dropped before it ended.
    pub(crate) fn record_abandoned(&self, class: CallClass, permit: Permit) {
        self.update(|state, now| {
            state.call_ended(class);
            state.breaker.abandon(permit, now);
            let transitions = state.breaker.settle(now);
            state.transitions.extend(transitions.into_iter().flatten());
        });
    }

    /// Records a call that has ended; returns what was recorded of a probe.
    pub(crate) fn record(&self, settings: &Settings, call: &CompletedCall<'_>) -> Option<ProbeRecord> {
        let CompletedCall { permit, class, operation, started, progress, result: end } = *call;
        let check = settings.health_check();
        let assessment = progress.assess_with(end, |end| assess(settings.failure_criteria(), class, check, end));
        let CallAssessment { outcome, health, credentials, mismatch } = assessment.unwrap_or(CallAssessment::NEUTRAL);
        let now = self.clock.now();
        let elapsed = now.mono.since(progress.sent_at().unwrap_or(started));
        let probe = class == CallClass::Probe;
        let (result, code) = match end {
            Ok(response) => {
                (CallResult::Status(response.status.as_u16()), ResultCode::Status(response.status.as_u16()))
            }
            Err(error) => (CallResult::Error(error.clone()), ResultCode::Reason(error.code())),
        };
        let total = now.mono.since(started);
        self.metrics.call(settings.provider(), operation, probe, total);
        if !probe {
            self.metrics.legacy().call(settings.provider(), operation, end, total);
        }
        self.update(|state, mono| {
            state.counts.request(operation, code, outcome_label(outcome));
            state.call_ended(class);
            let is_in_force = state.verification_revision == *settings.verification_revision();
            // A fault of older credentials is corrected already; what the provider did counts all the same.
            let corrected = outcome == CallOutcome::OwnFault && !is_in_force;
            let counted = if corrected { CallOutcome::Ignored } else { outcome };
            let transition = state.breaker.record(permit, counted, elapsed, mono);
            state.transitions.extend(transition);
            let success = health == CallOutcome::Success;
            let record = probe.then(|| ProbeRecord { at: now.wall, success, elapsed, result: result.clone() });
            if probe {
                state.last_probe.clone_from(&record);
            }
            // An older endpoint or credential says nothing about the one in force.
            if !is_in_force {
                return record;
            }
            state.token_missing = end.err().is_some_and(CallError::is_token_unavailable);
            // Every call moves the risk; the consecutive checks are the probes, or all calls if the mode is passive.
            let passive = check.mode == CheckMode::Passive;
            if health != CallOutcome::Ignored {
                // What says nothing about the provider, such as a rejected credential, trips no circuit.
                let may_trip = matches!(outcome, CallOutcome::Success | CallOutcome::Failure);
                let is_check = probe || passive;
                let responded = end.is_ok();
                let is_scheduled = probe && !passive;
                let latency = Some(elapsed);
                let observation = Observation { success, responded, latency, is_check, is_scheduled };
                state.observe_health(HealthObservation { observation, may_trip }, mono);
                if is_check {
                    state.check_failure.observe((!success).then(|| check_failure(end, mismatch, settings.base_url())));
                }
                if passive && probe && success {
                    state.health.end_outage();
                }
            }
            // A request that was never sent proves nothing; but a probe that cannot be sent has ended too, or the
            // verification would stay pending forever.
            if probe || !end.err().is_some_and(CallError::is_local) {
                state.record_credentials(credentials, &result, mono);
            }
            record
        })
    }

    /// Applies new settings; `old` are those in force so far.
    pub(crate) fn reconfigure(&self, old: &Settings, new: &Settings) {
        let wanted = override_for(new.circuit_override(), self.clock.now());
        if old.verification_revision() != new.verification_revision() {
            self.drop_responses();
        }
        self.update(|state, now| {
            if old.breaker() != new.breaker() {
                let transition = state.breaker.set_policy(*new.breaker(), now);
                state.transitions.extend(transition);
            }
            if old.circuit_override() != new.circuit_override() {
                state.circuit_override = new.circuit_override();
                let transition = state.breaker.set_override(wanted, now);
                state.transitions.extend(transition);
            }
            state.health.set_thresholds(thresholds(new.health_check()));
            // Another endpoint, or another way to authenticate, has yet to pass a check.
            state.ever_healthy &= old.target() == new.target();
            if old.verification_revision() != new.verification_revision() {
                state.verification = Verification::Pending;
                state.verification_revision = Arc::clone(new.verification_revision());
                state.authenticated = None;
                state.token_missing = false;
                state.token_fault = None;
                state.refused_since = None;
                // A circuit that rejected credentials opened must not outlast them; the next check is the trial.
                state.breaker.forgive_own_faults(now);
                if old.base_url() != new.base_url() {
                    // Another endpoint is another provider; new credentials are not.
                    state.health.reset();
                    state.check_failure = CheckFailureLatch::default();
                }
            }
        });
    }
}

/// When a change of the state is published.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Publish {
    Now,
    /// At the end of the probe that causes it: a probe is published once.
    AtProbeEnd,
}

impl Publish {
    /// For a change that a running call of `class` causes.
    const fn of(class: CallClass) -> Self {
        match class {
            CallClass::Probe => Self::AtProbeEnd,
            CallClass::Read | CallClass::Write | CallClass::Money => Self::Now,
        }
    }
}

/// The override on the breaker's monotonic clock.
fn override_for(configured: Option<CircuitOverride>, now: Now) -> Option<Override> {
    configured.map(|o| Override { mode: o.mode, until: now.mono_at(o.until) })
}

fn thresholds(check: &HealthCheck) -> Thresholds {
    Thresholds {
        healthy: check.healthy_threshold,
        unhealthy: check.unhealthy_threshold,
        latency: check.latency_threshold,
    }
}

pub(crate) const fn outcome_label(outcome: CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Success => "success",
        CallOutcome::Failure => "failure",
        CallOutcome::OwnFault | CallOutcome::Ignored => IGNORED,
    }
}
