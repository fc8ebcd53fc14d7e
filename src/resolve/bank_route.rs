//! Resolves a route's spec to its reference payout and its candidates. Pure.

use rust_decimal::Decimal;

use crate::api::v1alpha1::bank_route::{
    BankRouteSpec, Candidate as Wire, Fee as WireFee, Rounding as WireRounding, Tier as WireTier, WhenNoneAvailable,
};
use crate::domain::decision::DailyLimit;
use crate::domain::money::{Currency, Rounding, parse_decimal, parse_unsigned};
use crate::domain::route::{Candidate, Fee, Payout, RouteMatch, RouteRules, Tier};
use crate::domain::window::TimeWindow;
use crate::resolve::fields::{amount, currencies, texts, windows};
use crate::resolve::route_rules::{daily_limit, route_match, rules, scorer, unknown_candidates};
use crate::resolve::route_stuck::stuck;
use crate::resolve::spec_error::SpecError;

pub use crate::resolve::route_rules::{DEFAULT_ZONE, RouteScorer};
pub use crate::resolve::route_stuck::{DUPLICATE_RISK_LIMIT, RouteStuck};

/// Default amount of the reference payout.
const REFERENCE_AMOUNT: Decimal = Decimal::ONE_THOUSAND;

/// What a `BankRoute` comes to.
#[derive(Clone, Debug)]
pub struct ResolvedRoute {
    /// The payout that `status.active` is evaluated for.
    pub reference: Payout,
    /// Cost model, rates, weights, pin, hysteresis and mode.
    pub rules: RouteRules,
    /// The payouts that the route applies to, when a request names no route.
    pub match_: RouteMatch,
    /// Priority among the routes that apply: the highest first.
    pub priority: i32,
    /// Whether a payout is held while no bank is available; else it is rejected.
    pub holds: bool,
    /// The external scoring service; `None`: the built-in forecaster.
    pub scorer: Option<RouteScorer>,
    /// The candidates, in the spec's order.
    pub candidates: Vec<RouteCandidate>,
    /// How stuck payouts are handled.
    pub stuck: RouteStuck,
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
    /// Name of its connection, in the route's namespace.
    pub connection: String,
    /// Identifier of the bank in other systems; `None`: its name.
    pub bank_profile_id: Option<String>,
    /// What it takes of payouts in a calendar day; `None`: without limit.
    pub daily_limit: Option<DailyLimit>,
}

/// Resolves a `BankRoute`.
pub fn bank_route(spec: &BankRouteSpec) -> Result<ResolvedRoute, SpecError> {
    let reference = reference(spec)?;
    let candidates = spec.candidates.iter().map(route_candidate).collect::<Result<_, SpecError>>()?;
    Ok(ResolvedRoute {
        reference,
        rules: rules(spec)?,
        match_: route_match(spec)?,
        priority: spec.priority,
        holds: spec.when_none_available == WhenNoneAvailable::Hold,
        scorer: spec.scorer.as_ref().map(scorer).transpose()?,
        candidates,
        stuck: stuck(spec)?,
        unknown_candidates: unknown_candidates(spec),
        unused_fields: unused_fields(spec),
    })
}

/// Set fields that this version does not evaluate.
pub const fn unused_fields(_: &BankRouteSpec) -> Vec<&'static str> {
    Vec::new()
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

