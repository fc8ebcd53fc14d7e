//! What the change of the active bank between two evaluations is.

use super::evaluation::{Evaluation, StandingState};
use super::reason::CandidateReason;

/// Change of the active bank between two evaluations.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteChange {
    /// No change.
    None,
    /// The previous bank became unavailable, or its outage is predicted, and another bank is active.
    FailedOver,
    /// The bank that the last failover left is active again.
    FailedBack,
    /// Another bank is active, although the previous one did not fail: it is still available, or the route was edited.
    Switched,
    /// No bank is available any more.
    NoneAvailable,
    /// A bank is available after none was.
    Available,
}

/// Classifies the change from the bank `before` to the active bank of `after`. `left` is the bank that the last
/// failover left (its `from`).
pub fn change(before: Option<&str>, left: Option<&str>, after: &Evaluation) -> RouteChange {
    match (before, after.active.as_deref()) {
        (None, None) => RouteChange::None,
        (Some(_), None) => RouteChange::NoneAvailable,
        (_, Some(new)) if before != Some(new) && left == Some(new) => RouteChange::FailedBack,
        (None, Some(_)) => RouteChange::Available,
        (Some(old), Some(new)) if old == new => RouteChange::None,
        (Some(old), Some(_)) if failover_reason(old, after).is_some() => RouteChange::FailedOver,
        (Some(_), Some(_)) => RouteChange::Switched,
    }
}

/// Why the bank `old` is left, if that is a failover: it failed, its outage is predicted, or a proposal of the forecast
/// was approved.
pub fn failover_reason(old: &str, after: &Evaluation) -> Option<CandidateReason> {
    let predicted = || {
        let standing = after.standing(old)?;
        let is_demoted =
            standing.state == StandingState::Standby && standing.reason == CandidateReason::PredictedOutage;
        is_demoted.then_some(CandidateReason::PredictedOutage)
    };
    let approved = || {
        let chosen = after.standing(after.active.as_deref()?)?;
        let is_approved = chosen.reason == CandidateReason::PredictiveHybrid && chosen.name != old;
        (is_approved && after.standing(old).is_some()).then_some(CandidateReason::PredictiveHybrid)
    };
    after.failed(old).or_else(predicted).or_else(approved)
}
