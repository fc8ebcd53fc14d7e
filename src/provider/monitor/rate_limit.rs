//! Rate limiting of a connection: its quota, the provider's rate limits, the retry budget.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::breaker::{CallClass, MAX_THROTTLE, Permit, PermitKind};
use crate::domain::clock_skew::{TOLERANCE, ends};
use crate::domain::quota::{DayUsage, LimitScope, QuotaRequest, QuotaRules, RetryAt, WindowId};
use crate::domain::time::{Mono, Now};
use crate::profile::{Classification, ResponseClass};
use crate::provider::call::{CallError, Request};
use crate::provider::metrics::{ResultCode, SKIPPED};
use crate::provider::monitor::snapshot::Verification;
use crate::provider::monitor::state::MonitorState;
use crate::provider::monitor::{ConnectionMonitor, Publish};
use crate::provider::probe::CallResult;
use crate::settings::Settings;

/// Why a call gets no quota now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum QuotaDenial {
    /// The provider rate limits the connection until then.
    RateLimited(Mono),
    /// The provider rate limits this partition until then.
    PartitionBlocked(Mono),
    /// A limit is used up. The call is counted as waiting if it can wait that long.
    LimitReached(RetryAt),
}

/// How a request got its quota.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum QuotaGrant {
    /// Nothing was against it.
    Free,
    /// A user requested it although the provider's rate limit has not ended.
    PauseOverridden,
}

/// The response to one request, as far as rate limits are concerned.
#[derive(Copy, Clone)]
pub(crate) struct ObservedResponse<'a> {
    pub(crate) class: CallClass,
    pub(crate) operation: &'a str,
    pub(crate) partition: Option<&'a str>,
    pub(crate) classification: Classification,
    pub(crate) grant: QuotaGrant,
}

/// Why a retry is denied.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum RetryDenied {
    /// The circuit opened meanwhile.
    CircuitOpen,
    /// The retry budget is used up.
    BudgetExhausted,
}

impl ConnectionMonitor {
    /// Takes quota for one request, or returns why there is none and until when. A call that can wait that long (before
    /// `latest`) is counted as waiting.
    pub(crate) fn acquire_quota(
        &self,
        settings: &Settings,
        request: &Request,
        waited: bool,
        latest: Mono,
    ) -> Result<QuotaGrant, QuotaDenial> {
        let mut state = self.lock();
        let now = self.clock.now();
        let paused = state.paused(request, now.mono);
        if let Some(denial) = paused
            && !(request.requested && state.may_override(now.mono))
        {
            return Err(denial);
        }
        if let Some(rules) = settings.quota() {
            let quota = state.quota.get_or_insert_default();
            quota.try_acquire(rules, demand(request, waited), now).map_err(|retry| {
                if retry.at < latest {
                    quota.add_waiter(retry.window_id);
                }
                QuotaDenial::LimitReached(retry)
            })?;
        }
        if paused.is_none() {
            return Ok(QuotaGrant::Free);
        }
        state.pause_overridden_at = Some(now.mono);
        Ok(QuotaGrant::PauseOverridden)
    }

    /// Takes over the requests that a former process counted.
    pub(crate) fn restore_quota(&self, rules: &QuotaRules, stored: &[DayUsage]) {
        if !stored.is_empty() {
            self.lock().quota.get_or_insert_default().restore(rules, stored, self.clock.now());
        }
    }

    /// What the ledger must count before `request`, which has got its quota, may be sent.
    pub(crate) fn unstored_quota(&self, rules: &QuotaRules, request: &Request) -> Vec<DayUsage> {
        let now = self.clock.now();
        self.lock().quota.as_mut().map_or_else(Vec::new, |quota| quota.unstored(rules, demand(request, true), now))
    }

    /// The ledger has counted `added`, and has `totals` now.
    pub(crate) fn mark_quota_stored(&self, added: &[DayUsage], totals: &[DayUsage]) {
        if let Some(quota) = &mut self.lock().quota {
            for (added, total) in added.iter().zip(totals) {
                quota.mark_stored(added, total);
            }
        }
    }

    /// A call that waited for `window` got its quota or gave up.
    pub(crate) fn leave_queue(&self, window: WindowId) {
        if let Some(quota) = &mut self.lock().quota {
            quota.remove_waiter(window);
        }
    }

