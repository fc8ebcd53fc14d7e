//! Tests of the route evaluation: golden fees, each exclusion, tiers, independence of the list order; costs in `costs`.

use std::time::Duration;

use proptest::prelude::*;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::StandingState::{Excluded, Preferred, Standby};
use super::fee::select;
use super::*;
use crate::domain::breaker::EffectiveState;
use crate::domain::health::{Health, HealthMonitor, Thresholds};
use crate::domain::money::{Currency, Rounding, parse_decimal};
use crate::domain::time::Mono;

mod costs;

/// The evaluation by a route's defaults, in the payout's currency.
fn evaluate(payout: &Payout, candidates: &[Candidate]) -> Evaluation {
    let rules = RouteRules::new(Rates::none(payout.currency));
    super::evaluate(payout, &rules, candidates, None, Timestamp::UNIX_EPOCH)
}

/// The fee without any rates.
fn fee(payout: &Payout, list: &[Fee]) -> Option<Decimal> {
    super::fee(payout, list, &Rates::none(payout.currency))
}

fn dec(text: &str) -> Decimal {
    parse_decimal(text).unwrap()
}

fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

fn payout(amount: &str, code: &str) -> Payout {
    Payout { amount: dec(amount), currency: currency(code), rail: None, country: None, merchant: None }
}

fn price(bps: &str, fixed: &str) -> Fee {
    Fee { basis_points: dec(bps), fixed: dec(fixed), ..Fee::default() }
}

fn bank(name: &str, bps: &str, fixed: &str) -> Candidate {
    Candidate {
        name: name.into(),
        circuit: Some(EffectiveState::Closed),
        fees: vec![price(bps, fixed)],
        ..Candidate::default()
    }
}

fn states(evaluation: &Evaluation) -> Vec<(&str, StandingState, &str)> {
    evaluation.standings.iter().map(|s| (s.name.as_str(), s.state, s.reason.as_str())).collect()
}

#[test]
fn the_golden_fees_are_exact() {
    for (amount, code, bps, fixed, want) in [
        ("1000", "USD", "50", "0.30", "5.30"),
        ("1000", "USD", "40", "1.00", "5.00"),
        ("1000", "USD", "45", "0.80", "5.30"),
        ("10", "USD", "50", "0.30", "0.35"),
        ("1000000", "USD", "50", "0.30", "5000.30"),
        ("655957", "XOF", "50", "200", "3480"),
    ] {
        let fee = fee(&payout(amount, code), &[price(bps, fixed)]);
        assert_eq!(fee, Some(dec(want)), "{amount} {code} at {bps} bps + {fixed}");
    }
}

#[test]
fn the_lowest_fee_is_preferred_and_the_name_breaks_ties() {
    let banks = [bank("a", "50", "0.30"), bank("b", "40", "1.00"), bank("c", "45", "0.80")];
    let evaluation = evaluate(&payout("1000", "USD"), &banks);
    assert_eq!(evaluation.active.as_deref(), Some("b"));
    assert_eq!(
        states(&evaluation),
        [("a", Standby, "HigherCost"), ("b", Preferred, "LowestCost"), ("c", Standby, "HigherCost")]
    );
    assert_eq!(evaluation.available(), 3);
    let evaluation = evaluate(&payout("1000", "USD"), &[banks[2].clone(), banks[0].clone()]);
    assert_eq!(states(&evaluation), [("a", Preferred, "LowestCost"), ("c", Standby, "TieBrokenByName")]);
}

#[test]
fn the_fee_is_clamped_and_rounded_as_configured() {
    let priced = |fee_: Fee| fee(&payout("1000", "USD"), &[fee_]).unwrap();
    assert_eq!(priced(Fee { min: Some(dec("7.50")), ..price("50", "0") }), dec("7.50"));
    assert_eq!(priced(Fee { max: Some(dec("2")), ..price("50", "0") }), dec("2"));
    assert_eq!(priced(Fee { min: Some(dec("9")), max: Some(dec("3")), ..price("50", "0") }), dec("3"), "max wins");
    let half = |rounding| priced(Fee { rounding, ..price("50", "0.005") });
    assert_eq!(
        [Rounding::HalfEven, Rounding::HalfUp, Rounding::Up, Rounding::Down].map(half),
        [dec("5.00"), dec("5.01"), dec("5.01"), dec("5.00")]
    );
}

