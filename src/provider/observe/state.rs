//! What is behind a connection's lock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::breaker::{self, Breaker, Effective, Throttle, Transition};
use crate::domain::budget::Budget;
use crate::domain::health::{Health, Monitor, Ppm, RiskTier};
use crate::domain::quota::{Closed, Quota};
use crate::domain::time::{Mono, Now};
use crate::provider::call::CallError;
use crate::provider::classify::Credentials;
use crate::provider::observe::{Ended, LastProbe, Verdict};
use crate::provider::series::Counts;
use crate::provider::settings::Settings;

/// All that changes while a connection runs.
pub(crate) struct State {
    pub(super) breaker: Breaker,
    /// Until when the settings in force override the circuit: the breaker's own instant is derived from it time and again.
    pub(super) override_until: Option<Timestamp>,
    /// Whether somebody was told that the circuit flaps.
    pub(super) flap_told: bool,
    pub(super) health: Monitor,
    pub(super) verdict: Verdict,
    pub(super) verdict_revision: Arc<str>,
    pub(super) authenticated: Option<bool>,
    pub(super) refused_since: Option<Mono>,
    pub(super) last_probe: Option<LastProbe>,
    /// Until when the provider asked to be left alone.
    pub(super) throttle: Throttle,
    /// The same as wall time: fixed when the pause began, so that two clocks that drift apart never make it look moved.
    pub(super) throttle_wall: Option<Timestamp>,
    /// How often in a row it did so without saying how long.
    pub(super) strikes: u8,
    pub(super) budget: Budget,
    /// Made when a limit first applies: most connections have none.
    pub(super) quota: Option<Box<Quota>>,
    /// Made when a provider first closes a partition.
    pub(super) closed: Option<Box<Closed>>,
    /// Whether the last call could not be made for want of a token.
    pub(super) tokenless: bool,
    pub(crate) counts: Counts,
}

/// What of the state a status shows at once.
#[derive(PartialEq)]
pub(super) struct Shown {
    effective: Effective,
    epoch: i64,
    health: Health,
    tier: RiskTier,
    verdict: Verdict,
    authenticated: Option<bool>,
    throttle: Throttle,
    tokenless: bool,
}

impl State {
    pub(super) fn shown(&self) -> Shown {
        Shown {
            effective: self.breaker.effective(),
            epoch: self.breaker.epoch(),
            health: self.health.health(),
            tier: self.health.tier(),
            verdict: self.verdict.clone(),
            authenticated: self.authenticated,
            throttle: self.throttle,
            tokenless: self.tokenless,
        }
    }

    /// Whether the circuit flaps and nobody was told: once per time of flapping, which lasts until an opening that is none.
    pub(super) fn newly_flapping(&mut self) -> bool {
        let flapping = self.breaker.is_flapping();
        let newly = flapping && !self.flap_told;
        // Between two openings a flapping circuit is closed, and looks like any other.
        if flapping || self.breaker.state() == breaker::State::Open {
            self.flap_told = flapping;
        }
        newly
    }

    pub(crate) fn effective(&self) -> Effective {
        self.breaker.effective()
    }

    pub(crate) fn last_probe(&self) -> Option<&LastProbe> {
        self.last_probe.as_ref()
    }

    /// Until when the provider asked to be left alone, while that is so.
    pub(crate) fn throttled_until(&self, now: Mono) -> Option<Timestamp> {
        self.throttle.until(now).and(self.throttle_wall)
    }

    /// What is left of the limit that has least left, and of how many.
    pub(crate) fn quota_left(&self, settings: &Settings, now: Now) -> Option<(u32, u32)> {
        let rules = settings.quota()?;
        self.quota.as_ref().map_or_else(|| Quota::default().least(rules, now), |quota| quota.least(rules, now))
    }

    pub(crate) fn risk(&self, now: Mono) -> Ppm {
        self.health.risk(now)
    }

    /// Health takes in the end of a check, or of a call that is none; on its turn to the worst the circuit may open.
    pub(super) fn observe_health(
        &mut self,
        check: bool,
        success: bool,
        elapsed: Duration,
        now: Mono,
    ) -> Option<Transition> {
        let seen = if check {
            self.health.observe_check(success, elapsed, now)
        } else {
            self.health.observe_call(success, elapsed, now)
        };
        if seen.turned_critical() { self.breaker.trip_unhealthy(now) } else { None }
    }

    pub(super) fn judge_credentials(&mut self, said: Credentials, ended: &Ended, now: Mono) {
        match said {
            Credentials::Accepted => {
                self.authenticated = Some(true);
                self.refused_since = None;
                self.verdict = Verdict::Verified;
            }
            Credentials::Refused => {
                self.authenticated = Some(false);
                self.refused_since.get_or_insert(now);
                if matches!(self.verdict, Verdict::Pending | Verdict::AuthenticationFailed { .. }) {
                    self.verdict = Verdict::AuthenticationFailed { status: status_of(ended) };
                }
            }
            Credentials::Silent => {
                // An address that is not connected to is told as long as it is one, and no longer.
                let refused = |ended: &Ended| matches!(ended, Ended::Error(CallError::Refused(_)));
                let news = match &self.verdict {
                    Verdict::Pending => true,
                    Verdict::Inconclusive(before) => refused(before) != refused(ended),
                    Verdict::Verified | Verdict::AuthenticationFailed { .. } => false,
                };
                if news {
                    self.verdict = Verdict::Inconclusive(ended.clone());
                }
            }
        }
    }
}

fn status_of(ended: &Ended) -> u16 {
    match ended {
        Ended::Status(status) | Ended::Error(CallError::CredentialsRefused { status }) => *status,
        Ended::Error(_) => 0,
    }
}