    /// Applies what a response says about rate limits; returns for how long further requests are delayed. A rate limit
    /// delays the whole connection, unless the profile scopes it to a partition and the request had one.
    pub(crate) fn observe_response(&self, settings: &Settings, response: &ObservedResponse<'_>) -> Option<Duration> {
        let ObservedResponse { class, operation, partition, classification, grant } = *response;
        let limited = matches!(classification.class, ResponseClass::RateLimited | ResponseClass::Quota);
        let overridden = grant == QuotaGrant::PauseOverridden;
        // A transient fault does not say whether the provider takes requests again.
        let accepted = !limited && overridden && classification.class != ResponseClass::Retry;
        if !limited && !accepted && classification.class != ResponseClass::Ok {
            return None;
        }
        let now = self.clock.now();
        {
            let mut state = self.lock();
            // A rate limit of another endpoint or of other credentials does not apply to those in force.
            if state.verification_revision != *settings.verification_revision() {
                return None;
            }
            if !limited {
                state.consecutive_throttles = 0;
            }
            if let (Some(blocked), Some(partition)) = (&mut state.blocked, partition) {
                if overridden && (accepted || classification.retry_after.is_some()) {
                    blocked.unblock(operation, partition, now.mono);
                }
                if !limited {
                    blocked.forget(operation, partition, now.mono);
                }
            }
        }
        if accepted {
            self.update_and_publish(Publish::of(class), |state, _| end_throttle(state));
        }
        if !limited {
            return None;
        }
        let length = |repeats: u8| pause_length(settings, &classification, repeats, now.wall);
        if let (LimitScope::Partition, Some(partition)) = (classification.scope, partition) {
            let mut state = self.lock();
            let blocked = state.blocked.get_or_insert_default();
            blocked.block(operation, partition, now.mono, length);
            return blocked.blocked_until(operation, partition, now.mono).map(|until| until.since(now.mono));
        }
        self.update_and_publish(Publish::of(class), |state, _| {
            let asked = classification.retry_delay(now.wall);
            if state.throttle.until(now.mono).is_some() && !overridden {
                // The answer to a request sent before the rate limit is no repetition; it may ask for a longer one.
                if let Some(delay) = asked {
                    throttle(state, delay, now);
                }
            } else {
                let delay = length(state.consecutive_throttles);
                state.consecutive_throttles = state.consecutive_throttles.saturating_add(1);
                if overridden && asked.is_some() {
                    end_throttle(state);
                }
                throttle(state, delay, now);
            }
            state.throttle.until(now.mono).map(|until| until.since(now.mono))
        })
    }

    /// Like [`observe_response`](Self::observe_response), for a request that overrode nothing.
    #[cfg(test)]
    pub(crate) fn observe_rate_limit(
        &self,
        settings: &Settings,
        class: CallClass,
        operation: &str,
        partition: Option<&str>,
        classification: Classification,
    ) {
        let grant = QuotaGrant::Free;
        self.observe_response(settings, &ObservedResponse { class, operation, partition, classification, grant });
    }

    /// Admits or denies another try of a call that the breaker admitted.
    pub(crate) fn admit_retry(&self, settings: &Settings, permit: Option<Permit>) -> Result<(), RetryDenied> {
        let mut state = self.lock_current();
        let now = self.clock.mono();
        if permit.is_some_and(|permit| !state.breaker.admit_retry(permit, now)) {
            return Err(RetryDenied::CircuitOpen);
        }
        if !state.retry_budget.try_withdraw(settings.retry().budget_percent, now) {
            return Err(RetryDenied::BudgetExhausted);
        }
        drop(state);
        self.metrics.retry(settings.provider());
        Ok(())
    }

    /// Whether the breaker still admits the try that a call has waited for.
    pub(crate) fn still_admits(&self, permit: Option<Permit>) -> bool {
        permit.is_none_or(|permit| {
            let mut state = self.lock_current();
            state.breaker.admit_retry(permit, self.clock.mono())
        })
    }

    /// Whether a call that has waited is no trial, or one whose lease is not over; renews that. A trial that waits for
    /// quota is alive, and its try still needs the time of one.
    pub(crate) fn keeps_trial(&self, permit: Option<Permit>) -> bool {
        permit.is_none_or(|permit| permit.kind() != PermitKind::Trial) || self.still_admits(permit)
    }

    /// Records a probe that was skipped for lack of quota: it is counted and proves nothing about the provider.
    pub(crate) fn record_skipped(&self, settings: &Settings, permit: Permit, operation: &Arc<str>, error: &CallError) {
        self.update(|state, now| {
            state.call_ended(CallClass::Probe);
            state.counts.request(operation, ResultCode::Reason(error.code()), SKIPPED);
            state.breaker.abandon(permit, now);
            // A skipped probe has ended too, or the verification would stay pending as long as the rate limit lasts.
            if state.verification == Verification::Pending
                && state.verification_revision == *settings.verification_revision()
            {
                state.verification = Verification::Inconclusive(CallResult::Error(error.clone()));
            }
            let transitions = state.breaker.settle(now);
            state.transitions.extend(transitions.into_iter().flatten());
        });
    }
}