fn route_candidate(wire: &Wire) -> Result<RouteCandidate, SpecError> {
    let field = format!("candidates[{}].dailyLimit", &*wire.name);
    Ok(RouteCandidate {
        candidate: candidate(wire)?,
        accept_windows: accept_windows(wire)?,
        connection: wire.connection_ref.name.to_string(),
        bank_profile_id: wire.bank_profile_id.clone(),
        daily_limit: wire.daily_limit.as_ref().map(|limit| daily_limit(&field, limit)).transpose()?,
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::v1alpha1::reasons::Reason;
    use crate::domain::route::RouteMode;

    fn resolve(patch: &Value) -> Result<ResolvedRoute, SpecError> {
        let mut spec =
            json!({"referenceCurrency": "EUR", "candidates": [{"name": "a", "connectionRef": {"name": "bank"}}]});
        for (name, value) in patch.as_object().unwrap() {
            spec[name] = value.clone();
        }
        bank_route(&serde_json::from_value(spec).unwrap())
    }

    fn with_limit(limit: &Value) -> Result<ResolvedRoute, SpecError> {
        resolve(&json!({"candidates": [{"name": "a", "connectionRef": {"name": "bank"}, "dailyLimit": limit}]}))
    }

    #[test]
    fn an_unset_field_has_its_default() {
        let route = resolve(&json!({})).unwrap();
        assert_eq!((route.match_, route.priority, route.holds, route.scorer), (RouteMatch::default(), 0, true, None));
        assert_eq!(route.rules.mode, RouteMode::Reactive);
        let candidate = &route.candidates[0];
        assert_eq!((candidate.connection.as_str(), &candidate.bank_profile_id), ("bank", &None));
        assert_eq!((&candidate.daily_limit, route.unused_fields), (&None, Vec::new()));
    }

    #[test]
    fn match_priority_mode_scorer_and_policy_are_used() {
        let route = resolve(&json!({
            "match": {"currencies": ["NOK"], "countries": ["NO"], "rails": ["SEPA"], "minAmount": "1", "maxAmount": "9.5"},
            "priority": 7, "mode": "Hybrid", "whenNoneAvailable": "Reject",
            "scorer": {"connectionRef": {"name": "sira"}, "maxAge": "90s"},
        }))
        .unwrap();
        assert_eq!(route.match_.currencies, [Currency::parse("NOK").unwrap()]);
        assert_eq!(
            (&*route.match_.countries, &*route.match_.rails),
            (&["NO".to_owned()][..], &["SEPA".to_owned()][..])
        );
        assert_eq!((route.match_.min_amount, route.match_.max_amount), (Some(1.into()), Some(Decimal::new(95, 1))));
        assert_eq!((route.priority, route.rules.mode, route.holds), (7, RouteMode::Hybrid, false));
        let (connection, max_age) = ("sira".to_owned(), std::time::Duration::from_secs(90));
        assert_eq!(route.scorer, Some(RouteScorer { connection, max_age }));
        assert_eq!(route.unused_fields, Vec::<&str>::new());
        let default = resolve(&json!({"scorer": {"connectionRef": {"name": "sira"}}})).unwrap();
        assert_eq!(default.scorer.unwrap().max_age, std::time::Duration::from_mins(10));
        let stuck = resolve(&json!({"stuck": {"after": "45m"}})).unwrap();
        assert_eq!(stuck.unused_fields, Vec::<&str>::new());
        assert_eq!(stuck.stuck.rules.after, std::time::Duration::from_mins(45));
    }

    #[test]
    fn a_daily_limit_counts_days_of_its_zone_which_must_exist() {
        let of = |limit: &Value| with_limit(limit).unwrap().candidates[0].daily_limit.clone().unwrap();
        let both = of(&json!({"amount": "1000000", "count": 500, "timeZone": "Europe/Oslo"}));
        assert_eq!((both.amount, both.count, &*both.zone), (Some(1_000_000.into()), Some(500), "Europe/Oslo"));
        let utc = of(&json!({"count": 1}));
        assert_eq!((utc.amount, utc.count, &*utc.zone), (None, Some(1), "UTC"));
        let unknown = with_limit(&json!({"count": 1, "timeZone": "Atlantis/Capital"})).unwrap_err();
        assert_eq!((unknown.reason, unknown.waiting), (Reason::InvalidSchedule, false));
        assert!(unknown.message.starts_with("spec.candidates[a].dailyLimit: timeZone must be"), "{}", unknown.message);
    }

    #[test]
    fn a_field_that_cannot_be_used_is_named() {
        for (patch, field) in [
            (json!({"match": {"currencies": ["eur"]}}), "spec.match.currencies"),
            (json!({"match": {"minAmount": "-1"}}), "spec.match.minAmount"),
            (json!({"match": {"maxAmount": "much"}}), "spec.match.maxAmount"),
            (json!({"scorer": {"connectionRef": {"name": "x"}, "maxAge": "soon"}}), "spec.scorer.maxAge"),
        ] {
            let error = resolve(&patch).unwrap_err();
            assert!(error.reason == Reason::InvalidSpec && error.message.starts_with(field), "{}", error.message);
        }
        let amount = with_limit(&json!({"amount": "much"})).unwrap_err();
        assert!(amount.message.starts_with("spec.candidates[a].dailyLimit.amount"), "{}", amount.message);
        let count = with_limit(&json!({"count": -1})).unwrap_err();
        assert!(count.message.starts_with("spec.candidates[a].dailyLimit.count"), "{}", count.message);
    }
}
