//! Decisions: golden costs, rates of the request, pins, predictions, overrides, records and their replay.

use super::*;
use crate::domain::money::parse_amount;
use crate::domain::route::StandingState::{Excluded, Fallback, Preferred, Standby};
use crate::domain::route::{
    AdjustmentScope, Approval, CandidatePrediction, CandidateReason, Evaluation, ForecastUse, IneffectivePin, Pin,
    PinSource, RouteMode, StandingState, Tier,
};

/// A bank that exchanges at this spread and succeeds as often.
fn exchanging(name: &str, basis_points: &str, fixed: &str, spread: &str, success: u32) -> SnapshotCandidate {
    let mut one = bank(name, basis_points, fixed);
    one.candidate.funding_currency = Some(currency("EUR"));
    one.candidate.fx_basis_points = dec(spread);
    one.candidate.success = Some(success);
    one
}

/// A bank that never fails and costs this much.
fn fixed(name: &str, amount: &str) -> SnapshotCandidate {
    let mut one = bank(name, "0", amount);
    one.candidate.success = Some(1_000_000);
    one
}

fn choose(request: &DecisionRequest, snapshot: &Snapshot) -> Evaluation {
    decide(request, &snapshot.seal().unwrap().snapshot, &Usage::default(), now())
}

fn states(evaluation: &Evaluation) -> Vec<(&str, StandingState, &str)> {
    evaluation.standings.iter().map(|one| (one.name.as_str(), one.state, one.reason.as_str())).collect()
}

fn rate(from: &str, to: &str, rate: &str) -> RequestRate {
    RequestRate { at: None, from: currency(from), rate: dec(rate), to: currency(to) }
}

fn pin(candidate: &str, source: PinSource) -> Pin {
    Pin { candidate: candidate.into(), scope: AdjustmentScope::Global, source, until: after(60) }
}

fn prediction(success: u32, skill: u32, demoted: bool) -> CandidatePrediction {
    let risk = if demoted { 900_000 } else { 0 };
    CandidatePrediction { demoted, risk, skill, success, valid_until: after(600), ..CandidatePrediction::default() }
}

#[test]
fn the_golden_costs_are_exact_and_the_cheapest_bank_wins() {
    let banks = vec![
        exchanging("a", "50", "0.30", "20", 980_000),
        exchanging("b", "40", "1.00", "25", 900_000),
        exchanging("c", "45", "0.80", "20", 995_000),
    ];
    let evaluation = choose(&request("1000", "USD"), &snapshot(banks.clone()));
    assert_eq!(
        states(&evaluation),
        [("a", Standby, "HigherCost"), ("b", Standby, "HigherCost"), ("c", Preferred, "LowestCost")]
    );
    let terms = |evaluation: &Evaluation, name: &str| {
        let cost = evaluation.standing(name).unwrap().cost.unwrap();
        [cost.fee, cost.fx, cost.retry, cost.health, cost.total]
    };
    assert_eq!(terms(&evaluation, "a"), ["5.30", "2.00", "0.20", "0.20", "7.70"].map(dec));
    assert_eq!(terms(&evaluation, "b"), ["5.00", "2.50", "1.00", "1.00", "9.50"].map(dec));
    assert_eq!(terms(&evaluation, "c"), ["5.30", "2.00", "0.05", "0.05", "7.40"].map(dec));
    for (amount, want) in
        [("10", ["0.35", "0.02", "0.002", "0.20", "0.572"]), ("1000000", ["5000.30", "2000", "200", "0.20", "7200.50"])]
    {
        let evaluation = choose(&request(amount, "USD"), &snapshot(banks[..1].to_vec()));
        assert_eq!(terms(&evaluation, "a"), want.map(dec), "{amount}");
    }
}

