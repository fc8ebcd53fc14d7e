//! Choice of the bank for a payout: filter, then lowest fee, then name. Pure and total; the order of the candidates has
//! no effect.
//!
//! Exclusion comes before cost: a bank whose circuit is open, or whose health checks fail, is never chosen for its price. Fees are exact decimals,
//! rounded as the bank charges them: fee = clamp(amount · bps / 10⁴ + fixed, min, max), rounded to the minor unit of
//! the currency. A candidate with an unknown fee ranks after all candidates with a known fee.

use rust_decimal::Decimal;

use crate::domain::breaker::EffectiveState;
use crate::domain::closed_list::closed_list;
use crate::domain::money::{Currency, Money, Rounding};

/// The payout for which a route is evaluated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payout {
    /// Amount in `currency`.
    pub amount: Decimal,
    /// Currency of the payout.
    pub currency: Currency,
    /// Payment rail; not filtered by rail if unset.
    pub rail: Option<String>,
    /// Country of the beneficiary; not filtered by country if unset.
    pub country: Option<String>,
}

/// Tier of a candidate: a fallback is considered only if no primary passes the filter.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Tier {
    /// Considered first.
    #[default]
    Primary,
    /// Considered only if no primary passes.
    Fallback,
}

/// One entry of a candidate's fee list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fee {
    /// Name of the entry; the last tie-breaker.
    pub name: String,
    /// Rails to which the entry applies; empty = all.
    pub rails: Vec<String>,
    /// Payout currencies to which the entry applies; empty = all.
    pub currencies: Vec<Currency>,
    /// Currency of `fixed`, `min` and `max`; `None` = the payout's currency.
    pub currency: Option<Currency>,
    /// Largest amount to which the entry applies, inclusive; `None` = unlimited.
    pub up_to_amount: Option<Decimal>,
    /// Proportional fee in hundredths of a percent of the amount.
    pub basis_points: Decimal,
    /// Fixed fee per payout.
    pub fixed: Decimal,
    /// Minimum fee.
    pub min: Option<Decimal>,
    /// Maximum fee; takes precedence over `min`.
    pub max: Option<Decimal>,
    /// Rounding to the minor unit.
    pub rounding: Rounding,
}

/// What the health checks of a candidate's connection say about it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum CandidateHealth {
    /// Nothing is against it.
    #[default]
    Usable,
    /// The last checks failed, as many as make a connection `Unhealthy`.
    Unhealthy,
    /// No check has ever passed.
    NeverHealthy,
}

impl CandidateHealth {
    /// From whether the last checks of the connection failed (`unhealthy`), and whether one of its endpoint has ever
    /// passed. A connection without checks (`passive`) need not have passed one.
    pub const fn of(unhealthy: bool, ever_healthy: bool, passive: bool) -> Self {
        if !ever_healthy && !passive {
            Self::NeverHealthy
        } else if unhealthy {
            Self::Unhealthy
        } else {
            Self::Usable
        }
    }
}

/// Input of the evaluation for one bank of a route.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Candidate {
    /// Name within the route.
    pub name: String,
    /// Primary or fallback.
    pub tier: Tier,
    /// Circuit state of the connection; `None` if the connection does not exist.
    pub circuit: Option<EffectiveState>,
    /// What the health checks say; a circuit that is forced closed outranks it.
    pub health: CandidateHealth,
    /// Whether the connection is suspended.
    pub suspended: bool,
    /// Whether the current time is outside the accept windows.
    pub cut_off: bool,
    /// Exclusion determined by the caller; takes precedence over the circuit.
    pub exclusion: Option<CandidateReason>,
    /// Fee list; empty = free.
    pub fees: Vec<Fee>,
    /// Supported payout currencies; empty = all.
    pub currencies: Vec<Currency>,
    /// Supported beneficiary countries; empty = all.
    pub countries: Vec<String>,
    /// Supported rails; empty = all.
    pub rails: Vec<String>,
    /// Smallest accepted amount, inclusive.
    pub min_amount: Option<Decimal>,
    /// Largest accepted amount, inclusive.
    pub max_amount: Option<Decimal>,
}

