//! What is known about one connection: its circuit, its health, what its credentials are worth.
//!
//! Every call reports here, once. All of it sits behind one short lock; nobody waits for I/O under it. Whoever is
//! interested in changes is told after the lock is gone, and only of changes that a status shows.

mod passing;
mod said;
mod state;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::clock::Clock;
use crate::domain::breaker::{
    self, Breaker, CallClass, Outcome, Override, Permit, Refusal, Snapshot, Throttle, Transition,
};
use crate::domain::budget::Budget;
use crate::domain::health::{Monitor, Thresholds};
use crate::domain::key::ObjectKey;
use crate::domain::time::{Mono, Now};
use crate::provider::auth::source::Refreshing;
use crate::provider::cache::Kept;
use crate::provider::call::{Answer, CallError};
use crate::provider::classify::{Judgement, judge};
use crate::provider::course::Course;
use crate::provider::profile::CheckMode;
use crate::provider::registry::{Change, Listeners};
use crate::provider::series::{Code, Counts, IGNORED, Shared};
use crate::provider::settings::{CircuitOverride, HealthCheck, Settings};
use crate::telemetry::traces::Traces;

pub use self::said::{Ended, LastProbe, LiveStatus, Verdict};
pub(crate) use self::state::State;
pub(crate) use self::turns::{Denied, Held};

/// The part of a connection that outlives its settings.
pub(crate) struct Core {
    key: ObjectKey,
    clock: Clock,
    listeners: Arc<Listeners>,
    series: Arc<Shared>,
    state: Mutex<State>,
    /// Made when the cache is first used: most connections have none.
    kept: OnceLock<Box<Kept>>,
    /// Refreshing goes one at a time, over changes of settings too.
    refreshing: OnceLock<Box<Refreshing>>,
}

impl Core {
    pub(crate) fn new(
        key: ObjectKey,
        clock: Clock,
        listeners: Arc<Listeners>,
        series: Arc<Shared>,
        settings: &Settings,
        restore: Option<&Snapshot>,
    ) -> Arc<Self> {
        let now = clock.now();
        let mut breaker = match restore {
            Some(snapshot) => Breaker::restore(*settings.breaker(), snapshot, now),
            None => Breaker::new(*settings.breaker(), now.mono),
        };
        let mut counts = Counts::default();
        if let Some(moved) = breaker.set_override(overlay(settings.circuit_override(), now), now.mono) {
            counts.transition(&moved);
        }
        let state = State {
            breaker,
            override_until: settings.circuit_override().map(|o| o.until),
            flap_told: false,
            health: Monitor::new(thresholds(settings.health_check())),
            verdict: Verdict::Pending,
            verdict_revision: Arc::clone(settings.verdict_revision()),
            authenticated: None,
            refused_since: None,
            last_probe: None,
            throttle: Throttle::default(),
            throttle_wall: None,
            strikes: 0,
            budget: Budget::default(),
            quota: None,
            closed: None,
            tokenless: false,
            counts,
        };
        let (kept, refreshing) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { key, clock, listeners, series, state: Mutex::new(state), kept, refreshing })
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Where the spans of its calls go.
    pub(crate) fn traces(&self) -> &Traces {
        self.series.traces()
    }

    /// The answers that are kept.
    pub(crate) fn kept(&self) -> &Kept {
        self.kept.get_or_init(|| Box::new(Kept::new(self.series.cache_bytes().clone())))
    }

