//! Failovers of a route: what is one, what the status keeps of it, and the events that report it. Pure.

use jiff::Timestamp;

use crate::api::v1alpha1::bank_route::{BankRouteStatus, CandidateState, CandidateStatus, Failover, WhenNoneAvailable};
use crate::api::v1alpha1::reasons::EventReason;
use crate::cluster::events::EventDraft;
use crate::controllers::conditions::time;
use crate::domain::clock_skew::happened;
use crate::domain::route::{self, CandidateReason, Evaluation, RouteChange, StandingState};

/// The change of the active bank since the previous status.
pub(super) struct ActiveBankChange<'a> {
    /// What kind of change it is.
    pub(super) change: RouteChange,
    /// The bank that was active.
    pub(super) from: Option<&'a str>,
    /// Why it was left, if it failed, its outage is predicted, or a proposal was approved.
    pub(super) reason: Option<CandidateReason>,
}

impl<'a> ActiveBankChange<'a> {
    /// Classifies the change; a suspended route changes nothing.
    pub(super) fn of(previous: Option<&'a BankRouteStatus>, evaluation: &Evaluation, is_suspended: bool) -> Self {
        let from = previous.and_then(|status| status.active.as_deref());
        let change = if is_suspended {
            RouteChange::None
        } else {
            route::change(from, failed_back_to(previous, evaluation), evaluation)
        };
        Self { change, from, reason: from.and_then(|from| route::failover_reason(from, evaluation)) }
    }

    /// The bank that a failover left, and why; `None` if the change is none.
    pub(super) fn failover(&self) -> Option<(&'a str, CandidateReason)> {
        let is_failover = matches!(self.change, RouteChange::FailedOver | RouteChange::NoneAvailable);
        if is_failover { self.from.zip(self.reason) } else { None }
    }

    /// The last failover of the route.
    pub(super) fn last_failover(
        &self,
        previous: Option<&BankRouteStatus>,
        active: Option<&str>,
        now: Timestamp,
    ) -> Option<Failover> {
        if let Some((from, reason)) = self.failover() {
            let (from, to) = (from.to_owned(), active.map(str::to_owned));
            return Some(Failover { time: time(now), from, to, reason: reason.to_string() });
        }
        previous.and_then(|status| status.last_failover.clone()).map(|last| as_of(last, now))
    }

    /// The number of failovers of the route; `None` before the first.
    pub(super) fn failovers(&self, previous: Option<&BankRouteStatus>) -> Option<i64> {
        let before = previous.and_then(|status| status.failovers);
        if self.failover().is_some() { Some(before.unwrap_or_default().saturating_add(1)) } else { before }
    }

    /// The events of the change.
    pub(super) fn events(&self, to: Option<&str>, when_none: WhenNoneAvailable) -> Vec<EventDraft> {
        let (from, to) = (self.from.unwrap_or("none"), to.unwrap_or("none"));
        match self.change {
            RouteChange::FailedOver => vec![EventDraft::warning(EventReason::FailedOver, self.failed_over(from, to))],
            RouteChange::FailedBack => vec![EventDraft::normal(
                EventReason::FailedBack,
                format!("failed back to {to}: it is available and cheapest"),
            )],
            RouteChange::NoneAvailable => {
                let last = match self.reason {
                    Some(reason) => format!("{from} is excluded too ({reason})"),
                    None => format!("{from} does not take the reference payout since the route was edited"),
                };
                let answer = none_available(when_none);
                let message = format!("no bank available: {last}; {answer}; see status.candidates");
                vec![EventDraft::warning(EventReason::NoBankAvailable, message)]
            }
            RouteChange::None | RouteChange::Switched | RouteChange::Available => Vec::new(),
        }
    }