closed_list!(
    "candidate reason",
    /// Reason for a candidate's state, as in `status.candidates[].reason` and `status.lastFailover.reason`.
    CandidateReason {
        LowestCost: "No other candidate costs less." => "None.",
        HigherCost: "Another candidate costs less." => "None.",
        TieBrokenByName: "Another candidate costs the same, and its name sorts first." => "None.",
        CostUnknown: "The cost of the candidate cannot be compared: no fee entry applies to the payout, or the entry is in another currency." => "Add a fee entry that applies.",
        PrimaryAvailable: "The candidate is a Fallback, and a Primary is available." => "None.",
        ConnectionNotFound: "The connection does not exist in this namespace." => "Create the connection, or remove the candidate.",
        ConnectionNotReady: "The connection is not Ready." => "Check the conditions of the connection.",
        Suspended: "The connection is suspended." => "Resume the connection.",
        Maintenance: "The connection is in a maintenance window (spec.maintenance)." => "None; the window ends automatically.",
        ForcedOpen: "circuitOverride forces the circuit open." => "Remove circuitOverride, or wait for untilTime.",
        CircuitOpen: "The circuit of the connection is open." => "Check the connection; the circuit retries automatically.",
        CircuitHalfOpen: "The circuit is half-open; payouts wait until it closes." => "None; a probe decides.",
        Unhealthy: "The last health checks of the connection failed, healthCheck.unhealthyThreshold in a row." => "Check the condition Healthy of the connection; the candidate returns when checks pass, or force the circuit closed.",
        NeverHealthy: "No health check of the connection has ever passed at this endpoint with this spec.auth." => "Check the conditions of the connection; the candidate is available as soon as a check passes.",
        CurrencyNotServed: "The candidate does not support the currency." => "None, or correct candidates[].currencies.",
        CountryNotServed: "The candidate does not support the country." => "None, or correct candidates[].countries.",
        RailNotServed: "The candidate does not support the rail." => "None, or correct candidates[].rails.",
        AmountOutOfRange: "The amount is outside the candidate's limits." => "None, or correct minAmount and maxAmount.",
        CutOff: "The current time is outside the candidate's acceptWindows." => "None; the next window opens automatically.",
    }
);

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
    /// Fee in the payout's currency; `None` if excluded or unknown.
    pub fee: Option<Decimal>,
}

/// Result of an evaluation: the chosen bank, and the state of every candidate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evaluation {
    /// Name of the chosen bank; `None` if all candidates are excluded.
    pub active: Option<String>,
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
        use CandidateReason::{AmountOutOfRange, CountryNotServed, CurrencyNotServed, RailNotServed};
        let excluded = self.standing(name).filter(|standing| standing.state == StandingState::Excluded)?;
        let edited = [CurrencyNotServed, CountryNotServed, RailNotServed, AmountOutOfRange].contains(&excluded.reason);
        (!edited).then_some(excluded.reason)
    }
}

/// Change of the active bank between two evaluations.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteChange {
    /// No change.
    None,
    /// The previous bank became unavailable, and another bank is active.
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
        (Some(old), Some(_)) if after.failed(old).is_some() => RouteChange::FailedOver,
        (Some(_), Some(_)) => RouteChange::Switched,
    }
}

