//! The choice of a decision: the evaluation of a snapshot for a request. Pure and total.

use jiff::Timestamp;

use super::request::DecisionRequest;
use super::snapshot::{Snapshot, SnapshotCandidate};
use super::usage::{DayUsage, Reservation, Usage};
use crate::domain::canonical::to_millis;
use crate::domain::route::{
    CandidateReason, Considered, Evaluation, EvaluationInput, Rates, StandingState, evaluate_considered,
};

/// The evaluation of `snapshot` for `request` at `now`, in milliseconds. Rates of the request count before those of the
/// route. A candidate is excluded if the payout would exceed its daily limit after `usage`, which is that of the day of
/// `now`.
pub fn decide(request: &DecisionRequest, snapshot: &Snapshot, usage: &Usage, now: Timestamp) -> Evaluation {
    let now = to_millis(now);
    let rules = &snapshot.rules;
    let rates = request.rates_over(&rules.rates, now);
    let input = EvaluationInput { incumbent: snapshot.incumbent(), now, payout: &request.payout, rates: &rates, rules };
    let considered = snapshot
        .candidates
        .iter()
        .map(|one| Considered { candidate: &one.candidate, exclusion: exceeded(request, one, usage, &rates) });
    evaluate_considered(&input, considered)
}

/// What a decision for `candidate` reserves of its daily limit; `None` without a limit. The amount counts as 0 where
/// the limit is on the number only and the rate is unknown.
pub(super) fn reservation(
    request: &DecisionRequest,
    snapshot: &Snapshot,
    usage: &Usage,
    candidate: &str,
    now: Timestamp,
) -> Option<Reservation> {
    let limit = snapshot.candidate(candidate)?.daily_limit.as_ref()?;
    let rates = request.rates_over(&snapshot.rules.rates, to_millis(now));
    let payout = &request.payout;
    Some(Reservation {
        amount: rates.convert(payout.amount, payout.currency, rates.reference()).unwrap_or_default().normalize(),
        candidate: candidate.to_owned(),
        currency: rates.reference(),
        day: usage.0.get(candidate).map_or_else(|| limit.day(now), |used| used.day),
    })
}

/// Why the daily limit of a candidate excludes it.
fn exceeded(
    request: &DecisionRequest,
    one: &SnapshotCandidate,
    usage: &Usage,
    rates: &Rates,
) -> Option<CandidateReason> {
    let limit = one.daily_limit.as_ref()?;
    let payout = &request.payout;
    let amount = match rates.convert(payout.amount, payout.currency, rates.reference()) {
        Some(amount) => amount,
        None if limit.amount.is_some() => return Some(CandidateReason::LimitUnknown),
        None => rust_decimal::Decimal::ZERO,
    };
    let used = usage.0.get(&one.candidate.name).copied().unwrap_or(DayUsage::none(jiff::civil::Date::ZERO));
    (!limit.admits(&used, amount)).then_some(CandidateReason::DailyLimitReached)
}

/// A candidate that a decision cannot be overridden to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("candidate {candidate} is not available: {}; choose an available candidate", why(.reason.as_ref()))]
pub struct NotEligible {
    /// The candidate.
    pub candidate: String,
    /// Why it is excluded; `None` if the route has no such candidate.
    pub reason: Option<CandidateReason>,
}

fn why(reason: Option<&CandidateReason>) -> &'static str {
    reason.map_or("the route has no such candidate", |reason| reason.as_str())
}

/// Whether the candidate can take the payout, whatever it costs.
///
/// # Errors
/// If the candidate is excluded or unknown.
pub fn eligible(evaluation: &Evaluation, candidate: &str) -> Result<(), NotEligible> {
    let standing = evaluation.standing(candidate);
    match standing {
        Some(standing) if standing.state != StandingState::Excluded => Ok(()),
        _ => Err(NotEligible { candidate: candidate.to_owned(), reason: standing.map(|standing| standing.reason) }),
    }
}
