//! The result of an evaluation: the chosen bank, and the state of every candidate with its reason and its cost.

use std::cmp::Reverse;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;

use super::cost::Cost;
use super::prediction::ForecastUse;
use super::reason::CandidateReason;
use super::rules::PinSource;
use crate::domain::canonical::{decimal, instant};

/// State of a candidate for a payout.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub enum StandingState {
    /// Chosen for the payout.
    Preferred,
    /// Available, but not chosen.
    Standby,
    /// A fallback that is available if no primary is.
    Fallback,
    /// Not available for the payout.
    Excluded,
}

/// Result of the evaluation for one candidate. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CandidateStanding {
    /// Cost in the payout's currency; `None` if excluded or unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Whether a prediction counted.
    pub forecast: ForecastUse,
    /// Name of the candidate.
    pub name: String,
    /// Reason for the state.
    pub reason: CandidateReason,
    /// The score that breaks ties.
    #[serde(with = "decimal")]
    pub score: Decimal,
    /// State of the candidate.
    pub state: StandingState,
    /// Share of payouts that are expected to succeed, in parts per million.
    pub success: u32,
}

/// The bank that takes payouts so far.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Incumbent<'a> {
    /// Its name.
    pub name: &'a str,
    /// Since when.
    pub since: Timestamp,
}

/// A pin or an approval that has no effect, because its bank is excluded from the payout. The fields are in the order
/// of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct IneffectivePin {
    /// The candidate.
    pub candidate: String,
    /// Why it is excluded; `None` if the route has no such candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<CandidateReason>,
    /// Where the pin comes from.
    pub source: PinSource,
}

/// What the forecast would choose in place of the chosen bank (mode `Hybrid`). The fields are in the order of canonical
/// JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Proposal {
    /// The proposed candidate.
    pub candidate: String,
    /// The chosen candidate.
    pub from: String,
    /// Predicted risk of an outage of the chosen candidate, in parts per million; 0 without a prediction.
    pub risk: u32,
    /// Share of payouts that are expected to succeed through the proposed candidate, in parts per million.
    pub success: u32,
    /// When the first of the predictions ends that it rests on.
    #[serde(with = "instant")]
    pub valid_until: Timestamp,
}

/// Result of an evaluation: the chosen bank, and the state of every candidate. The fields are in the order of canonical
/// JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Evaluation {
    /// Name of the chosen bank; `None` if all candidates are excluded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    /// When the choice may change by itself, because the incumbent was held for long enough.
    #[serde(skip_serializing_if = "Option::is_none", with = "instant::option")]
    pub held_until: Option<Timestamp>,
    /// Pins and approvals whose bank is excluded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ineffective_pins: Vec<IneffectivePin>,
    /// What the forecast would choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// All candidates, sorted by name.
    pub standings: Vec<CandidateStanding>,
}

impl Evaluation {
    /// Number of candidates that are not excluded.
    pub fn available(&self) -> usize {
        self.standings.iter().filter(|s| s.state != StandingState::Excluded).count()
    }

    /// Result for one candidate.
    pub fn standing(&self, name: &str) -> Option<&CandidateStanding> {
        self.standings.iter().find(|s| s.name == name)
    }

    /// Why the bank cannot be used any more, if it failed. A bank that was removed from the route, or that the route's
    /// own limits exclude from the payout since an edit, did not fail.
    pub fn failed(&self, name: &str) -> Option<CandidateReason> {
        use CandidateReason::{
            AmountOutOfRange, CountryNotServed, CurrencyNotServed, DailyLimitReached, LimitUnknown, RailNotServed,
        };
        let excluded = self.standing(name).filter(|standing| standing.state == StandingState::Excluded)?;
        let limits =
            [CurrencyNotServed, CountryNotServed, RailNotServed, AmountOutOfRange, LimitUnknown, DailyLimitReached];
        (!limits.contains(&excluded.reason)).then_some(excluded.reason)
    }

    /// The candidates in the order of preference: the chosen one, the others that could take the payout, at last the
    /// excluded ones by name.
    pub fn ranked(&self) -> Vec<&CandidateStanding> {
        let mut ranked: Vec<_> = self.standings.iter().collect();
        ranked.sort_by_key(|standing| {
            let place = match (standing.state, standing.reason) {
                (StandingState::Preferred, _) => 0,
                // A predicted outage ranks a bank after all others.
                (StandingState::Standby, CandidateReason::PredictedOutage) => 3,
                (StandingState::Standby, _) => 1,
                (StandingState::Fallback, _) => 2,
                (StandingState::Excluded, _) => 4,
            };
            let cost = standing.cost.map(|cost| cost.total);
            let ties = (place < 4).then_some((Reverse(standing.success), Reverse(standing.score)));
            (place, cost.is_none(), cost, ties)
        });
        ranked
    }
}