#[test]
fn the_penalty_is_converted_by_the_rate_of_the_request_to_the_last_digit() {
    let asked = DecisionRequest { rates: vec![rate("USD", "XOF", "655.957")], ..request("655957", "XOF") };
    let evaluation = choose(&asked, &snapshot(vec![exchanging("d", "50", "200", "0", 980_000)]));
    let cost = evaluation.standings[0].cost.unwrap();
    assert_eq!([cost.fee, cost.retry, cost.health], ["3480", "131.1914", "131.1914"].map(dec));
    assert_eq!(cost.total + dec("1300"), dec("5042.3828"), "with an exchange of 1300");
    let inverse = RequestRate { rate: parse_amount("0.0015").unwrap(), ..rate("XOF", "USD", "1") };
    let asked = DecisionRequest { rates: vec![inverse], ..asked };
    let evaluation = choose(&asked, &snapshot(vec![exchanging("d", "50", "200", "0", 900_000)]));
    assert_eq!(
        evaluation.standings[0].cost.unwrap().health.round_dp(2),
        dec("666.67"),
        "10 USD over 0.0015, times 0.1"
    );
}

#[test]
fn rates_of_the_request_count_before_those_of_the_route_unless_they_are_too_old() {
    let mut route = snapshot(vec![bank("a", "0", "0")]);
    route.candidates[0].candidate.max_amount = Some(dec("500"));
    let reason = |route: &Snapshot, rates: Vec<RequestRate>| {
        choose(&DecisionRequest { rates, ..request("1000", "XOF") }, route).standings[0].reason.as_str()
    };
    assert_eq!(reason(&route, vec![]), "LimitUnknown");
    assert_eq!(reason(&route, vec![rate("XOF", "USD", "0.4")]), "LowestCost");
    assert_eq!(reason(&route, vec![rate("XOF", "USD", "0.6")]), "AmountOutOfRange");
    route.rules.rates = Rates::new(currency("USD"), [(currency("XOF"), dec("0.6")), (currency("EUR"), dec("2"))], None);
    assert_eq!(reason(&route, vec![]), "AmountOutOfRange");
    assert_eq!(reason(&route, vec![rate("XOF", "USD", "0.4")]), "LowestCost", "before the route's");
    assert_eq!(reason(&route, vec![rate("XOF", "EUR", "0.2")]), "AmountOutOfRange", "no rate between the two");
    route.rules.rates = route.rules.rates.clone().with_max_age(Some(Duration::from_mins(10)));
    let aged = |seconds| RequestRate { at: Some(now() - Duration::from_secs(seconds)), ..rate("XOF", "USD", "0.4") };
    assert_eq!(reason(&route, vec![aged(599)]), "LowestCost");
    assert_eq!(reason(&route, vec![aged(600)]), "AmountOutOfRange", "as old as the route allows is too old");
    route.rules.rates = Rates::none(currency("USD")).with_max_age(Some(Duration::from_mins(10)));
    assert_eq!(reason(&route, vec![aged(600)]), "LimitUnknown");
}

#[test]
fn the_pin_of_the_spec_wins_and_one_without_effect_is_reported() {
    let mut route = snapshot(vec![fixed("a", "1"), fixed("b", "2"), fixed("c", "3")]);
    route.rules.pins = vec![pin("b", PinSource::Api), pin("c", PinSource::Spec)];
    let asked = request("1000", "USD");
    let both = choose(&asked, &route);
    assert_eq!(
        states(&both),
        [("a", Standby, "OtherPinned"), ("b", Standby, "HigherCost"), ("c", Preferred, "Pinned")]
    );
    assert_eq!(both.ineffective_pins, []);
    route.candidates[2].candidate.circuit = Some(EffectiveState::Open);
    let failed = choose(&asked, &route);
    assert_eq!(states(&failed)[1], ("b", Preferred, "PinnedByOps"), "the next pin chooses");
    let without = |candidate: &str, reason, source| IneffectivePin { candidate: candidate.into(), reason, source };
    let open = Some(CandidateReason::CircuitOpen);
    assert_eq!(failed.ineffective_pins, [without("c", open, PinSource::Spec)]);
    route.rules.pins.push(pin("gone", PinSource::Api));
    route.candidates[1].candidate.suspended = true;
    let none = choose(&asked, &route);
    assert_eq!(none.active.as_deref(), Some("a"));
    assert_eq!(
        none.ineffective_pins,
        [
            without("c", open, PinSource::Spec),
            without("b", Some(CandidateReason::Suspended), PinSource::Api),
            without("gone", None, PinSource::Api)
        ]
    );
}

