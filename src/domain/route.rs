//! Which bank takes a payout: filter first, then the lowest fee, then the name. Pure and total; the order in which
//! candidates are listed never matters.
//!
//! Exclusion comes before cost: a bank whose circuit is open is not a bargain at any price. Fees are exact decimals,
//! rounded the way the bank really charges them: fee = clamp(amount · bps / 10⁴ + fixed, min, max), rounded to the
//! currency's smallest unit. A candidate whose fee cannot be known ranks after all whose fee is.

use rust_decimal::Decimal;

use crate::domain::breaker::Effective;
use crate::domain::money::{Currency, Money, Rounding};

/// The payout that a route is evaluated for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// How much, in `currency`.
    pub amount: Decimal,
    /// The payout's currency.
    pub currency: Currency,
    /// The payment rail, where one is named.
    pub rail: Option<String>,
    /// The receiver's country, where one is named.
    pub country: Option<String>,
}

/// Primaries are considered first; a fallback only when no primary passes the filter.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Tier {
    /// Considered first.
    #[default]
    Primary,
    /// Considered when no primary passes.
    Fallback,
}

/// One entry of a candidate's price list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fee {
    /// The entry's name: the last tie-break.
    pub name: String,
    /// The rails it is for; empty = any.
    pub rails: Vec<String>,
    /// The payout currencies it is for; empty = any.
    pub currencies: Vec<Currency>,
    /// What `fixed`, `min` and `max` are in; `None` = the payout's currency.
    pub currency: Option<Currency>,
    /// The largest amount it is for, inclusive; `None` = any.
    pub up_to_amount: Option<Decimal>,
    /// Hundredths of a percent of the amount.
    pub basis_points: Decimal,
    /// Added to each payout.
    pub fixed: Decimal,
    /// No fee is lower.
    pub min: Option<Decimal>,
    /// No fee is higher; wins over `min`.
    pub max: Option<Decimal>,
    /// How the bank rounds.
    pub rounding: Rounding,
}

/// One bank of a route, as far as choosing it needs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Candidate {
    /// The name within the route.
    pub name: String,
    /// Considered first, or only when no primary passes.
    pub tier: Tier,
    /// The state of its connection's circuit; `None` if there is no such connection.
    pub circuit: Option<Effective>,
    /// Whether its connection is suspended.
    pub suspended: bool,
    /// Whether now is outside its accept windows.
    pub cut_off: bool,
    /// A reason found elsewhere that excludes it, whatever its circuit says.
    pub exclusion: Option<Reason>,
    /// Its price list; empty = free.
    pub fees: Vec<Fee>,
    /// The currencies it pays out; empty = any.
    pub currencies: Vec<Currency>,
    /// The countries it pays out to; empty = any.
    pub countries: Vec<String>,
    /// The rails it offers; empty = any.
    pub rails: Vec<String>,
    /// The smallest amount it takes, inclusive.
    pub min_amount: Option<Decimal>,
    /// The largest amount it takes, inclusive.
    pub max_amount: Option<Decimal>,
}

/// Why a candidate stands where it stands. Closed and alert-stable.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// No connection of that name exists.
    ConnectionNotFound,
    /// The connection has not been verified to be usable yet.
    ConnectionNotReady,
    /// The connection is suspended.
    Suspended,
    /// A person forces the circuit open.
    ForcedOpen,
    /// The circuit is open.
    CircuitOpen,
    /// The circuit is half-open: payouts wait until it is closed.
    CircuitHalfOpen,
    /// It does not pay out in this currency.
    CurrencyNotServed,
    /// It does not pay out to this country.
    CountryNotServed,
    /// It does not offer this rail.
    RailNotServed,
    /// The amount is outside its limits.
    AmountOutOfRange,
    /// Its connection is in a maintenance window.
    Maintenance,
    /// Outside its accept windows.
    CutOff,
    /// No other costs less.
    LowestCost,
    /// Another costs less.
    HigherCost,
    /// Costs the same as another whose name comes first.
    TieBrokenByName,
    /// Its price list says nothing about such a payout, or in a currency that cannot be compared.
    CostUnknown,
    /// A fallback, and a primary is available.
    PrimaryAvailable,
}

