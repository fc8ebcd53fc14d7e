//! Whose turn it is: the quota, the pause that a provider asked for, the budget of retries.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::breaker::{CallClass, MAX_THROTTLE, Permit};
use crate::domain::quota::{Ask, Later, Place, Scope};
use crate::domain::time::{Mono, Now};
use crate::provider::call::{CallError, Request};
use crate::provider::classify::{Class, Reading};
use crate::provider::observe::{Core, Ended, State, Verdict};
use crate::provider::series::{Code, SKIPPED};
use crate::provider::settings::Settings;

/// It is not this call's turn.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Held {
    /// The provider asked for a pause until then.
    Paused(Mono),
    /// The provider has no more for this partition until then.
    Closed(Mono),
    /// A limit is used up. The call is counted as waiting if it can wait so long.
    Full(Later),
}

/// Why there is no other try.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    /// The circuit opened meanwhile.
    Circuit,
    /// The connection has had its share of retries.
    Budget,
}

impl Core {
    /// Takes a turn of the quota, or says until when there is none. Who can wait until then (`latest`, exclusive) is
    /// counted as waiting.
    pub(crate) fn take_turn(
        &self,
        settings: &Settings,
        request: &Request,
        waited: bool,
        latest: Mono,
    ) -> Result<(), Held> {
        let mut state = self.lock();
        if let Some(at) = state.throttle.until(self.clock.mono()) {
            return Err(Held::Paused(at));
        }
        if let (Some(closed), Some(partition)) = (&state.closed, &request.partition)
            && let Some(at) = closed.until(&request.operation, partition, self.clock.mono())
        {
            return Err(Held::Closed(at));
        }
        let Some(rules) = settings.quota() else { return Ok(()) };
        let money = request.class == CallClass::Money;
        let partition = request.partition.as_deref().unwrap_or_default();
        let ask = Ask { operation: &request.operation, partition, money, waited };
        let quota = state.quota.get_or_insert_default();
        quota.take(rules, ask, self.clock.now()).map_err(|later| {
            if later.at < latest {
                quota.wait(later.place);
            }
            Held::Full(later)
        })
    }

    /// Whoever waited at `place` has his turn, or gave up.
    pub(crate) fn leave(&self, place: Place) {
        if let Some(quota) = &mut self.lock().quota {
            quota.leave(place);
        }
    }

    /// Takes up what an answer says about the pace: a provider that asks us to slow down pauses the whole connection,
    /// unless its profile says that it spoke of one partition and the request was about one. `asked` is its operation and
    /// partition.
    pub(crate) fn heard(&self, settings: &Settings, asked: (&str, Option<&str>), reading: Reading) {
        if !matches!(reading.class, Class::RateLimited | Class::Quota | Class::Ok) {
            return;
        }
        {
            let mut state = self.lock();
            // What another endpoint, or the one in force under other credentials, wants is not what this one wants.
            if state.verdict_revision != *settings.verdict_revision() {
                return;
            }
            if reading.class == Class::Ok {
                state.strikes = 0;
                return;
            }
        }
        let now = self.clock.now();
        let wall = now.wall;
        if let (Scope::Partition, (operation, Some(partition))) = (reading.scope, asked) {
            let untold = || match reading.class {
                Class::Quota => until_tomorrow(settings, wall),
                _ => settings.retry().backoff().ceiling(0).max(SHORTEST_PAUSE),
            };
            let length = reading.asked(wall).unwrap_or_else(untold).min(MAX_THROTTLE);
            let mut state = self.lock();
            state.closed.get_or_insert_default().close(operation, partition, length, now.mono);
            return;
        }
        self.change(|state, _| {
            if let Some(asked) = reading.asked(wall) {
                pause(state, asked, now);
            } else if state.throttle.until(now.mono).is_none() {
                // Not told how long. What was sent before a pause and is answered in it makes it no longer.
                let length = match reading.class {
                    Class::Quota => until_tomorrow(settings, wall),
                    _ => settings.retry().backoff().ceiling(state.strikes.into()).max(SHORTEST_PAUSE),
                };
                state.strikes = state.strikes.saturating_add(1);
                pause(state, length, now);
            }
            ((), [None, None])
        });
    }

    /// Takes up a pause that a former process was asked for.
    pub(crate) fn pause_until(&self, until: Timestamp) {
        let now = self.clock.now();
        let left = Duration::try_from(until.duration_since(now.wall)).unwrap_or_default();
        self.change(|state, _| {
            pause(state, left, now);
            ((), [None, None])
        });
    }

    /// Asks for another try of a call that the breaker let in.
    pub(crate) fn retry(&self, settings: &Settings, permit: Option<Permit>) -> Result<(), Denied> {
        let mut state = self.current();
        let now = self.clock.mono();
        if permit.is_some_and(|permit| !state.breaker.go_on(permit, now)) {
            return Err(Denied::Circuit);
        }
        if !state.budget.retry(settings.retry().budget_percent, now) {
            return Err(Denied::Budget);
        }
        drop(state);
        self.series.retry(settings.provider());
        Ok(())
    }

    /// Whether the breaker still lets a call make the try that it waited for.
    pub(crate) fn still_admits(&self, permit: Option<Permit>) -> bool {
        permit.is_none_or(|permit| {
            let mut state = self.current();
            state.breaker.go_on(permit, self.clock.mono())
        })
    }

    /// A probe had no turn: it is counted, and says nothing about the provider.
    pub(crate) fn skipped(&self, settings: &Settings, permit: Permit, operation: &Arc<str>, error: &CallError) {
        self.change(|state, now| {
            state.counts.request(operation, Code::Word(error.code()), SKIPPED);
            state.breaker.abandon(permit, now);
            // A check that cannot be made has ended too, or the verdict would be awaited for as long as the pause lasts.
            if state.verdict == Verdict::Pending && state.verdict_revision == *settings.verdict_revision() {
                state.verdict = Verdict::Inconclusive(Ended::Error(error.clone()));
            }
            ((), [state.breaker.tick(now), None])
        });
    }
}

/// Holds calls back, unless they are held back for longer already. The wall time is whole seconds, rounded up, so that
/// nobody who takes it up comes too early.
fn pause(state: &mut State, length: Duration, now: Now) {
    if state.throttle.note(length, now.mono) {
        let until = state.throttle.until(now.mono).map(|at| now.wall_at(at));
        let up = |at: Timestamp| {
            let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
            if whole < at { Timestamp::from_second(at.as_second() + 1).unwrap_or(at) } else { whole }
        };
        state.throttle_wall = until.map(up);
    }
}

/// A provider that says 429 and no time is left alone for this long at least, whatever the back-off is.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Until the provider's next day: a quota that says nothing of its end is taken for a daily one.
fn until_tomorrow(settings: &Settings, wall: Timestamp) -> Duration {
    let zone = settings.quota().map_or(TimeZone::UTC, |rules| rules.zone.clone());
    let tomorrow = wall.to_zoned(zone.clone()).date().tomorrow().and_then(|day| day.to_zoned(zone));
    let left = tomorrow.ok().and_then(|start| Duration::try_from(start.timestamp().duration_since(wall)).ok());
    left.unwrap_or(MAX_THROTTLE).max(SHORTEST_PAUSE)
}