#[test]
fn a_pin_applies_to_the_payouts_of_its_scope() {
    let mut route = snapshot(vec![fixed("a", "1"), fixed("b", "2")]);
    route.rules.pins = vec![Pin { scope: AdjustmentScope::Country("SN".into()), ..pin("b", PinSource::Api) }];
    let to = |country: &str| {
        let mut asked = request("1000", "USD");
        asked.payout.country = Some(country.into());
        choose(&asked, &route).active
    };
    assert_eq!((to("SN").as_deref(), to("CI").as_deref()), (Some("b"), Some("a")));
}

#[test]
fn a_prediction_counts_by_its_skill_and_without_skill_changes_nothing() {
    let mut route = snapshot(vec![fixed("a", "1"), fixed("b", "5")]);
    route.candidates[0].candidate.predictions = vec![prediction(500_000, 500_000, false)];
    let asked = request("1000", "USD");
    let by = |route: &Snapshot, mode| {
        let rules = RouteRules { mode, ..route.rules.clone() };
        choose(&asked, &Snapshot { rules, ..route.clone() })
    };
    let reactive = by(&route, RouteMode::Reactive);
    assert_eq!((reactive.active.as_deref(), reactive.standings[0].success), (Some("a"), 1_000_000));
    assert_eq!(reactive.standings[0].forecast, ForecastUse::Off);
    let predictive = by(&route, RouteMode::Predictive);
    // 0.5 · 1 + 0.5 · 0.5: a quarter of 10 for the retry and of 10 USD for the failure.
    assert_eq!((predictive.active.as_deref(), predictive.standings[0].success), (Some("b"), 750_000));
    assert_eq!(predictive.standings[0].cost.unwrap().total, dec("6"));
    let used = |evaluation: &Evaluation| evaluation.standings.iter().map(|one| one.forecast).collect::<Vec<_>>();
    assert_eq!(used(&predictive), [ForecastUse::Used, ForecastUse::Missing]);
    for (why, changed) in [
        (ForecastUse::Unskilled, CandidatePrediction { skill: 0, demoted: true, ..prediction(0, 0, true) }),
        (ForecastUse::Stale, CandidatePrediction { valid_until: now(), ..prediction(0, 1_000_000, true) }),
        (
            ForecastUse::Missing,
            CandidatePrediction { currency: Some(currency("EUR")), ..prediction(0, 1_000_000, true) },
        ),
        (ForecastUse::Missing, CandidatePrediction { rail: Some("SEPA".into()), ..prediction(0, 1_000_000, true) }),
    ] {
        route.candidates[0].candidate.predictions = vec![changed];
        let evaluation = by(&route, RouteMode::Predictive);
        assert_eq!((states(&evaluation), used(&evaluation)[0]), (states(&reactive), why));
        assert_eq!(evaluation.standings[0].cost, reactive.standings[0].cost, "{why:?}");
    }
}

#[test]
fn the_prediction_of_the_narrowest_scope_counts_with_its_exchange_and_settlement() {
    let mut route = snapshot(vec![exchanging("a", "0", "0", "20", 1_000_000)]);
    (route.rules.mode, route.rules.cost.delay_basis_points) = (RouteMode::Predictive, dec("1"));
    let narrow = CandidatePrediction {
        currency: Some(currency("USD")),
        expected_fx: Some(dec("-10")),
        settlement_days: Some(3),
        fraud_risk: Some(999_999),
        ..prediction(1_000_000, 100_000, false)
    };
    route.candidates[0].candidate.predictions = vec![prediction(0, 1_000_000, true), narrow];
    let cost = choose(&request("1000", "USD"), &route).standings[0].cost.unwrap();
    assert_eq!([cost.fx, cost.delay, cost.total], ["-1", "0.3", "-0.7"].map(dec));
    let euros = choose(&request("1000", "EUR"), &route);
    assert_eq!(euros.standings[0].success, 0, "the other one counts for another currency");
}

