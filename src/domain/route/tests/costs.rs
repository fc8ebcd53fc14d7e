//! The cost model to the last digit, weights, pins, hysteresis, rates.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-11-29T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// Rules in USD with this value of one unit of each currency.
fn rules(rates: &[(&str, &str)]) -> RouteRules {
    let values: Vec<_> = rates.iter().map(|(code, value)| (currency(code), dec(value))).collect();
    RouteRules::new(Rates::new(currency("USD"), values, None))
}

fn choose(rules: &RouteRules, candidates: &[Candidate], incumbent: Option<(&str, u64)>) -> Evaluation {
    let incumbent = incumbent.map(|(name, ago)| Incumbent { name, since: now() - Duration::from_secs(ago) });
    super::super::evaluate(&payout("1000", "USD"), rules, candidates, incumbent, now())
}

/// A pin for all payouts.
pub(super) fn pin(candidate: &str, source: PinSource, until: Timestamp) -> Pin {
    Pin { candidate: candidate.into(), scope: AdjustmentScope::Global, source, until }
}

/// A bank with this success in parts per million.
fn with_success(candidate: Candidate, success: u32) -> Candidate {
    Candidate { success: Some(success), ..candidate }
}

/// A bank that exchanges at this spread.
fn exchanging(candidate: Candidate, basis_points: &str) -> Candidate {
    Candidate { funding_currency: Some(currency("EUR")), fx_basis_points: dec(basis_points), ..candidate }
}

#[test]
fn the_golden_costs_are_exact() {
    for (amount, bps, fixed, spread, success, [fee, fx, retry, health, total]) in [
        ("1000", "50", "0.30", "20", 980_000, ["5.30", "2.00", "0.20", "0.20", "7.70"]),
        ("1000", "40", "1.00", "25", 900_000, ["5.00", "2.50", "1.00", "1.00", "9.50"]),
        ("1000", "45", "0.80", "20", 995_000, ["5.30", "2.00", "0.05", "0.05", "7.40"]),
        ("10", "50", "0.30", "20", 980_000, ["0.35", "0.02", "0.002", "0.20", "0.572"]),
        ("1000000", "50", "0.30", "20", 980_000, ["5000.30", "2000", "200", "0.20", "7200.50"]),
    ] {
        let candidate = with_success(exchanging(bank("x", bps, fixed), spread), success);
        let found =
            cost::cost(&payout(amount, "USD"), &candidate, &CostModel::default(), &rules(&[]).rates, Decimal::ONE);
        let found = found.unwrap();
        let terms = [found.fee, found.fx, found.retry, found.health, found.total];
        assert_eq!(terms, [fee, fx, retry, health, total].map(dec), "{amount} at {bps} bps");
    }
}

#[test]
fn the_penalty_is_converted_to_the_payouts_currency() {
    let rates = Rates::new(currency("XOF"), [(currency("USD"), dec("655.957"))], None);
    // 10 USD are 6 559.57 XOF; the reference currency is USD.
    let rates_of_usd = Rates::new(currency("USD"), [(currency("XOF"), Decimal::ONE / dec("655.957"))], None);
    let candidate = with_success(exchanging(bank("d", "50", "200"), "0"), 980_000);
    let asked = payout("655957", "XOF");
    let found = cost::cost(&asked, &candidate, &CostModel::default(), &rates_of_usd, Decimal::ONE).unwrap();
    assert_eq!((found.fee, found.retry), (dec("3480"), dec("131.1914")));
    assert_eq!(found.health.round_dp(4), dec("131.1914"));
    assert_eq!((found.total + dec("1300")).round_dp(4), dec("5042.3828"));
    // The other way round the conversion is exact.
    assert_eq!(rates.convert(Decimal::TEN, currency("USD"), currency("XOF")), Some(dec("6559.57")));
    let unknown = cost::cost(&asked, &candidate, &CostModel::default(), &rules(&[]).rates, Decimal::ONE);
    assert_eq!(unknown, None, "no rate");
    let free = CostModel { health_penalty: Decimal::ZERO, ..CostModel::default() };
    assert!(cost::cost(&asked, &candidate, &free, &rules(&[]).rates, Decimal::ONE).is_some(), "nothing to convert");
}