impl Reason {
    /// The reason as status prints it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionNotFound => "ConnectionNotFound",
            Self::ConnectionNotReady => "ConnectionNotReady",
            Self::Suspended => "Suspended",
            Self::ForcedOpen => "ForcedOpen",
            Self::CircuitOpen => "CircuitOpen",
            Self::CircuitHalfOpen => "CircuitHalfOpen",
            Self::CurrencyNotServed => "CurrencyNotServed",
            Self::CountryNotServed => "CountryNotServed",
            Self::RailNotServed => "RailNotServed",
            Self::AmountOutOfRange => "AmountOutOfRange",
            Self::Maintenance => "Maintenance",
            Self::CutOff => "CutOff",
            Self::LowestCost => "LowestCost",
            Self::HigherCost => "HigherCost",
            Self::TieBrokenByName => "TieBrokenByName",
            Self::CostUnknown => "CostUnknown",
            Self::PrimaryAvailable => "PrimaryAvailable",
        }
    }
}

/// Where a candidate stands.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum StandingState {
    /// The reference payout would take it now.
    Preferred,
    /// Could take it too.
    Standby,
    /// A fallback that could take it if no primary could.
    Fallback,
    /// Cannot take it.
    Excluded,
}

impl StandingState {
    /// The state as in `status.candidates[].state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preferred => "Preferred",
            Self::Standby => "Standby",
            Self::Fallback => "Fallback",
            Self::Excluded => "Excluded",
        }
    }
}

/// One candidate's place in an evaluation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The candidate.
    pub name: String,
    /// Where it stands.
    pub state: StandingState,
    /// Why.
    pub reason: Reason,
    /// What it would charge, in the payout's currency; `None` if excluded or unknown.
    pub fee: Option<Decimal>,
}

/// Which bank, and why not the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evaluation {
    /// The bank that the reference payout would take now.
    pub active: Option<String>,
    /// Every candidate, by name.
    pub standings: Vec<Standing>,
}

impl Evaluation {
    /// How many candidates could take the payout.
    pub fn available(&self) -> usize {
        self.standings.iter().filter(|s| s.state != StandingState::Excluded).count()
    }

    /// The standing of one candidate.
    pub fn standing(&self, name: &str) -> Option<&Standing> {
        self.standings.iter().find(|s| s.name == name)
    }
}

/// What a new evaluation means to somebody who knew the former active bank.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// The same bank as before, or still none.
    None,
    /// The former bank became excluded, and another took over.
    FailedOver,
    /// The bank that the last failover left has the payouts again.
    FailedBack,
    /// Another bank is active, and the former one would still be available: a plain transition.
    Switched,
    /// There was a bank, and now there is none.
    NoneAvailable,
    /// There was none, and now there is one.
    Available,
}

/// Names the change from the bank `before` to the evaluation's. `left` is whom the last failover left (its `from`).
pub fn change(before: Option<&str>, left: Option<&str>, after: &Evaluation) -> Change {
    match (before, after.active.as_deref()) {
        (None, None) => Change::None,
        (Some(_), None) => Change::NoneAvailable,
        (_, Some(new)) if before != Some(new) && left == Some(new) => Change::FailedBack,
        (None, Some(_)) => Change::Available,
        (Some(old), Some(new)) if old == new => Change::None,
        (Some(old), Some(_)) if after.standing(old).is_none_or(|s| s.state == StandingState::Excluded) => {
            Change::FailedOver
        }
        (Some(_), Some(_)) => Change::Switched,
    }
}

