//! Resolves the rules of a route: match, cost model, rates, weights, pin, hysteresis, scorer and daily limits. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use crate::api::v1alpha1::bank_route::{
    Adjustment as WireAdjustment, BankRouteSpec, DailyLimit as WireDailyLimit, ReferenceRates, RouteMode as WireMode,
    Scorer,
};
use crate::api::v1alpha1::reasons::Reason;
use crate::domain::decision::DailyLimit;
use crate::domain::money::{Currency, parse_unsigned};
use crate::domain::route::{
    Adjustment, AdjustmentScope, CostModel, Hysteresis, Pin, PinSource, Rates, RouteMatch, RouteMode, RouteRules,
};
use crate::domain::schedule::ScheduleError;
use crate::resolve::fields::{amount, currencies, duration, instant, number, texts};
use crate::resolve::spec_error::SpecError;

/// Zone of the calendar day of a daily limit without `timeZone`.
pub const DEFAULT_ZONE: &str = "UTC";

/// Maximum age of an external score, where `spec.scorer.maxAge` is not set.
const DEFAULT_SCORE_AGE: Duration = Duration::from_mins(10);

/// The external scoring service of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteScorer {
    /// Name of its connection, in the route's namespace.
    pub connection: String,
    /// Maximum age of a score.
    pub max_age: Duration,
}

/// The payouts that the route applies to.
pub(super) fn route_match(spec: &BankRouteSpec) -> Result<RouteMatch, SpecError> {
    let Some(wire) = &spec.match_ else { return Ok(RouteMatch::default()) };
    Ok(RouteMatch {
        currencies: currencies("match.currencies", wire.currencies.as_deref())?,
        countries: texts(wire.countries.as_deref()),
        rails: texts(wire.rails.as_deref()),
        min_amount: amount("match.minAmount", wire.min_amount.as_deref())?,
        max_amount: amount("match.maxAmount", wire.max_amount.as_deref())?,
    })
}

/// The external scoring service.
pub(super) fn scorer(wire: &Scorer) -> Result<RouteScorer, SpecError> {
    Ok(RouteScorer {
        connection: wire.connection_ref.name.to_string(),
        max_age: duration("scorer.maxAge", wire.max_age.as_deref(), DEFAULT_SCORE_AGE)?,
    })
}

/// What the candidate of `field` takes of payouts in a calendar day.
pub(super) fn daily_limit(field: &str, wire: &WireDailyLimit) -> Result<DailyLimit, SpecError> {
    let zone = wire.time_zone.as_deref().unwrap_or(DEFAULT_ZONE);
    if TimeZone::get(zone).is_err() {
        let message = format!("spec.{field}: {}", ScheduleError::TimeZone);
        return Err(SpecError::stalled(Reason::InvalidSchedule, message));
    }
    let count = wire.count.map(|count| number(&format!("{field}.count"), Some(count), 0)).transpose()?;
    Ok(DailyLimit { amount: amount(&format!("{field}.amount"), wire.amount.as_deref())?, count, zone: zone.to_owned() })
}

/// The rules of a route.
pub(super) fn rules(spec: &BankRouteSpec) -> Result<RouteRules, SpecError> {
    let reference =
        Currency::parse(&spec.reference_currency).map_err(|e| SpecError::invalid("referenceCurrency", e))?;
    Ok(RouteRules {
        cost: cost_model(spec)?,
        rates: spec.reference_rates.as_ref().map_or(Ok(Rates::none(reference)), |wire| rates(reference, wire))?,
        adjustments: spec.adjustments.iter().flatten().map(adjustment).collect::<Result<_, _>>()?,
        approved: None,
        pins: spec
            .pin
            .iter()
            .map(|pin| {
                Ok::<_, SpecError>(Pin {
                    candidate: pin.candidate.to_string(),
                    scope: AdjustmentScope::Global,
                    source: PinSource::Spec,
                    until: instant("pin.untilTime", &pin.until_time)?,
                })
            })
            .collect::<Result<_, _>>()?,
        hysteresis: hysteresis(spec)?,
        mode: match spec.mode {
            WireMode::Reactive => RouteMode::Reactive,
            WireMode::Predictive => RouteMode::Predictive,
            WireMode::Hybrid => RouteMode::Hybrid,
        },
    })
}

