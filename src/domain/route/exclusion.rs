//! Why a candidate cannot take a payout at all. Exclusion comes before cost: a bank whose circuit is open, or whose health
//! checks fail, is never chosen for its price.

use super::candidate::{Candidate, CandidateHealth};
use super::payout::Payout;
use super::rates::Rates;
use super::reason::CandidateReason;
use crate::domain::breaker::EffectiveState;

/// Reason to exclude a candidate; the reason to fix first is reported first.
pub(super) fn exclusion(payout: &Payout, candidate: &Candidate, rates: &Rates) -> Option<CandidateReason> {
    if let Some(reason) = candidate.exclusion {
        return Some(reason);
    }
    if candidate.suspended {
        return Some(CandidateReason::Suspended);
    }
    match candidate.circuit {
        None => return Some(CandidateReason::ConnectionNotFound),
        Some(EffectiveState::ForcedOpen) => return Some(CandidateReason::ForcedOpen),
        // Whatever the circuit of a bank that never worked does meanwhile.
        Some(state) if candidate.health == CandidateHealth::NeverHealthy && state != EffectiveState::ForcedClosed => {
            return Some(CandidateReason::NeverHealthy);
        }
        Some(EffectiveState::Open) => return Some(CandidateReason::CircuitOpen),
        Some(EffectiveState::HalfOpen) => return Some(CandidateReason::CircuitHalfOpen),
        // A circuit may be closed although checks fail: its policy may count, or do, less.
        Some(EffectiveState::Closed | EffectiveState::Shadow) if candidate.health == CandidateHealth::Unhealthy => {
            return Some(CandidateReason::Unhealthy);
        }
        Some(EffectiveState::Closed | EffectiveState::ForcedClosed | EffectiveState::Shadow) => {}
    }
    if !candidate.currencies.is_empty() && !candidate.currencies.contains(&payout.currency) {
        Some(CandidateReason::CurrencyNotServed)
    } else if !serves(&candidate.countries, payout.country.as_deref()) {
        Some(CandidateReason::CountryNotServed)
    } else if !serves(&candidate.rails, payout.rail.as_deref()) {
        Some(CandidateReason::RailNotServed)
    } else if let Some(reason) = limit(payout, candidate, rates) {
        Some(reason)
    } else if candidate.cut_off {
        Some(CandidateReason::CutOff)
    } else {
        None
    }
}

/// Whether the limits, which are in the reference currency, keep the payout away. An unknown amount is not below a limit.
fn limit(payout: &Payout, candidate: &Candidate, rates: &Rates) -> Option<CandidateReason> {
    if candidate.min_amount.is_none() && candidate.max_amount.is_none() {
        return None;
    }
    let Some(amount) = rates.convert(payout.amount, payout.currency, rates.reference()) else {
        return Some(CandidateReason::LimitUnknown);
    };
    let out =
        candidate.min_amount.is_some_and(|min| amount < min) || candidate.max_amount.is_some_and(|max| amount > max);
    out.then_some(CandidateReason::AmountOutOfRange)
}

/// Whether a list of supported values contains the requested one; a payout without a country or rail is not filtered.
fn serves(supported: &[String], requested: Option<&str>) -> bool {
    supported.is_empty() || requested.is_none_or(|r| supported.iter().any(|s| s == r))
}