/// What a request takes from the quota.
fn demand(request: &Request, waited: bool) -> QuotaRequest<'_> {
    let money = request.class == CallClass::Money;
    let partition = request.partition.as_deref().unwrap_or_default();
    QuotaRequest { operation: &request.operation, partition, money, waited }
}

/// For how long requests are delayed after a rate limit: the longer of what the provider asks for and of the backoff,
/// which grows with the rate limits before this one; at most a day.
fn pause_length(settings: &Settings, classification: &Classification, repeats: u8, wall: Timestamp) -> Duration {
    let backoff = settings.retry().backoff().ceiling(repeats.into()).max(MIN_THROTTLE);
    let daily = || (classification.class == ResponseClass::Quota).then(|| until_next_day(settings, wall));
    let asked = classification.retry_delay(wall).or_else(daily).unwrap_or_default();
    asked.max(backoff).min(MAX_THROTTLE)
}

impl MonitorState {
    /// Why the provider's rate limits deny `request` now.
    fn paused(&self, request: &Request, now: Mono) -> Option<QuotaDenial> {
        if let Some(at) = self.throttle.until(now) {
            return Some(QuotaDenial::RateLimited(at));
        }
        let (blocked, partition) = (self.blocked.as_ref()?, request.partition.as_ref()?);
        blocked.blocked_until(&request.operation, partition, now).map(QuotaDenial::PartitionBlocked)
    }

    /// Whether a requested call may be sent although the provider's rate limit has not ended.
    fn may_override(&self, now: Mono) -> bool {
        self.pause_overridden_at.is_none_or(|at| now.since(at) >= MIN_OVERRIDE_INTERVAL)
    }

    /// Restores a rate limit that a former process received.
    pub(crate) fn restore_throttle(&mut self, until: Timestamp, now: Now) {
        let until = ends(until, now.wall, MAX_THROTTLE);
        let left = Duration::try_from(until.duration_since(now.wall)).unwrap_or_default();
        throttle(self, left, now);
    }
}

/// Delays calls, unless they are delayed for longer already. The wall time is rounded up to whole seconds, so that a
/// process that restores it does not call too early.
fn throttle(state: &mut MonitorState, delay: Duration, now: Now) {
    if state.throttle.extend(delay, now.mono) {
        state.throttled_until_wall = state.throttle.until(now.mono).map(|at| round_up(now.wall_at(at)));
    }
}

/// Ends the rate limit of the connection.
fn end_throttle(state: &mut MonitorState) {
    state.throttle.end();
    state.throttled_until_wall = None;
}

/// Corrects the wall time at which the rate limit ends, if the clock was set since.
pub(super) fn follow_wall_clock(state: &mut MonitorState, now: Now) {
    let exact = state.throttle.until(now.mono).map(|at| now.wall_at(at));
    state.throttled_until_wall = exact.map(|exact| {
        let stored = state.throttled_until_wall.filter(|at| at.duration_since(exact).abs() <= TOLERANCE);
        stored.unwrap_or_else(|| round_up(exact))
    });
}

fn round_up(at: Timestamp) -> Timestamp {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    if whole < at { Timestamp::from_second(at.as_second() + 1).unwrap_or(at) } else { whole }
}

/// Minimum delay after a 429, whatever the backoff is.
const MIN_THROTTLE: Duration = Duration::from_secs(1);

/// Minimum time between two requested calls during a rate limit: requests in quick succession, such as
/// a script's, must not get the key banned.
pub(crate) const MIN_OVERRIDE_INTERVAL: Duration = Duration::from_secs(10);

/// Time until the provider's next day: a quota without a reset time is taken as a daily one.
fn until_next_day(settings: &Settings, wall: Timestamp) -> Duration {
    let zone = settings.quota().map_or(TimeZone::UTC, |rules| rules.zone.clone());
    let tomorrow = wall.to_zoned(zone.clone()).date().tomorrow().and_then(|day| day.to_zoned(zone));
    let left = tomorrow.ok().and_then(|start| Duration::try_from(start.timestamp().duration_since(wall)).ok());
    left.unwrap_or(MAX_THROTTLE).max(MIN_THROTTLE)
}
