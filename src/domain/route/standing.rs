//! State and reason of each candidate after the choice. Pure.

use super::assessment::{Assessed, Choice};
use super::evaluation::{CandidateStanding, StandingState};
use super::reason::CandidateReason;
use super::rules::PinSource;

/// State and reason of a candidate.
pub(super) fn standing(one: &Assessed<'_>, choice: Option<&Choice<'_, '_>>) -> CandidateStanding {
    let (state, reason) = match (one.out, choice) {
        (Some(reason), _) => (StandingState::Excluded, reason),
        (None, Some(choice)) => available(one, choice),
        // Without a choice every candidate is excluded.
        (None, None) => (StandingState::Standby, CandidateReason::CostUnknown),
    };
    CandidateStanding {
        cost: one.cost,
        forecast: one.forecast,
        name: one.candidate.name.clone(),
        reason,
        score: one.expected.score,
        state,
        success: one.expected.success,
    }
}

/// State and reason of a candidate that passes the filter.
fn available(one: &Assessed<'_>, choice: &Choice<'_, '_>) -> (StandingState, CandidateReason) {
    let is_best = choice.best.is(&one.candidate.name);
    if choice.chosen.is(&one.candidate.name) {
        let reason = match (choice.pinned, one.cost) {
            (Some(PinSource::Spec), _) => CandidateReason::Pinned,
            (Some(PinSource::Api), _) => CandidateReason::PinnedByOps,
            (Some(PinSource::Approval), _) => CandidateReason::PredictiveHybrid,
            (None, _) if !is_best => CandidateReason::KeptByHysteresis,
            (None, Some(_)) => CandidateReason::LowestCost,
            (None, None) => CandidateReason::CostUnknown,
        };
        return (StandingState::Preferred, reason);
    }
    if one.class() != choice.class {
        return if one.expected.demoted && !choice.class.0 {
            (StandingState::Standby, CandidateReason::PredictedOutage)
        } else {
            (StandingState::Fallback, CandidateReason::PrimaryAvailable)
        };
    }
    let reason = match (one.cost, choice.pinned) {
        (_, Some(PinSource::Approval)) if is_best => CandidateReason::OtherApproved,
        (_, Some(_)) if is_best => CandidateReason::OtherPinned,
        (_, None) if is_best => CandidateReason::WithinHysteresis,
        (None, _) => CandidateReason::CostUnknown,
        (Some(mine), _) if choice.best.cost.is_some_and(|best| best.total == mine.total) => tie(one, choice.best),
        (Some(_), _) => CandidateReason::HigherCost,
    };
    (StandingState::Standby, reason)
}

/// What breaks the tie with the best one of the same cost.
fn tie(one: &Assessed<'_>, best: &Assessed<'_>) -> CandidateReason {
    if one.expected.success != best.expected.success {
        CandidateReason::TieBrokenBySuccess
    } else if one.expected.score == best.expected.score {
        CandidateReason::TieBrokenByName
    } else {
        CandidateReason::TieBrokenByScore
    }
}
