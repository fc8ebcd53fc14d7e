//! The choice: filter, then lowest cost, highest success, highest score, name. Pure and total; the order of the candidates
//! has no effect.

use std::cmp::Reverse;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::candidate::{Candidate, Tier, UNKNOWN_SUCCESS};
use super::cost::{Cost, cost};
use super::exclusion::exclusion;
use super::payout::Payout;
use super::reason::CandidateReason;
use super::rules::{Hysteresis, RouteRules};

/// State of a candidate for a payout.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
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

/// Result of the evaluation for one candidate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CandidateStanding {
    /// Name of the candidate.
    pub name: String,
    /// State of the candidate.
    pub state: StandingState,
    /// Reason for the state.
    pub reason: CandidateReason,
    /// Cost in the payout's currency; `None` if excluded or unknown.
    pub cost: Option<Cost>,
}

/// The bank that takes payouts so far.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Incumbent<'a> {
    /// Its name.
    pub name: &'a str,
    /// Since when.
    pub since: Timestamp,
}

/// Result of an evaluation: the chosen bank, and the state of every candidate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evaluation {
    /// Name of the chosen bank; `None` if all candidates are excluded.
    pub active: Option<String>,
    /// All candidates, sorted by name.
    pub standings: Vec<CandidateStanding>,
    /// When the choice may change by itself, because the incumbent was held for long enough.
    pub held_until: Option<Timestamp>,
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
        use CandidateReason::{AmountOutOfRange, CountryNotServed, CurrencyNotServed, LimitUnknown, RailNotServed};
        let excluded = self.standing(name).filter(|standing| standing.state == StandingState::Excluded)?;
        let edited = [CurrencyNotServed, CountryNotServed, RailNotServed, AmountOutOfRange, LimitUnknown];
        (!edited.contains(&excluded.reason)).then_some(excluded.reason)
    }
}

/// A candidate while it is evaluated.
struct Evaluated<'a> {
    candidate: &'a Candidate,
    out: Option<CandidateReason>,
    cost: Option<Cost>,
}

impl Evaluated<'_> {
    /// What candidates of one tier are ranked by; unknown costs come last.
    fn rank(&self) -> (bool, Option<Decimal>, Reverse<u32>, Reverse<Decimal>, &str) {
        let (cost, candidate) = (self.cost.map(|cost| cost.total), self.candidate);
        (cost.is_none(), cost, Reverse(self.success()), Reverse(candidate.score), candidate.name.as_str())
    }

    fn success(&self) -> u32 {
        self.candidate.success.unwrap_or(UNKNOWN_SUCCESS)
    }
}

/// Evaluates a route: chooses the lowest cost among the primaries that pass the filter, else among the fallbacks. Ties are
/// broken by success, score and name. A pin chooses among the candidates that pass the filter; hysteresis keeps the
/// incumbent while the best one is not better by as much as it asks for.
pub fn evaluate(
    payout: &Payout,
    rules: &RouteRules,
    candidates: &[Candidate],
    incumbent: Option<Incumbent<'_>>,
    now: Timestamp,
) -> Evaluation {
    let rates = rules.rates.at(now);
    let mut evaluated: Vec<_> = candidates
        .iter()
        .map(|candidate| {
            let out = exclusion(payout, candidate, &rates);
            let cost = || cost(payout, candidate, &rules.cost, &rates, rules.weight(payout, &candidate.name, now));
            Evaluated { candidate, out, cost: if out.is_some() { None } else { cost() } }
        })
        .collect();
    evaluated.sort_by(|a, b| a.candidate.name.cmp(&b.candidate.name));
    let eligible = || evaluated.iter().filter(|one| one.out.is_none());
    let tier = eligible().map(|one| one.candidate.tier).min();
    let best = eligible().filter(|one| Some(one.candidate.tier) == tier).min_by(|a, b| a.rank().cmp(&b.rank()));
    let pinned = rules.pinned(now).and_then(|name| eligible().find(|one| one.candidate.name == name));
    let (kept, held_until) = match (best, incumbent) {
        (Some(best), Some(incumbent)) if pinned.is_none() => {
            let current = eligible().find(|one| one.candidate.name == incumbent.name);
            let current = current.filter(|one| Some(one.candidate.tier) == tier);
            keep(best, current, incumbent.since, rules.hysteresis, now)
        }
        _ => (None, None),
    };
    let choice = pinned.or(kept).or(best).map(|chosen| Choice { chosen, best, pinned: pinned.is_some(), tier });
    let standings = evaluated.iter().map(|one| standing(one, choice.as_ref())).collect();
    let active = choice.map(|choice| choice.chosen.candidate.name.clone());
    Evaluation { active, standings, held_until }
}

