//! Resolves a route's spec to its reference payout and its candidates. Pure.

use rust_decimal::Decimal;

use crate::api::v1alpha1::bank_route::{
    BankRouteSpec, Candidate as Wire, Fee as WireFee, Rounding as WireRounding, RouteMode, Tier as WireTier,
};
use crate::domain::money::{Currency, Rounding, parse_decimal, parse_unsigned};
use crate::domain::route::{Candidate, Fee, Payout, RouteRules, Tier};
use crate::domain::window::TimeWindow;
use crate::resolve::fields::windows;
use crate::resolve::route_rules::{rules, unknown_candidates};
use crate::resolve::spec_error::SpecError;

/// Default amount of the reference payout.
const REFERENCE_AMOUNT: Decimal = Decimal::ONE_THOUSAND;

/// What a `BankRoute` comes to.
#[derive(Clone, Debug)]
pub struct ResolvedRoute {
    /// The payout that `status.active` is evaluated for.
    pub reference: Payout,
    /// Cost model, rates, weights, pin and hysteresis.
    pub rules: RouteRules,
    /// The candidates, in the spec's order.
    pub candidates: Vec<RouteCandidate>,
    /// Fields that name a candidate which does not exist: they are ignored.
    pub unknown_candidates: Vec<String>,
    /// Set fields that this version does not evaluate.
    pub unused_fields: Vec<&'static str>,
}

/// A candidate as the spec declares it, without the state of its connection.
#[derive(Clone, Debug)]
pub struct RouteCandidate {
    /// Its fees, limits and tier.
    pub candidate: Candidate,
    /// When it accepts payouts; empty: always.
    pub accept_windows: Vec<TimeWindow>,
}

/// Resolves a `BankRoute`.
pub fn bank_route(spec: &BankRouteSpec) -> Result<ResolvedRoute, SpecError> {
    let reference = reference(spec)?;
    let candidate =
        |wire: &Wire| Ok(RouteCandidate { candidate: candidate(wire)?, accept_windows: accept_windows(wire)? });
    let candidates = spec.candidates.iter().map(candidate).collect::<Result<_, SpecError>>()?;
    Ok(ResolvedRoute {
        reference,
        rules: rules(spec)?,
        candidates,
        unknown_candidates: unknown_candidates(spec),
        unused_fields: unused_fields(spec),
    })
}

/// Set fields that this version does not evaluate.
pub fn unused_fields(spec: &BankRouteSpec) -> Vec<&'static str> {
    let any = |set: fn(&Wire) -> bool| spec.candidates.iter().any(set);
    let set = [
        ("mode", spec.mode != RouteMode::Reactive),
        ("match", spec.match_.is_some()),
        ("scorer", spec.scorer.is_some()),
        ("stuck", spec.stuck.is_some()),
        ("candidates[].dailyLimit", any(|c| c.daily_limit.is_some())),
    ];
    set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

/// The payout that `status.active` is evaluated for.
pub fn reference(spec: &BankRouteSpec) -> Result<Payout, SpecError> {
    let reference = spec.reference.as_ref();
    let code = reference.and_then(|r| r.currency.as_deref()).unwrap_or(&spec.reference_currency);
    Ok(Payout {
        amount: reference.and_then(|r| r.amount.as_deref()).map_or(Ok(REFERENCE_AMOUNT), |text| {
            parse_unsigned(text).map_err(|e| SpecError::invalid("reference.amount", e))
        })?,
        currency: Currency::parse(code).map_err(|e| SpecError::invalid("reference.currency", e))?,
        rail: reference.and_then(|r| r.rail.as_ref()).map(ToString::to_string),
        country: reference.and_then(|r| r.country.as_ref()).map(ToString::to_string),
        merchant: None,
    })
}