/// The fields that name a candidate which the route does not have. Operations staff own them, so they are no error of
/// the spec that Git owns.
pub(super) fn unknown_candidates(spec: &BankRouteSpec) -> Vec<String> {
    let is_known = |name: &str| spec.candidates.iter().any(|candidate| &*candidate.name == name);
    let adjustments = spec.adjustments.iter().flatten();
    let adjustments = adjustments.map(|one| (format!("adjustments[{}].candidate", &*one.name), &*one.candidate));
    let pin = spec.pin.iter().map(|pin| ("pin.candidate".to_owned(), &*pin.candidate));
    adjustments.chain(pin).filter(|(_, name)| !is_known(name)).map(|(field, _)| field).collect()
}

fn cost_model(spec: &BankRouteSpec) -> Result<CostModel, SpecError> {
    let (wire, defaults) = (spec.cost.as_ref(), CostModel::default());
    let read = |field: &str, text: Option<&str>, default: Decimal| {
        text.map_or(Ok(default), |text| decimal(&format!("cost.{field}"), text))
    };
    Ok(CostModel {
        retry_basis_points: read(
            "retryBasisPoints",
            wire.and_then(|cost| cost.retry_basis_points.as_deref()),
            defaults.retry_basis_points,
        )?,
        health_penalty: read(
            "healthPenalty",
            wire.and_then(|cost| cost.health_penalty.as_deref()),
            defaults.health_penalty,
        )?,
        delay_basis_points: read(
            "delayBasisPoints",
            wire.and_then(|cost| cost.delay_basis_points.as_deref()),
            defaults.delay_basis_points,
        )?,
    })
}

fn rates(reference: Currency, wire: &ReferenceRates) -> Result<Rates, SpecError> {
    let as_of = instant("referenceRates.asOfTime", &wire.as_of_time)?;
    let max_age = wire.max_age.as_deref().map(|text| duration("referenceRates.maxAge", Some(text), Duration::ZERO));
    let max_age = max_age.transpose()?;
    let expires = max_age.map(|max_age| as_of.checked_add(max_age).unwrap_or(Timestamp::MAX));
    let values = wire.rates.iter().map(|rate| {
        let field = || format!("referenceRates.rates[{}].rate", &*rate.currency);
        let currency = Currency::parse(&rate.currency).map_err(|e| SpecError::invalid(&field(), e))?;
        Ok((currency, decimal(&field(), &rate.rate)?))
    });
    Ok(Rates::new(reference, values.collect::<Result<Vec<_>, SpecError>>()?, expires).with_max_age(max_age))
}

fn adjustment(wire: &WireAdjustment) -> Result<Adjustment, SpecError> {
    let field = |name: &str| format!("adjustments[{}].{name}", &*wire.name);
    let scope = wire.scope.as_ref();
    let country = scope.and_then(|scope| scope.country.as_ref()).map(|text| AdjustmentScope::Country(text.to_string()));
    let merchant = scope.and_then(|scope| scope.merchant.as_ref());
    let merchant = merchant.map(|text| AdjustmentScope::Merchant(text.clone()));
    Ok(Adjustment {
        candidate: wire.candidate.to_string(),
        name: wire.name.to_string(),
        scope: country.or(merchant).unwrap_or(AdjustmentScope::Global),
        weight: decimal(&field("weight"), &wire.weight)?,
        until: instant(&field("untilTime"), &wire.until_time)?,
    })
}

fn hysteresis(spec: &BankRouteSpec) -> Result<Hysteresis, SpecError> {
    let wire = spec.hysteresis.as_ref();
    let percent = wire.and_then(|wire| wire.switch_percent).unwrap_or_default();
    Ok(Hysteresis {
        switch_percent: u8::try_from(percent.clamp(0, 100)).unwrap_or_default(),
        min_hold: duration("hysteresis.minHold", wire.and_then(|wire| wire.min_hold.as_deref()), Duration::ZERO)?,
    })
}

fn decimal(field: &str, text: &str) -> Result<Decimal, SpecError> {
    parse_unsigned(text).map_err(|error| SpecError::invalid(field, error))
}