#[test]
fn fee_entry_precedence_is_selectors_then_limit_then_name() {
    let entry = |name: &str, rails: &[&str], codes: &[&str], limit: Option<&str>| Fee {
        name: name.into(),
        rails: rails.iter().map(|&r| r.into()).collect(),
        currencies: codes.iter().map(|&c| currency(c)).collect(),
        up_to_amount: limit.map(dec),
        ..Fee::default()
    };
    let list = [
        entry("any", &[], &[], None),
        entry("any-small", &[], &[], Some("100")),
        entry("sepa", &["SEPA"], &[], None),
        entry("sepa-eur", &["SEPA", "INST"], &["EUR"], Some("5000")),
        entry("sepa-eur-small", &["SEPA"], &["EUR"], Some("100")),
        entry("sepa-eur-twin", &["SEPA"], &["EUR"], Some("100")),
    ];
    let pick = |amount: &str, code: &str, rail: Option<&str>| {
        let asked = Payout { rail: rail.map(str::to_owned), ..payout(amount, code) };
        select(&asked, &list).map(|f| f.name.as_str())
    };
    assert_eq!(pick("100", "EUR", Some("SEPA")), Some("sepa-eur-small"), "inclusive");
    assert_eq!(pick("101", "EUR", Some("SEPA")), Some("sepa-eur"));
    assert_eq!(pick("9000", "EUR", Some("SEPA")), Some("sepa"));
    assert_eq!(pick("50", "USD", None), Some("any-small"), "a payout without a rail matches no rail");
    assert_eq!(pick("500", "USD", Some("ACH")), Some("any"));
}

#[test]
fn an_unknown_fee_ranks_after_every_known_fee() {
    let mut foreign = bank("a", "1", "1");
    foreign.fees[0].currency = Some(currency("EUR"));
    let mut unpriced = bank("b", "1", "0");
    unpriced.fees[0].rails = vec!["SEPA".into()];
    let banks = [foreign, unpriced, bank("z", "999", "0")];
    let evaluation = evaluate(&payout("1000", "USD"), &banks);
    assert_eq!(
        states(&evaluation),
        [("a", Standby, "CostUnknown"), ("b", Standby, "CostUnknown"), ("z", Preferred, "LowestCost")]
    );
    let evaluation = evaluate(&payout("1000", "USD"), &banks[..2]);
    assert_eq!(evaluation.active.as_deref(), Some("a"), "an unknown fee is better than no bank");
    assert_eq!(evaluation.standings[0].reason, CandidateReason::CostUnknown);
    let huge = price("999999999999999", "0");
    assert_eq!(fee(&payout("999999999999999.99999999", "USD"), &[huge]), None, "overflow");
    assert_eq!(fee(&payout("1000", "QQQ"), &[price("1", "0")]), None, "no minor unit to round to");
    assert_eq!(fee(&payout("1000", "QQQ"), &[]), Some(Decimal::ZERO), "an empty fee list is free");
}