    pub(crate) fn series(&self) -> &Shared {
        &self.series
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `act` under the lock, counts the transitions it returns, and tells listeners if anything a status shows is
    /// different afterwards.
    fn change<T>(&self, act: impl FnOnce(&mut State, Mono) -> (T, [Option<Transition>; 2])) -> T {
        let (result, changed) = {
            let mut state = self.current();
            let before = state.shown();
            let (result, transitions) = act(&mut state, self.clock.mono());
            for transition in transitions.into_iter().flatten() {
                state.counts.transition(&transition);
                tracing::info!(
                    namespace = %self.key.namespace, name = %self.key.name,
                    from = transition.from.as_str(), to = transition.to.as_str(), reason = transition.reason.as_str(),
                    "circuit moved"
                );
            }
            if state.newly_flapping() {
                tracing::warn!(
                    namespace = %self.key.namespace, name = %self.key.name,
                    "the circuit opens again and again: its trials succeed, and calls fail soon after"
                );
            }
            (result, before != state.shown())
        };
        if changed {
            self.listeners.tell(&Change::Observed(self.key.clone()));
        }
        result
    }

    /// The credential of `settings` is refused: since when it is.
    pub(crate) fn refused_since(&self, settings: &Settings) -> Mono {
        let now = self.clock.mono();
        let mut state = self.lock();
        // What an older credential did says nothing about the one in force.
        if state.verdict_revision != *settings.verdict_revision() {
            return now;
        }
        *state.refused_since.get_or_insert(now)
    }

    /// The Secrets hold something else than the settings in force: whoever keeps these should look.
    pub(crate) fn renewed(&self) {
        tracing::info!(
            namespace = %self.key.namespace, name = %self.key.name,
            "a credential was refused, and the Secret holds another one by now"
        );
        self.listeners.tell(&Change::Observed(self.key.clone()));
    }

    /// What is held while a refresh token is used.
    pub(crate) fn refreshing(&self) -> &Refreshing {
        self.refreshing.get_or_init(Box::default)
    }

    /// Counts a request for a token: HTTP status or our word for what happened.
    pub(crate) fn token_asked(&self, code: Result<u16, &'static str>, outcome: &'static str) {
        let code = code.map_or_else(Code::Word, Code::Status);
        self.lock().counts.request(&Arc::from("token"), code, outcome);
    }

    /// The circuit of the token endpoint moved: a line in the log, and a new look at the status.
    pub(crate) fn token_circuit_moved(&self, from: breaker::State, to: breaker::State) {
        tracing::info!(
            namespace = %self.key.namespace, name = %self.key.name, from = from.as_str(), to = to.as_str(),
            "circuit of the token endpoint moved"
        );
        self.listeners.tell(&Change::Observed(self.key.clone()));
    }

    /// Asks the breaker.
    pub(crate) fn admit(&self, class: CallClass, now: Mono) -> Result<Permit, Refusal> {
        self.change(|state, _| {
            let admitted = state.breaker.admit(class, now);
            if admitted.is_ok() {
                state.budget.call(now);
            }
            (admitted, [state.breaker.take_transition(), None])
        })
    }

    /// Counts a call that the breaker refused.
    pub(crate) fn refused(&self, _: &Settings, operation: &Arc<str>) {
        self.lock().counts.request(operation, Code::Word("circuit_open"), "refused");
    }

    /// A call was dropped before it ended.
    pub(crate) fn abandoned(&self, permit: Permit) {
        self.change(|state, now| {
            state.breaker.abandon(permit, now);
            ((), [state.breaker.tick(now), None])
        });
    }

    /// A call ended. Its course says what of it is the provider's.
    pub(crate) fn finished(
        &self,
        settings: &Settings,
        permit: Permit,
        class: CallClass,
        operation: &Arc<str>,
        (started, course): (Mono, &Course),
        end: Result<&Answer, &CallError>,
    ) {
        let check = settings.health_check();
        let judged = course.counts(end, |end| judge(settings.classify(), class, &check.expected_statuses, end));
        let Judgement { outcome, credentials } = judged.unwrap_or(Judgement::NOTHING);
        let now = self.clock.now();
        let elapsed = now.mono.since(course.tried_at().unwrap_or(started));
        let probe = class == CallClass::Probe;
        let (ended, code) = match end {
            Ok(answer) => (Ended::Status(answer.status.as_u16()), Code::Status(answer.status.as_u16())),
            Err(error) => (Ended::Error(error.clone()), Code::Word(error.code())),
        };
        let whole = now.mono.since(started);
        self.series.call(settings.provider(), operation, probe, whole);
        if !probe {
            self.series.compat().call(settings.provider(), operation, end, whole);
        }
        self.change(|state, mono| {
            state.counts.request(operation, code, outcome_label(outcome));
            let moved = state.breaker.record(permit, outcome, elapsed, mono);
            let success = outcome == Outcome::Success;
            if probe {
                state.last_probe = Some(LastProbe { at: now.wall, success, elapsed, ended: ended.clone() });
            }
            // What an older endpoint or credential did says nothing about the one in force.
            if state.verdict_revision != *settings.verdict_revision() {
                return ((), [moved, None]);
            }
            state.tokenless = end.err().is_some_and(CallError::wants_token);
            // Real calls move the risk; the checks in a row are those of the probes, where there are any.
            let is_check = probe || check.mode == CheckMode::Passive;
            let tripped =
                (outcome != Outcome::Ignored).then(|| state.observe_health(is_check, success, elapsed, mono)).flatten();
            // A request that never left says nothing; but a check that cannot even be sent has ended, or the verdict would
            // be awaited for ever.
            if probe || !end.err().is_some_and(CallError::is_our_own) {
                state.judge_credentials(credentials, &ended, mono);
            }
            ((), [moved, tripped])
        });
    }

    /// Puts new settings in force.
    pub(crate) fn reconfigure(&self, old: &Settings, new: &Settings) {
        let wanted = overlay(new.circuit_override(), self.clock.now());
        if old.verdict_revision() != new.verdict_revision()
            && let Some(kept) = self.kept.get()
        {
            kept.clear();
        }
        self.change(|state, now| {
            let moved =
                if old.breaker() == new.breaker() { None } else { state.breaker.set_policy(*new.breaker(), now) };
            let overlaid = if old.circuit_override() == new.circuit_override() {
                None
            } else {
                state.override_until = new.circuit_override().map(|o| o.until);
                state.breaker.set_override(wanted, now)
            };
            state.health.set_thresholds(thresholds(new.health_check()));
            if old.verdict_revision() != new.verdict_revision() {
                state.verdict = Verdict::Pending;
                state.verdict_revision = Arc::clone(new.verdict_revision());
                state.authenticated = None;
                state.tokenless = false;
                state.refused_since = None;
                if old.base_url() != new.base_url() {
                    // Another endpoint is another provider; other credentials are not.
                    state.health.reset();
                }
            }
            ((), [moved, overlaid])
        });
    }

    pub(crate) fn observed(&self, settings: &Settings) -> LiveStatus {
        let state = self.current();
        let now = self.clock.now();
        LiveStatus {
            effective: state.breaker.effective_at(now.mono),
            snapshot: state.breaker.snapshot(now),
            flapping: state.breaker.is_flapping(),
            health: state.health.health(),
            slow: state.health.slow(),
            tier: state.health.tier(),
            risk: state.risk(now.mono),
            verdict: state.verdict.clone(),
            authenticated: state.authenticated,
            refused_since: state.refused_since,
            last_probe: state.last_probe.clone(),
            throttled_until: state.throttled_until(now.mono),
            tokenless: state.tokenless,
            revision: Arc::clone(settings.revision()),
            verdict_revision: Arc::clone(&state.verdict_revision),
        }
    }
}

/// The overlay on the clock that the breaker runs on.
fn overlay(wanted: Option<CircuitOverride>, now: Now) -> Option<Override> {
    wanted.map(|o| Override { mode: o.mode, until: now.mono_at(o.until) })
}

fn thresholds(check: &HealthCheck) -> Thresholds {
    Thresholds {
        healthy: check.healthy_threshold,
        unhealthy: check.unhealthy_threshold,
        latency: check.latency_threshold,
    }
}

pub(crate) const fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Ignored => IGNORED,
    }
}