/// A candidate as the spec declares it, without the state of its connection.
pub fn candidate(wire: &Wire) -> Result<Candidate, SpecError> {
    let field = |name: &str| format!("candidates[{}].{name}", &*wire.name);
    let fees = wire.fees.iter().flatten().map(|fee| convert_fee(wire, fee)).collect::<Result<_, _>>()?;
    Ok(Candidate {
        name: wire.name.to_string(),
        tier: match wire.tier {
            None | Some(WireTier::Primary) => Tier::Primary,
            Some(WireTier::Fallback) => Tier::Fallback,
        },
        fees,
        currencies: currencies(&field("currencies"), wire.currencies.as_deref())?,
        countries: texts(wire.countries.as_deref()),
        rails: texts(wire.rails.as_deref()),
        funding_currency: wire
            .funding_currency
            .as_deref()
            .map(|code| Currency::parse(code).map_err(|e| SpecError::invalid(&field("fundingCurrency"), e)))
            .transpose()?,
        fx_basis_points: wire
            .fx
            .as_ref()
            .and_then(|fx| fx.spread_basis_points.as_deref())
            .map_or(Ok(Decimal::ZERO), |text| {
                parse_decimal(text).map_err(|e| SpecError::invalid(&field("fx.spreadBasisPoints"), e))
            })?,
        settlement_days: wire.settlement_days.and_then(|days| u32::try_from(days).ok()).unwrap_or_default(),
        score: amount(&field("score"), wire.score.as_deref())?.unwrap_or_default(),
        min_amount: amount(&field("minAmount"), wire.min_amount.as_deref())?,
        max_amount: amount(&field("maxAmount"), wire.max_amount.as_deref())?,
        ..Candidate::default()
    })
}

fn accept_windows(wire: &Wire) -> Result<Vec<TimeWindow>, SpecError> {
    windows(&format!("candidates[{}].acceptWindows", &*wire.name), wire.accept_windows.as_deref())
}

fn convert_fee(candidate: &Wire, fee: &WireFee) -> Result<Fee, SpecError> {
    let field = |name: &str| format!("candidates[{}].fees[{}].{name}", &*candidate.name, &*fee.name);
    Ok(Fee {
        name: fee.name.to_string(),
        rails: texts(fee.rails.as_deref()),
        currencies: currencies(&field("currencies"), fee.currencies.as_deref())?,
        currency: fee
            .currency
            .as_deref()
            .map(|code| Currency::parse(code).map_err(|e| SpecError::invalid(&field("currency"), e)))
            .transpose()?,
        up_to_amount: amount(&field("upToAmount"), fee.up_to_amount.as_deref())?,
        basis_points: amount(&field("basisPoints"), fee.basis_points.as_deref())?.unwrap_or_default(),
        fixed: amount(&field("fixed"), fee.fixed.as_deref())?.unwrap_or_default(),
        min: amount(&field("min"), fee.min.as_deref())?,
        max: amount(&field("max"), fee.max.as_deref())?,
        rounding: match fee.rounding {
            None => Rounding::default(),
            Some(WireRounding::HalfUp) => Rounding::HalfUp,
            Some(WireRounding::HalfEven) => Rounding::HalfEven,
            Some(WireRounding::Up) => Rounding::Up,
            Some(WireRounding::Down) => Rounding::Down,
        },
    })
}

fn amount(field: &str, text: Option<&str>) -> Result<Option<Decimal>, SpecError> {
    text.map(|text| parse_unsigned(text).map_err(|e| SpecError::invalid(field, e))).transpose()
}

fn currencies(
    field: &str,
    codes: Option<&[crate::api::v1alpha1::text::CurrencyCode]>,
) -> Result<Vec<Currency>, SpecError> {
    codes
        .unwrap_or_default()
        .iter()
        .map(|code| Currency::parse(code).map_err(|e| SpecError::invalid(field, e)))
        .collect()
}

fn texts<T: ToString>(list: Option<&[T]>) -> Vec<String> {
    list.unwrap_or_default().iter().map(ToString::to_string).collect()
}