#[test]
fn a_day_until_settlement_and_a_fee_in_another_currency_cost_what_they_cost() {
    let mut candidate = with_success(bank("x", "0", "2"), 1_000_000);
    candidate.settlement_days = 3;
    candidate.fees[0].currency = Some(currency("EUR"));
    let model = CostModel { delay_basis_points: dec("2"), ..CostModel::default() };
    let rates = rules(&[("EUR", "1.10")]).rates;
    let found = cost::cost(&payout("1000", "USD"), &candidate, &model, &rates, Decimal::ONE).unwrap();
    assert_eq!((found.fee, found.delay, found.total), (dec("2.20"), dec("0.60"), dec("2.80")));
}

#[test]
fn a_failing_bank_loses_to_a_dearer_one_that_works() {
    let (flaky, sound) =
        (with_success(bank("flaky", "0", "1"), 800_000), with_success(bank("sound", "0", "3"), 990_000));
    let banks = [flaky.clone(), sound];
    assert_eq!(choose(&rules(&[]), &banks, None).active.as_deref(), Some("sound"));
    let mut fees_only = rules(&[]);
    (fees_only.cost.retry_basis_points, fees_only.cost.health_penalty) = (Decimal::ZERO, Decimal::ZERO);
    assert_eq!(choose(&fees_only, &banks, None).active.as_deref(), Some("flaky"));
}

#[test]
fn ties_are_broken_by_success_then_score_then_name() {
    let mut free = rules(&[]);
    (free.cost.retry_basis_points, free.cost.health_penalty) = (Decimal::ZERO, Decimal::ZERO);
    let one = |name: &str, success, score: &str| Candidate {
        score: dec(score),
        ..with_success(bank(name, "0", "1"), success)
    };
    let banks = [one("a", 900_000, "1"), one("b", 950_000, "0.2"), one("c", 950_000, "0.8"), one("d", 950_000, "0.8")];
    let evaluation = choose(&free, &banks, None);
    assert_eq!(
        states(&evaluation),
        [
            ("a", Standby, "TieBrokenBySuccess"),
            ("b", Standby, "TieBrokenByScore"),
            ("c", Preferred, "LowestCost"),
            ("d", Standby, "TieBrokenByName")
        ]
    );
}

#[test]
fn a_weight_moves_gains_and_zero_costs_in_the_same_direction() {
    let asked = payout("1000", "USD");
    let model = CostModel::default();
    let weighted = |candidate: &Candidate, weight: &str| {
        cost::cost(&asked, candidate, &model, &rules(&[]).rates, dec(weight)).unwrap().total
    };
    let dear = with_success(bank("x", "100", "0"), 1_000_000);
    assert_eq!(weighted(&dear, "1.5"), dec("15"), "a positive cost is multiplied");
    let gain = with_success(exchanging(bank("x", "0", "0"), "-50"), 1_000_000);
    assert_eq!((weighted(&gain, "1"), weighted(&gain, "1.5")), (dec("-5"), dec("-2.5")), "worse, not better");
    let free = with_success(bank("x", "0", "0"), 1_000_000);
    assert_eq!((weighted(&free, "2"), weighted(&free, "0.5")), (dec("0.01"), dec("-0.005")), "one minor unit");
}

#[test]
fn adjustments_apply_to_their_payouts_until_they_end() {
    let adjustment = |scope, weight: &str, secs: i64| Adjustment {
        candidate: "a".into(),
        name: weight.into(),
        scope,
        weight: dec(weight),
        until: now() + jiff::SignedDuration::from_secs(secs),
    };
    let mut rules = rules(&[]);
    rules.adjustments = vec![
        adjustment(AdjustmentScope::Global, "2", 60),
        adjustment(AdjustmentScope::Country("SN".into()), "3", 120),
        adjustment(AdjustmentScope::Merchant("m-1".into()), "4", 30),
        adjustment(AdjustmentScope::Global, "9", 0),
    ];
    let to = |country: Option<&str>, merchant: Option<&str>| Payout {
        country: country.map(str::to_owned),
        merchant: merchant.map(str::to_owned),
        ..payout("1", "USD")
    };
    assert_eq!(rules.weight(&to(None, None), "a", now()), dec("2"), "one that ends now has ended");
    assert_eq!(rules.weight(&to(Some("SN"), None), "a", now()), dec("6"));
    assert_eq!(rules.weight(&to(Some("SN"), Some("m-1")), "a", now()), dec("10"), "at most 10");
    assert_eq!(rules.weight(&to(Some("SN"), Some("m-1")), "b", now()), Decimal::ONE);
    assert_eq!(rules.next_change(now()), Some(now() + jiff::SignedDuration::from_secs(30)));
}