/// Chooses: the lowest fee among the primaries that pass the filter, else among the fallbacks; the name breaks ties.
pub fn evaluate(reference: &Reference, candidates: &[Candidate]) -> Evaluation {
    let mut by_name: Vec<&Candidate> = candidates.iter().collect();
    by_name.sort_by(|a, b| a.name.cmp(&b.name));
    let judged: Vec<_> = by_name.into_iter().map(|c| (c, exclusion(reference, c), fee(reference, &c.fees))).collect();
    let eligible = || judged.iter().filter(|(_, out, _)| out.is_none());
    let tier = eligible().map(|(c, ..)| c.tier).min();
    // `min_by_key` keeps the first of equals: the one whose name comes first. Unknown fees come after known ones.
    let best = eligible()
        .filter(|(c, ..)| Some(c.tier) == tier)
        .min_by_key(|(.., fee)| (fee.is_none(), *fee))
        .map(|(c, _, fee)| (c.name.as_str(), *fee));
    let standings = judged
        .iter()
        .map(|&(c, out, fee)| {
            let (state, reason) = match (out, best) {
                (Some(reason), _) => (StandingState::Excluded, reason),
                (None, Some((name, _))) if name == c.name => {
                    (StandingState::Preferred, if fee.is_some() { Reason::LowestCost } else { Reason::CostUnknown })
                }
                (None, _) if Some(c.tier) != tier => (StandingState::Fallback, Reason::PrimaryAvailable),
                (None, Some((_, cost))) if fee.is_some() && fee == cost => {
                    (StandingState::Standby, Reason::TieBrokenByName)
                }
                (None, _) => {
                    (StandingState::Standby, if fee.is_some() { Reason::HigherCost } else { Reason::CostUnknown })
                }
            };
            Standing { name: c.name.clone(), state, reason, fee: if out.is_some() { None } else { fee } }
        })
        .collect();
    Evaluation { active: best.map(|(name, _)| name.to_owned()), standings }
}

/// Why a candidate cannot take the payout; the reason that a person would mend first comes first.
fn exclusion(reference: &Reference, candidate: &Candidate) -> Option<Reason> {
    if let Some(reason) = candidate.exclusion {
        return Some(reason);
    }
    if candidate.suspended {
        return Some(Reason::Suspended);
    }
    match candidate.circuit {
        None => return Some(Reason::ConnectionNotFound),
        Some(Effective::ForcedOpen) => return Some(Reason::ForcedOpen),
        Some(Effective::Open) => return Some(Reason::CircuitOpen),
        Some(Effective::HalfOpen) => return Some(Reason::CircuitHalfOpen),
        Some(Effective::Closed | Effective::ForcedClosed | Effective::Shadow) => {}
    }
    let amount = reference.amount;
    if !candidate.currencies.is_empty() && !candidate.currencies.contains(&reference.currency) {
        Some(Reason::CurrencyNotServed)
    } else if !serves(&candidate.countries, reference.country.as_deref()) {
        Some(Reason::CountryNotServed)
    } else if !serves(&candidate.rails, reference.rail.as_deref()) {
        Some(Reason::RailNotServed)
    } else if candidate.min_amount.is_some_and(|min| amount < min)
        || candidate.max_amount.is_some_and(|max| amount > max)
    {
        Some(Reason::AmountOutOfRange)
    } else if candidate.cut_off {
        Some(Reason::CutOff)
    } else {
        None
    }
}

/// A payout that names no country or rail does not ask for one.
fn serves(offered: &[String], asked: Option<&str>) -> bool {
    offered.is_empty() || asked.is_none_or(|a| offered.iter().any(|o| o == a))
}

/// What a candidate with this price list charges for the payout, in the payout's currency; `None` if that cannot be
/// known: no entry matches, the entry is in another currency, or the sum does not fit.
pub fn fee(reference: &Reference, list: &[Fee]) -> Option<Decimal> {
    if list.is_empty() {
        return Some(Decimal::ZERO);
    }
    let entry = select(reference, list)?;
    if entry.currency.is_some_and(|c| c != reference.currency) {
        return None;
    }
    let share = reference.amount.checked_mul(entry.basis_points)?.checked_div(Decimal::from(10_000))?;
    let mut charge = share.checked_add(entry.fixed)?;
    if let Some(min) = entry.min {
        charge = charge.max(min);
    }
    if let Some(max) = entry.max {
        charge = charge.min(max);
    }
    Money::new(charge, reference.currency).rounded(entry.rounding).ok().map(|m| m.amount)
}

/// The entry that applies: the one with most matching selectors, then the smallest `upToAmount`, then the name.
fn select<'a>(reference: &Reference, list: &'a [Fee]) -> Option<&'a Fee> {
    let matches = |fee: &&Fee| {
        (fee.rails.is_empty() || reference.rail.as_ref().is_some_and(|r| fee.rails.contains(r)))
            && (fee.currencies.is_empty() || fee.currencies.contains(&reference.currency))
            && fee.up_to_amount.is_none_or(|limit| reference.amount <= limit)
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