/// Evaluates a route: chooses the lowest fee among the primaries that pass the filter, else among the fallbacks; the
/// name breaks ties.
pub fn evaluate(payout: &Payout, candidates: &[Candidate]) -> Evaluation {
    let mut by_name: Vec<&Candidate> = candidates.iter().collect();
    by_name.sort_by(|a, b| a.name.cmp(&b.name));
    let evaluated: Vec<_> = by_name.into_iter().map(|c| (c, exclusion(payout, c), fee(payout, &c.fees))).collect();
    let eligible = || evaluated.iter().filter(|(_, out, _)| out.is_none());
    let tier = eligible().map(|(c, ..)| c.tier).min();
    // `min_by_key` returns the first of equals, which is the one whose name sorts first. Unknown fees sort last.
    let best = eligible()
        .filter(|(c, ..)| Some(c.tier) == tier)
        .min_by_key(|(.., fee)| (fee.is_none(), *fee))
        .map(|(c, _, fee)| (c.name.as_str(), *fee));
    let standings = evaluated
        .iter()
        .map(|&(c, out, fee)| {
            let (state, reason) = match (out, best) {
                (Some(reason), _) => (StandingState::Excluded, reason),
                (None, Some((name, _))) if name == c.name => (
                    StandingState::Preferred,
                    if fee.is_some() { CandidateReason::LowestCost } else { CandidateReason::CostUnknown },
                ),
                (None, _) if Some(c.tier) != tier => (StandingState::Fallback, CandidateReason::PrimaryAvailable),
                (None, Some((_, cost))) if fee.is_some() && fee == cost => {
                    (StandingState::Standby, CandidateReason::TieBrokenByName)
                }
                (None, _) => (
                    StandingState::Standby,
                    if fee.is_some() { CandidateReason::HigherCost } else { CandidateReason::CostUnknown },
                ),
            };
            CandidateStanding { name: c.name.clone(), state, reason, fee: if out.is_some() { None } else { fee } }
        })
        .collect();
    Evaluation { active: best.map(|(name, _)| name.to_owned()), standings }
}

/// Reason to exclude a candidate; the reason to fix first is reported first.
fn exclusion(payout: &Payout, candidate: &Candidate) -> Option<CandidateReason> {
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
    let amount = payout.amount;
    if !candidate.currencies.is_empty() && !candidate.currencies.contains(&payout.currency) {
        Some(CandidateReason::CurrencyNotServed)
    } else if !serves(&candidate.countries, payout.country.as_deref()) {
        Some(CandidateReason::CountryNotServed)
    } else if !serves(&candidate.rails, payout.rail.as_deref()) {
        Some(CandidateReason::RailNotServed)
    } else if candidate.min_amount.is_some_and(|min| amount < min)
        || candidate.max_amount.is_some_and(|max| amount > max)
    {
        Some(CandidateReason::AmountOutOfRange)
    } else if candidate.cut_off {
        Some(CandidateReason::CutOff)
    } else {
        None
    }
}

/// Whether a list of supported values contains the requested one; a payout without a country or rail is not filtered.
fn serves(supported: &[String], requested: Option<&str>) -> bool {
    supported.is_empty() || requested.is_none_or(|r| supported.iter().any(|s| s == r))
}

/// Fee for the payout by a fee list, in the payout's currency; `None` if it is unknown: no entry applies, the entry is
/// in another currency, or the result overflows.
pub fn fee(payout: &Payout, list: &[Fee]) -> Option<Decimal> {
    if list.is_empty() {
        return Some(Decimal::ZERO);
    }
    let entry = select(payout, list)?;
    if entry.currency.is_some_and(|c| c != payout.currency) {
        return None;
    }
    let share = payout.amount.checked_mul(entry.basis_points)?.checked_div(Decimal::from(10_000))?;
    let mut charge = share.checked_add(entry.fixed)?;
    if let Some(min) = entry.min {
        charge = charge.max(min);
    }
    if let Some(max) = entry.max {
        charge = charge.min(max);
    }
    Money::new(charge, payout.currency).rounded(entry.rounding).ok().map(|m| m.amount)
}

/// The applicable entry: most matching selectors, then smallest `upToAmount`, then name.
fn select<'a>(payout: &Payout, list: &'a [Fee]) -> Option<&'a Fee> {
    let matches = |fee: &&Fee| {
        (fee.rails.is_empty() || payout.rail.as_ref().is_some_and(|r| fee.rails.contains(r)))
            && (fee.currencies.is_empty() || fee.currencies.contains(&payout.currency))
            && fee.up_to_amount.is_none_or(|limit| payout.amount <= limit)
    };
    let selectors = |fee: &Fee| u8::from(!fee.rails.is_empty()) + u8::from(!fee.currencies.is_empty());
    list.iter().filter(matches).min_by(|a, b| {
        selectors(b)
            .cmp(&selectors(a))
            .then_with(|| a.up_to_amount.is_none().cmp(&b.up_to_amount.is_none()))
            .then_with(|| a.up_to_amount.cmp(&b.up_to_amount))
            .then_with(|| a.name.cmp(&b.name))
    })
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
