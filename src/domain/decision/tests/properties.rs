//! The invariants of engine.md over random routes and requests.

use proptest::prelude::*;

use super::random::{Case, case};
use super::*;
use crate::domain::canonical::to_bytes;
use crate::domain::route::{
    Adjustment, AdjustmentScope, CandidateReason, Evaluation, PairRate, RouteMode, StandingState,
};

/// Most of the cases that I6 is held against.
const CASES: u64 = 10_000;

fn evaluate(case: &Case) -> Evaluation {
    decide(&case.request, &case.snapshot, &case.usage, now())
}

/// A case that was decided.
struct Made {
    sealed: SealedSnapshot,
    outcome: Result<Decided, NotDecided>,
}

impl Made {
    fn of(case: &Case) -> Self {
        let sealed = case.snapshot.seal().unwrap();
        let outcome = DecisionRecord::decide(&ask(&case.request, &sealed, &case.usage), now());
        Self { sealed, outcome }
    }

    /// The bytes of all that comes of it; without a bank there is no record.
    fn bytes(&self) -> Vec<u8> {
        match &self.outcome {
            Ok(Decided { evaluation, record }) => {
                [self.sealed.bytes.clone(), to_bytes(evaluation), record.encode()].concat()
            }
            Err(NotDecided::NoRoute(evaluation)) => [self.sealed.bytes.clone(), to_bytes(&**evaluation)].concat(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// I6: the same snapshot, request and time give the same bytes, and a record read from its bytes leads to them again.
#[test]
fn the_same_inputs_give_the_same_bytes_ten_thousand_times() {
    let (mut decided, mut without) = (0, 0);
    for seed in 0..CASES {
        let one = case(seed);
        let (first, second) = (Made::of(&one), Made::of(&case(seed)));
        assert!(first.bytes() == second.bytes(), "case {seed}");
        assert_eq!(first.sealed.snapshot, one.snapshot, "case {seed} is read back as it was");
        match first.outcome {
            Ok(Decided { evaluation, record }) => {
                decided += 1;
                let stored = DecisionRecord::decode(&record.encode()).unwrap();
                assert_eq!((&stored, second.sealed.id), (&record, record.snapshot), "case {seed}");
                assert_eq!(replay(&stored, &second.sealed.snapshot), Ok(evaluation), "case {seed}");
            }
            Err(_) => without += 1,
        }
    }
    assert!(decided > CASES / 2 && without > CASES / 100, "{decided} decided, {without} without a bank");
}

/// The generator reaches every reason that a decision can have.
#[test]
fn the_random_cases_have_every_reason_that_the_route_itself_gives() {
    let mut reasons: Vec<_> =
        (0..CASES).flat_map(|seed| evaluate(&case(seed)).standings).map(|standing| standing.reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let of_callers = [CandidateReason::ConnectionNotReady, CandidateReason::Maintenance];
    let missing: Vec<_> = CandidateReason::ALL
        .iter()
        .filter(|reason| !reasons.contains(reason) && !of_callers.contains(reason))
        .collect();
    assert_eq!(missing, [&CandidateReason::LowestCost; 0]);
}

proptest! {
    /// I6: the order of the candidates and of the usage has no effect.
    #[test]
    fn the_order_of_the_candidates_has_no_effect(seed in any::<u64>(), shift in 0usize..8) {
        let one = case(seed);
        let mut turned = one.clone();
        let length = turned.snapshot.candidates.len().max(1);
        turned.snapshot.candidates.rotate_left(shift % length);
        turned.snapshot.candidates.reverse();
        prop_assert_eq!(evaluate(&one), evaluate(&turned));
    }

    /// I7: the cheapest eligible bank wins unless a pin, an approval, hysteresis or a predicted outage says otherwise,
    /// and its reason says which.
    #[test]
    fn the_cheapest_eligible_bank_wins_or_the_record_says_why_not(seed in any::<u64>()) {
        let one = case(seed);
        let evaluation = evaluate(&one);
        let tier = |name: &str| one.snapshot.candidate(name).unwrap().candidate.tier;
        let Some(active) = &evaluation.active else {
            prop_assert!(evaluation.standings.iter().all(|standing| standing.state == StandingState::Excluded));
            return Ok(());
        };
        let chosen = evaluation.standing(active).unwrap();
        prop_assert_eq!(chosen.state, StandingState::Preferred);
        let said = [
            CandidateReason::Pinned,
            CandidateReason::PinnedByOps,
            CandidateReason::PredictiveHybrid,
            CandidateReason::KeptByHysteresis,
        ];
        if said.contains(&chosen.reason) {
            return Ok(());
        }
        for other in evaluation.standings.iter().filter(|standing| standing.name != *active) {
            let considered = match other.state {
                StandingState::Excluded => false,
                StandingState::Fallback => {
                    prop_assert!(tier(&other.name) > tier(active));
                    false
                }
                _ => other.reason != CandidateReason::PredictedOutage,
            };
            if considered && let Some(theirs) = other.cost {
                prop_assert!(chosen.cost.is_some_and(|mine| mine.total <= theirs.total));
            }
        }
        if one.snapshot.rules.mode != RouteMode::Predictive {
            prop_assert!(evaluation.standings.iter().all(|one| one.reason != CandidateReason::PredictedOutage));
        }
    }

    /// I8: what has ended has no effect: adjustments, pins, approvals, predictions and rates.
    #[test]
    fn what_has_ended_has_no_effect(seed in any::<u64>()) {
        let one = case(seed);
        let mut pruned = one.clone();
        let rules = &mut pruned.snapshot.rules;
        rules.adjustments.retain(|adjustment| adjustment.until > now());
        rules.pins.retain(|pin| pin.until > now());
        rules.approved.take_if(|approval| approval.until <= now());
        let all = evaluate(&one);
        prop_assert_eq!(&evaluate(&pruned), &all);
        for standing in all.standings.iter().filter(|standing| standing.cost.is_some()) {
            let payout = &one.request.payout;
            let applying: Vec<_> = one.snapshot.rules.applying(payout, &standing.name, now()).collect();
            prop_assert!(applying.iter().all(|adjustment| adjustment.until > now()));
            let product: Decimal = applying.iter().map(|adjustment| adjustment.weight).product();
            let weight = standing.cost.map(|cost| cost.weight);
            prop_assert_eq!(weight, Some(product.clamp(Decimal::new(1, 1), Decimal::TEN)));
        }
        for standing in &mut pruned.snapshot.candidates {
            standing.candidate.predictions.retain(|prediction| prediction.valid_until > now());
        }
        let states = |evaluation: &Evaluation| {
            let standings = evaluation.standings.iter();
            standings.map(|one| (one.name.clone(), one.state, one.reason, one.cost)).collect::<Vec<_>>()
        };
        prop_assert_eq!(states(&evaluate(&pruned)), states(&all));
    }

    /// I11: removing a candidate never makes another one ineligible, nor eligible.
    #[test]
    fn removing_a_candidate_never_excludes_another(seed in any::<u64>(), gone in any::<prop::sample::Index>()) {
        let one = case(seed);
        if one.snapshot.candidates.is_empty() {
            return Ok(());
        }
        let before = evaluate(&one);
        let mut fewer = one.clone();
        fewer.snapshot.candidates.remove(gone.index(one.snapshot.candidates.len()));
        for standing in evaluate(&fewer).standings {
            let was = before.standing(&standing.name).unwrap();
            let excluded = |state| state == StandingState::Excluded;
            prop_assert_eq!(excluded(standing.state), excluded(was.state));
            prop_assert_eq!(standing.cost, was.cost);
        }
    }

    /// I12: a weight above 1 never improves a bank's rank, and one below 1 never worsens it.
    #[test]
    fn a_weight_moves_a_bank_only_in_its_direction(
        seed in any::<u64>(), which in any::<prop::sample::Index>(), weight in 1i64..100,
    ) {
        let one = case(seed);
        if one.snapshot.candidates.is_empty() {
            return Ok(());
        }
        let name = one.snapshot.candidates[which.index(one.snapshot.candidates.len())].candidate.name.clone();
        let mut weighted = one.clone();
        let adjustments = &mut weighted.snapshot.rules.adjustments;
        // Its bounds would hide a further weight.
        adjustments.retain(|adjustment| adjustment.candidate != name);
        let plain = weighted.clone();
        weighted.snapshot.rules.adjustments.push(Adjustment {
            candidate: name.clone(),
            name: "more".into(),
            scope: AdjustmentScope::Global,
            until: after(1),
            weight: Decimal::new(weight, 1),
        });
        let total = |case: &Case| {
            let evaluation = evaluate(case);
            evaluation.standing(&name).and_then(|standing| standing.cost).map(|cost| cost.total)
        };
        let (before, now_is) = (total(&plain), total(&weighted));
        prop_assert_eq!(before.is_some(), now_is.is_some());
        if weight > 10 {
            prop_assert!(now_is >= before);
        } else {
            prop_assert!(now_is <= before);
        }
        let others = |case: &Case| {
            let mut standings = evaluate(case).standings;
            standings.retain(|standing| standing.name != name);
            standings.into_iter().map(|standing| standing.cost).collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&plain), others(&weighted));
    }

    /// A scorer without skill changes nothing, in whatever mode.
    #[test]
    fn predictions_without_skill_change_nothing(seed in any::<u64>()) {
        let mut one = case(seed);
        for candidate in &mut one.snapshot.candidates {
            for prediction in &mut candidate.candidate.predictions {
                prediction.skill = 0;
            }
        }
        let mut none = one.clone();
        for candidate in &mut none.snapshot.candidates {
            candidate.candidate.predictions.clear();
        }
        let (with, without) = (evaluate(&one), evaluate(&none));
        prop_assert_eq!((&with.active, &with.proposal), (&without.active, &without.proposal));
        for (one, other) in with.standings.iter().zip(&without.standings) {
            prop_assert_eq!((one.state, one.reason), (other.state, other.reason));
            prop_assert_eq!((one.cost, one.success, one.score), (other.cost, other.success, other.score));
        }
    }

    /// Hybrid decides as Reactive does, until a proposal is approved.
    #[test]
    fn hybrid_decides_as_reactive_without_an_approval(seed in any::<u64>()) {
        let mut one = case(seed);
        one.snapshot.rules.approved = None;
        one.snapshot.rules.mode = RouteMode::Hybrid;
        let mut reactive = one.clone();
        reactive.snapshot.rules.mode = RouteMode::Reactive;
        let (hybrid, reactive) = (evaluate(&one), evaluate(&reactive));
        prop_assert_eq!(&hybrid.active, &reactive.active);
        prop_assert_eq!(reactive.proposal, None);
        if let Some(proposal) = &hybrid.proposal {
            prop_assert_eq!(Some(&proposal.from), hybrid.active.as_ref());
            prop_assert_ne!(&proposal.candidate, &proposal.from);
            prop_assert!(hybrid.standing(&proposal.candidate).unwrap().state != StandingState::Excluded);
            prop_assert!(proposal.valid_until > now());
        }
    }

    /// A conversion there and back is the same amount, whichever rates it takes.
    #[test]
    fn a_conversion_by_the_rates_of_a_request_is_reversible(
        amount in 1i64..1_000_000, rate in 1i64..1_000_000, direct in any::<bool>(),
    ) {
        let (usd, xof) = (currency("USD"), currency("XOF"));
        let pair = PairRate { at: None, from: usd, rate: Decimal::new(rate, 3), to: xof };
        let pair = if direct { pair } else { PairRate { from: xof, to: usd, ..pair } };
        let rates = Rates::none(usd).preceded_by([pair], now());
        let amount = Decimal::new(amount, 2);
        let there = rates.convert(amount, usd, xof).unwrap();
        prop_assert_eq!(rates.convert(there, xof, usd).unwrap().round_dp(8), amount);
    }
}