/// The incumbent, if it is kept although `best` is better, and until when it is in any case.
fn keep<'e, 'a>(
    best: &Evaluated<'a>,
    current: Option<&'e Evaluated<'a>>,
    since: Timestamp,
    hysteresis: Hysteresis,
    now: Timestamp,
) -> (Option<&'e Evaluated<'a>>, Option<Timestamp>) {
    let Some(current) = current.filter(|current| current.candidate.name != best.candidate.name) else {
        return (None, None);
    };
    let held_until = since.checked_add(hysteresis.min_hold).unwrap_or(Timestamp::MAX);
    if now < held_until {
        return (Some(current), Some(held_until));
    }
    let is_near = match (current.cost, best.cost) {
        (Some(mine), Some(theirs)) if hysteresis.switch_percent > 0 => {
            let asked = mine.total.abs() * Decimal::new(i64::from(hysteresis.switch_percent), 2);
            mine.total.checked_sub(theirs.total).is_some_and(|gain| gain < asked)
        }
        _ => false,
    };
    (is_near.then_some(current), None)
}

struct Choice<'e, 'a> {
    chosen: &'e Evaluated<'a>,
    /// The one that ranks first.
    best: Option<&'e Evaluated<'a>>,
    /// Whether a pin chose.
    pinned: bool,
    tier: Option<Tier>,
}

fn standing(one: &Evaluated<'_>, choice: Option<&Choice<'_, '_>>) -> CandidateStanding {
    let name = one.candidate.name.as_str();
    let (state, reason) = match (one.out, choice) {
        (Some(reason), _) => (StandingState::Excluded, reason),
        (None, Some(choice)) => available(one, choice),
        // Without a choice every candidate is excluded.
        (None, None) => (StandingState::Standby, CandidateReason::CostUnknown),
    };
    CandidateStanding { name: name.to_owned(), state, reason, cost: one.cost }
}

/// State and reason of a candidate that passes the filter.
fn available(one: &Evaluated<'_>, choice: &Choice<'_, '_>) -> (StandingState, CandidateReason) {
    let is = |other: &Evaluated<'_>| other.candidate.name == one.candidate.name;
    let is_best = choice.best.is_some_and(is);
    if is(choice.chosen) {
        let reason = match one.cost {
            _ if choice.pinned => CandidateReason::Pinned,
            _ if !is_best => CandidateReason::KeptByHysteresis,
            Some(_) => CandidateReason::LowestCost,
            None => CandidateReason::CostUnknown,
        };
        return (StandingState::Preferred, reason);
    }
    if Some(one.candidate.tier) != choice.tier {
        return (StandingState::Fallback, CandidateReason::PrimaryAvailable);
    }
    let reason = match (one.cost, choice.best) {
        _ if is_best && choice.pinned => CandidateReason::OtherPinned,
        _ if is_best => CandidateReason::WithinHysteresis,
        (None, _) => CandidateReason::CostUnknown,
        (Some(mine), Some(best)) if best.cost.is_some_and(|cost| cost.total == mine.total) => {
            if one.success() != best.success() {
                CandidateReason::TieBrokenBySuccess
            } else if one.candidate.score == best.candidate.score {
                CandidateReason::TieBrokenByName
            } else {
                CandidateReason::TieBrokenByScore
            }
        }
        (Some(_), _) => CandidateReason::HigherCost,
    };
    (StandingState::Standby, reason)
}