#[test]
fn a_pin_chooses_among_the_available_and_has_no_effect_otherwise() {
    let mut banks =
        [bank("a", "0", "1"), bank("b", "0", "2"), Candidate { tier: Tier::Fallback, ..bank("c", "0", "0") }];
    let mut rules = rules(&[]);
    let until = now() + jiff::SignedDuration::from_mins(1);
    rules.pins = vec![pin("c", PinSource::Spec, until)];
    assert_eq!(
        states(&choose(&rules, &banks, None)),
        [("a", Standby, "OtherPinned"), ("b", Standby, "HigherCost"), ("c", Preferred, "Pinned")]
    );
    banks[2].circuit = Some(EffectiveState::Open);
    assert_eq!(choose(&rules, &banks, None).active.as_deref(), Some("a"));
    rules.pins = vec![pin("b", PinSource::Spec, now())];
    assert_eq!(choose(&rules, &banks, None).active.as_deref(), Some("a"), "ended");
    rules.pins = vec![pin("unknown", PinSource::Spec, until)];
    assert_eq!(choose(&rules, &banks, None).active.as_deref(), Some("a"), "unknown");
}

#[test]
fn hysteresis_keeps_the_active_bank_unless_it_is_excluded() {
    let mut banks = [bank("a", "0", "9.50"), bank("b", "0", "10")].map(|bank| with_success(bank, 1_000_000));
    let mut rules = rules(&[]);
    assert_eq!(choose(&rules, &banks, Some(("b", 0))).active.as_deref(), Some("a"), "off by default");
    rules.hysteresis.switch_percent = 10;
    let kept = choose(&rules, &banks, Some(("b", 0)));
    assert_eq!(states(&kept), [("a", Standby, "WithinHysteresis"), ("b", Preferred, "KeptByHysteresis")]);
    banks[0].fees[0].fixed = dec("9");
    assert_eq!(choose(&rules, &banks, Some(("b", 0))).active.as_deref(), Some("a"), "cheaper by ten percent");
    rules.hysteresis.min_hold = Duration::from_mins(1);
    let held = choose(&rules, &banks, Some(("b", 59)));
    assert_eq!(held.active.as_deref(), Some("b"));
    assert_eq!(held.held_until, Some(now() + jiff::SignedDuration::from_secs(1)));
    assert_eq!(choose(&rules, &banks, Some(("b", 60))).active.as_deref(), Some("a"));
    banks[1].circuit = Some(EffectiveState::Open);
    assert_eq!(choose(&rules, &banks, Some(("b", 0))).active.as_deref(), Some("a"), "an outage ignores it");
}

#[test]
fn limits_are_in_the_reference_currency_and_unknown_without_a_rate() {
    let limited = Candidate { max_amount: Some(dec("500")), ..bank("x", "0", "1") };
    let asked = payout("1000", "XOF");
    let judged = |rates: &[(&str, &str)]| {
        let evaluation = super::super::evaluate(&asked, &rules(rates), std::slice::from_ref(&limited), None, now());
        evaluation.standings[0].reason.as_str()
    };
    assert_eq!(judged(&[("XOF", "0.4")]), "LowestCost", "400 USD");
    assert_eq!(judged(&[("XOF", "0.6")]), "AmountOutOfRange", "600 USD");
    assert_eq!(judged(&[]), "LimitUnknown");
    let mut old = rules(&[("XOF", "0.4")]);
    old.rates = Rates::new(currency("USD"), [(currency("XOF"), dec("0.4"))], Some(now()));
    let evaluation = super::super::evaluate(&asked, &old, std::slice::from_ref(&limited), None, now());
    assert_eq!(evaluation.standings[0].reason, CandidateReason::LimitUnknown, "rates that are too old are none");
}