#[test]
fn a_bank_whose_outage_is_predicted_is_ranked_after_all_others() {
    let mut route = snapshot(vec![fixed("a", "1"), fixed("b", "9")]);
    route.candidates[1].candidate.tier = Tier::Fallback;
    route.candidates[0].candidate.predictions = vec![prediction(1_000_000, 100_000, true)];
    route.rules.mode = RouteMode::Predictive;
    route.incumbent = Some(SnapshotIncumbent { name: "a".into(), since: now() });
    route.rules.hysteresis.min_hold = Duration::from_hours(1);
    let asked = request("1000", "USD");
    let evaluation = choose(&asked, &route);
    assert_eq!(states(&evaluation), [("a", Standby, "PredictedOutage"), ("b", Preferred, "LowestCost")]);
    assert_eq!(evaluation.ranked().iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    route.candidates[1].candidate.suspended = true;
    let last = choose(&asked, &route);
    assert_eq!(states(&last), [("a", Preferred, "LowestCost"), ("b", Excluded, "Suspended")], "better than none");
    route.candidates[1].candidate.suspended = false;
    route.candidates[1].candidate.predictions = vec![prediction(1_000_000, 100_000, true)];
    let both = choose(&asked, &route);
    assert_eq!(states(&both), [("a", Preferred, "LowestCost"), ("b", Fallback, "PrimaryAvailable")]);
}

#[test]
fn the_forecast_proposes_in_hybrid_mode_and_an_approval_chooses() {
    let mut route = snapshot(vec![fixed("a", "1"), fixed("b", "2"), fixed("c", "3")]);
    route.rules.mode = RouteMode::Hybrid;
    route.candidates[0].candidate.predictions = vec![prediction(1_000_000, 100_000, true)];
    let asked = request("1000", "USD");
    let proposing = choose(&asked, &route);
    assert_eq!(proposing.active.as_deref(), Some("a"), "decided by what was observed");
    assert_eq!(proposing.standings[0].forecast, ForecastUse::Proposing);
    let proposal = proposing.proposal.unwrap();
    assert_eq!((proposal.candidate.as_str(), proposal.from.as_str(), proposal.risk), ("b", "a", 900_000));
    assert_eq!(proposal.valid_until, after(600));
    let approval = Approval { candidate: "b".into(), proposal: uuid::Uuid::nil(), until: after(60) };
    route.rules.approved = Some(approval.clone());
    let approved = choose(&asked, &route);
    assert_eq!(
        states(&approved),
        [("a", Standby, "OtherApproved"), ("b", Preferred, "PredictiveHybrid"), ("c", Standby, "HigherCost")]
    );
    assert_eq!(approved.proposal, None);
    route.rules.pins = vec![pin("c", PinSource::Api)];
    assert_eq!(choose(&asked, &route).active.as_deref(), Some("c"), "a pin wins");
    route.rules.pins.clear();
    route.rules.approved = Some(Approval { until: now(), ..approval.clone() });
    assert_eq!(choose(&asked, &route).active.as_deref(), Some("a"), "lapsed");
    route.rules.approved = Some(approval);
    route.rules.mode = RouteMode::Predictive;
    assert_eq!(states(&choose(&asked, &route))[1], ("b", Preferred, "LowestCost"), "other modes need no approval");
    route.rules.mode = RouteMode::Hybrid;
    route.candidates[1].candidate.circuit = Some(EffectiveState::Open);
    let failed = choose(&asked, &route);
    assert_eq!((failed.active.as_deref(), failed.ineffective_pins[0].source), (Some("a"), PinSource::Approval));
    assert_eq!(failed.proposal.unwrap().candidate, "c");
}

#[test]
fn a_record_has_the_same_id_for_the_same_decision_in_the_order_of_time() {
    let (asked, usage) = (request("1000", "USD"), Usage::default());
    let sealed = snapshot(vec![fixed("a", "1")]).seal().unwrap();
    let made = |asked: &DecisionRequest, at: Timestamp| {
        DecisionRecord::decide(&ask(asked, &sealed, &usage), at).unwrap().record
    };
    let record = made(&asked, now() + Duration::from_nanos(999_999));
    assert_eq!(record.encode(), made(&asked, now()).encode(), "a decision is of a millisecond");
    assert_eq!((record.id.get_version_num(), record.candidate.as_str()), (7, "a"));
    assert_eq!((record.at, record.expires_at, record.snapshot), (now(), after(60), sealed.id));
    assert!(made(&asked, now() + Duration::from_millis(1)).id > record.id);
    let second = DecisionRequest { attempt_no: 2, ..asked.clone() };
    assert_ne!(made(&second, now()).id, record.id);
    assert_eq!(DecisionRecord::decode(&record.encode()).unwrap(), record);
}

#[test]
fn nothing_is_recorded_without_a_bank_and_an_override_needs_an_available_one() {
    let (asked, usage) = (request("1000", "USD"), Usage::default());
    let mut route = snapshot(vec![fixed("a", "1"), fixed("b", "2")]);
    route.candidates[1].candidate.suspended = true;
    let override_to = |route: &Snapshot, candidate: &str| {
        let chosen = Override { candidate: candidate.into(), reason: "test".into(), supersedes: uuid::Uuid::nil() };
        DecisionRecord::override_to(&ask(&asked, &route.seal().unwrap(), &usage), chosen, now())
    };
    for (name, reason) in [("b", Some(CandidateReason::Suspended)), ("x", None)] {
        let error = NotDecided::NotEligible(NotEligible { candidate: name.into(), reason });
        assert_eq!(override_to(&route, name).unwrap_err(), error);
    }
    route.candidates[1].candidate.suspended = false;
    let record = override_to(&route, "b").unwrap().record;
    assert_eq!((record.kind, record.candidate.as_str()), (RecordKind::Override, "b"));
    assert!(replay(&record, &route.seal().unwrap().snapshot).is_ok());
    for one in &mut route.candidates {
        one.candidate.circuit = Some(EffectiveState::Open);
    }
    let error = DecisionRecord::decide(&ask(&asked, &route.seal().unwrap(), &usage), now()).unwrap_err();
    assert!(matches!(error, NotDecided::NoRoute(evaluation) if evaluation.available() == 0));
}

#[test]
fn a_record_replays_by_its_own_version_and_a_changed_one_does_not() {
    let (asked, usage) = (request("1000", "USD"), Usage::default());
    let sealed = snapshot(vec![fixed("a", "1"), fixed("b", "2")]).seal().unwrap();
    let Decided { evaluation, record } = DecisionRecord::decide(&ask(&asked, &sealed, &usage), now()).unwrap();
    assert_eq!(replay(&record, &sealed.snapshot), Ok(evaluation));
    let newer = DecisionRecord { algorithm: ALGORITHM + 1, ..record.clone() };
    assert_eq!(replay(&newer, &sealed.snapshot), Err(ReplayError::UnknownAlgorithm(ALGORITHM + 1)));
    let other = DecisionRecord { candidate: "b".into(), ..record.clone() };
    let different = ReplayError::Different { recorded: "b".into(), replayed: Some("a".into()) };
    assert_eq!(replay(&other, &sealed.snapshot), Err(different));
    let unknown = DecisionRecord { candidate: "x".into(), kind: RecordKind::Override, ..record.clone() };
    let not_eligible = ReplayError::NotEligible { candidate: "x".into(), reason: None };
    assert_eq!(replay(&unknown, &sealed.snapshot), Err(not_eligible));
    let day = jiff::civil::date(2026, 11, 29);
    let reserved = Some(Reservation { amount: dec("1000"), candidate: "a".into(), currency: currency("USD"), day });
    assert_eq!(replay(&DecisionRecord { reserved, ..record }, &sealed.snapshot), Err(ReplayError::Reservation));
}