    fn failed_over(&self, from: &str, to: &str) -> String {
        let (cause, back) = match self.reason {
            Some(CandidateReason::PredictedOutage) => (
                format!("an outage of {from} is predicted (PredictedOutage)"),
                format!("fails back when the prediction has passed and {from} is cheapest"),
            ),
            Some(CandidateReason::PredictiveHybrid) => (
                format!("the proposal of {to} was approved (PredictiveHybrid)"),
                format!("fails back when the approval ends and {from} is cheapest"),
            ),
            reason => {
                let reason = reason.map_or("Excluded", CandidateReason::as_str);
                (format!("{from} is excluded ({reason})"), format!("fails back when {from} is available and cheapest"))
            }
        };
        format!("failed over from {from} to {to}: {cause}; {back}")
    }
}

/// What becomes of payouts while no bank is available.
pub(super) fn none_available(policy: WhenNoneAvailable) -> &'static str {
    match policy {
        WhenNoneAvailable::Hold => {
            "payouts are held: decisions are answered with 503 no_route and Retry-After (spec.whenNoneAvailable: Hold)"
        }
        WhenNoneAvailable::Reject => {
            "payouts are rejected: decisions are answered with 422 no_route (spec.whenNoneAvailable: Reject)"
        }
    }
}

/// A failover as of `now`: one that is ahead of the clock happened now.
pub(super) fn as_of(failover: Failover, now: Timestamp) -> Failover {
    Failover { time: time(happened(failover.time.0, now)), ..failover }
}

/// The active bank, if it was left before and has recovered: switching to it is a failback. Any bank that a failover
/// left counts, not only the last one: two may fail one after the other, and the first recover. It counts too if it was
/// dearer for a while after its recovery. A bank that was excluded without being active is not failed back to.
fn failed_back_to<'a>(previous: Option<&BankRouteStatus>, evaluation: &'a Evaluation) -> Option<&'a str> {
    let (previous, active) = (previous?, evaluation.active.as_deref()?);
    // Versions before this one stored only which bank the last failover left.
    let last = previous.last_failover.as_ref()?.from.as_str();
    let outage_reasons = [
        CandidateReason::CircuitOpen,
        CandidateReason::CircuitHalfOpen,
        CandidateReason::ForcedOpen,
        CandidateReason::Suspended,
        CandidateReason::Unhealthy,
    ];
    let was_left = |c: &CandidateStatus| {
        let is_marked = c.failed_over == Some(true);
        let in_outage = || outage_reasons.iter().any(|reason| c.reason == reason.as_str());
        let recovered = if c.state == CandidateState::Excluded { in_outage() } else { is_marked };
        c.name == active && (is_marked || c.name == last) && recovered
    };
    previous.candidates.iter().any(was_left).then_some(active)
}

/// Candidate statuses in the order of names; each keeps its transition time while its state is unchanged, and that a
/// failover left it, as it leaves `left` now, until it is active again.
pub(super) fn candidates(
    previous: Option<&BankRouteStatus>,
    evaluation: &Evaluation,
    left: Option<&str>,
    now: Timestamp,
) -> Vec<CandidateStatus> {
    let old = previous.map_or(&[][..], |s| &s.candidates);
    evaluation
        .standings
        .iter()
        .map(|standing| {
            let state = match standing.state {
                StandingState::Preferred => CandidateState::Preferred,
                StandingState::Standby => CandidateState::Standby,
                StandingState::Fallback => CandidateState::Fallback,
                StandingState::Excluded => CandidateState::Excluded,
            };
            let before = old.iter().find(|c| c.name == standing.name);
            let same = before.filter(|c| c.state == state);
            let was_left = left == Some(&*standing.name) || before.is_some_and(|c| c.failed_over == Some(true));
            CandidateStatus {
                name: standing.name.clone(),
                state,
                reason: standing.reason.as_str().to_owned(),
                last_transition_time: time(same.map_or(now, |c| happened(c.last_transition_time.0, now))),
                failed_over: (was_left && state != CandidateState::Preferred).then_some(true),
            }
        })
        .collect()
}