proptest! {
    /// I12: scaling every fee keeps the order; a weight above 1 never improves a rank.
    #[test]
    fn scaling_keeps_the_order_and_a_penalty_never_helps(
        list in super::candidates(), factor in 1u32..50, weight in 11u32..100, which in any::<prop::sample::Index>(),
    ) {
        let mut rules = rules(&[("EUR", "1.25")]);
        (rules.cost.retry_basis_points, rules.cost.health_penalty) = (Decimal::ZERO, Decimal::ZERO);
        let order = |rules: &RouteRules, list: &[Candidate]| {
            let mut standings = choose(rules, list, None).standings;
            standings.retain(|standing| standing.cost.is_some());
            standings.sort_by(|a, b| {
                let total = |s: &CandidateStanding| s.cost.map(|cost| cost.total);
                total(a).cmp(&total(b)).then_with(|| a.name.cmp(&b.name))
            });
            standings.into_iter().map(|standing| standing.name).collect::<Vec<_>>()
        };
        let before = order(&rules, &list);
        let mut scaled = list.clone();
        for fee in scaled.iter_mut().flat_map(|candidate| &mut candidate.fees) {
            fee.fixed *= Decimal::from(factor);
            fee.basis_points *= Decimal::from(factor);
        }
        // A fee in another currency is rounded after its conversion: scaling it may move it by less than a minor unit.
        if list.iter().all(|candidate| candidate.fees[0].currency.is_none()) {
            prop_assert_eq!(&order(&rules, &scaled), &before);
        }
        if !before.is_empty() {
            let penalized = before[which.index(before.len())].clone();
            let rank = |order: &[String]| order.iter().position(|name| *name == penalized);
            rules.adjustments = vec![Adjustment {
                candidate: penalized.clone(),
                name: "penalty".into(),
                scope: AdjustmentScope::Global,
                weight: Decimal::new(i64::from(weight), 1),
                until: Timestamp::MAX,
            }];
            prop_assert!(rank(&order(&rules, &list)) >= rank(&before));
        }
    }

    /// I6: the same inputs give the same result, in any order of the candidates; I7: without pin, hysteresis and
    /// incumbent the cheapest of the tier is chosen.
    #[test]
    fn pins_and_incumbents_choose_among_the_available_only(
        list in super::candidates(), pinned in prop::option::of(0usize..8), incumbent in prop::option::of(0usize..8),
        percent in 0u8..60,
    ) {
        let mut rules = rules(&[]);
        rules.hysteresis.switch_percent = percent;
        rules.pins = pinned.iter().map(|n| pin(&format!("bank-{n}"), PinSource::Api, Timestamp::MAX)).collect();
        let incumbent = incumbent.map(|n| format!("bank-{n}"));
        let chosen = choose(&rules, &list, incumbent.as_deref().map(|name| (name, 0)));
        prop_assert_eq!(&chosen, &choose(&rules, &list, incumbent.as_deref().map(|name| (name, 0))));
        prop_assert_eq!(chosen.active.is_some(), chosen.available() > 0);
        let preferred: Vec<_> = chosen.standings.iter().filter(|s| s.state == Preferred).collect();
        prop_assert_eq!(preferred.len(), usize::from(chosen.active.is_some()));
        if let Some(active) = &chosen.active {
            prop_assert!(chosen.standing(active).is_some_and(|s| s.state == Preferred));
        }
        let plain = choose(&super::costs::rules(&[]), &list, None);
        let excluded = |evaluation: &Evaluation| {
            let out = evaluation.standings.iter().filter(|s| s.state == Excluded);
            out.map(|s| s.name.clone()).collect::<Vec<_>>()
        };
        prop_assert_eq!(excluded(&chosen), excluded(&plain), "neither pin nor incumbent excludes a bank");
    }
}