#[test]
fn each_exclusion_has_its_own_reason() {
    let asked = Payout { rail: Some("SEPA".into()), country: Some("NO".into()), ..payout("1000", "EUR") };
    let base = bank("x", "1", "0");
    for (candidate, want) in [
        (Candidate { circuit: None, ..base.clone() }, "ConnectionNotFound"),
        (Candidate { circuit: Some(EffectiveState::Open), ..base.clone() }, "CircuitOpen"),
        (Candidate { circuit: Some(EffectiveState::HalfOpen), ..base.clone() }, "CircuitHalfOpen"),
        (Candidate { circuit: Some(EffectiveState::ForcedOpen), ..base.clone() }, "ForcedOpen"),
        (Candidate { health: CandidateHealth::Unhealthy, ..base.clone() }, "Unhealthy"),
        (Candidate { health: CandidateHealth::NeverHealthy, ..base.clone() }, "NeverHealthy"),
        (Candidate { suspended: true, ..base.clone() }, "Suspended"),
        (Candidate { exclusion: Some(CandidateReason::ConnectionNotReady), ..base.clone() }, "ConnectionNotReady"),
        (Candidate { currencies: vec![currency("USD")], ..base.clone() }, "CurrencyNotServed"),
        (Candidate { countries: vec!["SE".into()], ..base.clone() }, "CountryNotServed"),
        (Candidate { rails: vec!["ACH".into()], ..base.clone() }, "RailNotServed"),
        (Candidate { min_amount: Some(dec("1000.01")), ..base.clone() }, "AmountOutOfRange"),
        (Candidate { max_amount: Some(dec("999.99")), ..base.clone() }, "AmountOutOfRange"),
    ] {
        let evaluation = evaluate(&asked, &[candidate]);
        assert_eq!((evaluation.active.as_deref(), evaluation.available()), (None, 0));
        assert_eq!(states(&evaluation), [("x", Excluded, want)]);
        assert_eq!(evaluation.standings[0].cost, None);
    }
    for circuit in [EffectiveState::Closed, EffectiveState::ForcedClosed, EffectiveState::Shadow] {
        let inclusive = Candidate {
            circuit: Some(circuit),
            min_amount: Some(dec("1000")),
            max_amount: Some(dec("1000")),
            currencies: vec![currency("EUR")],
            countries: vec!["NO".into()],
            rails: vec!["SEPA".into()],
            ..base.clone()
        };
        assert_eq!(evaluate(&asked, &[inclusive]).active.as_deref(), Some("x"), "{circuit}");
    }
}

#[test]
fn a_fallback_is_considered_only_when_no_primary_passes() {
    let fallback = |name: &str, bps: &str| Candidate { tier: Tier::Fallback, ..bank(name, bps, "0") };
    let mut banks = [bank("dear", "100", "0"), fallback("cheap", "1"), fallback("free", "0")];
    let evaluation = evaluate(&payout("1000", "USD"), &banks);
    assert_eq!(
        states(&evaluation),
        [
            ("cheap", StandingState::Fallback, "PrimaryAvailable"),
            ("dear", Preferred, "LowestCost"),
            ("free", StandingState::Fallback, "PrimaryAvailable")
        ]
    );
    banks[0].circuit = Some(EffectiveState::Open);
    let evaluation = evaluate(&payout("1000", "USD"), &banks);
    assert_eq!(
        states(&evaluation),
        [("cheap", Standby, "HigherCost"), ("dear", Excluded, "CircuitOpen"), ("free", Preferred, "LowestCost")]
    );
}

#[test]
fn changes_of_the_active_bank_are_classified() {
    let mut banks = [bank("a", "10", "0"), bank("b", "20", "0")];
    let asked = payout("1000", "USD");
    let both = evaluate(&asked, &banks);
    assert_eq!(change(None, None, &both), RouteChange::Available);
    assert_eq!(change(Some("a"), None, &both), RouteChange::None);
    banks[0].circuit = Some(EffectiveState::Open);
    let without_a = evaluate(&asked, &banks);
    assert_eq!(change(Some("a"), None, &without_a), RouteChange::FailedOver);
    assert_eq!(change(Some("b"), Some("a"), &without_a), RouteChange::None);
    assert_eq!(change(Some("b"), Some("a"), &both), RouteChange::FailedBack);
    assert_eq!(change(Some("b"), None, &both), RouteChange::Switched, "b would still be available");
    assert_eq!(change(Some("removed"), None, &both), RouteChange::Switched, "an edit of the route is no failure");
    banks[1].suspended = true;
    let none = evaluate(&asked, &banks);
    assert_eq!(change(Some("b"), Some("a"), &none), RouteChange::NoneAvailable);
    assert_eq!(change(None, None, &none), RouteChange::None);
    assert_eq!(change(None, Some("a"), &both), RouteChange::FailedBack, "after a time without any bank");
}

fn circuit() -> impl Strategy<Value = Option<EffectiveState>> {
    use EffectiveState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open, Shadow};
    let states = vec![Closed, HalfOpen, Open, ForcedOpen, ForcedClosed, Shadow];
    prop::option::weighted(0.9, prop::sample::select(states))
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    use CandidateHealth::{NeverHealthy, Unhealthy, Usable};
    let health = prop::sample::select(vec![Usable, Usable, Usable, Unhealthy, NeverHealthy]);
    let circuit = (circuit(), health);
    let one = (circuit, any::<bool>(), 0u32..40, 0u32..4, prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    prop::collection::vec(one, 0..8).prop_map(|list| {
        let build = |(n, one)| {
            let ((circuit, health), fallback, bps, fixed, suspended, foreign): (_, bool, u32, u32, bool, bool) = one;
            let mut candidate = bank(&format!("bank-{n}"), "0", "0");
            (candidate.circuit, candidate.health) = (circuit, health);
            candidate.tier = if fallback { Tier::Fallback } else { Tier::Primary };
            candidate.suspended = suspended;
            candidate.fees[0].basis_points = Decimal::from(bps);
            candidate.fees[0].fixed = Decimal::new(i64::from(fixed), 1);
            candidate.fees[0].currency = foreign.then(|| currency("EUR"));
            candidate
        };
        list.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #[test]
    fn the_order_of_the_candidates_has_no_effect(
        (sorted, shuffled) in candidates().prop_flat_map(|c| (Just(c.clone()), Just(c).prop_shuffle())),
    ) {
        let asked = payout("1000", "USD");
        prop_assert_eq!(evaluate(&asked, &sorted), evaluate(&asked, &shuffled));
    }

    #[test]
    fn the_active_bank_is_eligible_and_the_cheapest_of_its_tier(list in candidates()) {
        let asked = payout("1000", "USD");
        let evaluation = evaluate(&asked, &list);
        let find = |name: &str| list.iter().find(|c| c.name == name).unwrap();
        prop_assert_eq!(evaluation.active.is_some(), evaluation.available() > 0);
        prop_assert_eq!(evaluation.standings.len(), list.len());
        let Some(active) = evaluation.active.as_deref().map(find) else { return Ok(()) };
        prop_assert!(active.circuit.is_some_and(EffectiveState::accepts_payouts) && !active.suspended);
        let forced = active.circuit == Some(EffectiveState::ForcedClosed);
        prop_assert!(forced || active.health == CandidateHealth::Usable);
        for standing in evaluation.standings.iter().filter(|s| s.state != StandingState::Excluded) {
            let other = find(&standing.name);
            prop_assert!(active.tier <= other.tier);
            if active.tier == other.tier && let Some(theirs) = standing.cost {
                let mine = evaluation.standing(&active.name).and_then(|standing| standing.cost);
                prop_assert!(mine.is_some_and(|mine| mine.total <= theirs.total));
            }
        }
    }

    #[test]
    fn a_bank_whose_last_checks_failed_is_never_preferred(
        checks in prop::collection::vec(any::<bool>(), 0..12), unhealthy in 1u32..5, healthy in 1u32..4,
        circuit in circuit(), passive in any::<bool>(),
    ) {
        let mut monitor = HealthMonitor::new(Thresholds { healthy, unhealthy, latency: None });
        for (n, passed) in checks.iter().enumerate() {
            let at = Mono::ZERO + Duration::from_secs(30 * n as u64);
            let _ = monitor.observe_check(*passed, Duration::ZERO, at);
        }
        let ever = checks.contains(&true);
        let mut candidate = bank("x", "1", "0");
        candidate.circuit = circuit.filter(|circuit| *circuit != EffectiveState::ForcedClosed);
        candidate.health = CandidateHealth::of(monitor.health() == Health::Unhealthy, ever, passive);
        let last = checks.iter().rev().take(unhealthy as usize);
        let all_failed = checks.len() >= unhealthy as usize && last.copied().all(|passed| !passed);
        let active = evaluate(&payout("1000", "USD"), &[candidate]).active.is_some();
        prop_assert!(!(active && all_failed), "its last {} checks failed", unhealthy);
        prop_assert!(!(active && !ever && !passive), "no check ever passed");
    }

    #[test]
    fn removing_a_candidate_never_excludes_another(list in candidates(), gone in any::<prop::sample::Index>()) {
        // Not an assumption: a soak's many cases would exceed the number that may be rejected.
        if list.is_empty() {
            return Ok(());
        }
        let asked = payout("1000", "USD");
        let before = evaluate(&asked, &list);
        let mut fewer = list.clone();
        fewer.remove(gone.index(list.len()));
        for standing in evaluate(&asked, &fewer).standings {
            let was = before.standing(&standing.name).unwrap().state;
            prop_assert_eq!(standing.state == StandingState::Excluded, was == StandingState::Excluded);
        }
    }
}
