//! The gate of further attempts, on outcomes and on the states of followed attempts.

use proptest::prelude::*;

use crate::domain::payout::OutcomeClass::{
    BankFailure, CustomerFault, NotSent, Pending, Rejected, Success, Throttle, Timeout,
};
use crate::domain::payout::{
    AttemptState, EarlierAttempt, FollowedAttempt, OutcomeClass, UnresolvedReason, may_attempt,
};

fn unfollowed(attempt_no: u32, outcomes: &[OutcomeClass]) -> EarlierAttempt {
    EarlierAttempt { attempt_no, outcomes: outcomes.to_vec(), followed: None }
}

fn followed(state: AttemptState) -> EarlierAttempt {
    let followed = FollowedAttempt { frozen: false, risk_accepted_for: None, state };
    EarlierAttempt { attempt_no: 1, outcomes: Vec::new(), followed: Some(followed) }
}

fn why(earlier: EarlierAttempt) -> Option<UnresolvedReason> {
    may_attempt(2, &[earlier]).err().map(|unresolved| unresolved.why)
}

fn earlier(outcomes: &[&[OutcomeClass]]) -> Vec<EarlierAttempt> {
    let numbered = (1..).zip(outcomes);
    numbered.map(|(attempt_no, outcomes)| unfollowed(attempt_no, outcomes)).collect()
}

fn obstacle(attempt_no: u32, outcomes: &[&[OutcomeClass]]) -> Option<(u32, &'static str)> {
    may_attempt(attempt_no, &earlier(outcomes)).err().map(|error| (error.attempt_no, error.why.as_str()))
}

#[test]
fn only_the_callers_own_not_sent_or_rejected_is_proof() {
    for (outcomes, want) in [
        (&[][..], Some("no_outcome")),
        (&[NotSent], None),
        (&[Rejected], None),
        (&[Timeout, NotSent], None),
        (&[Pending, Rejected], None),
        (&[NotSent, Throttle], None),
        (&[Rejected, CustomerFault], None),
        (&[NotSent, Timeout, NotSent], None),
        (&[Timeout], Some("no_proof")),
        (&[BankFailure], Some("no_proof")),
        (&[Pending], Some("no_proof")),
        (&[Throttle], Some("no_proof")),
        (&[CustomerFault], Some("no_proof")),
        (&[NotSent, Timeout], Some("contradicted")),
        (&[NotSent, Pending], Some("contradicted")),
        (&[Rejected, BankFailure], Some("contradicted")),
        (&[Rejected, Throttle, Pending], Some("contradicted")),
        (&[Success], Some("executed")),
        (&[Success, Rejected], Some("executed")),
        (&[NotSent, Success], Some("executed")),
        (&[Success, NotSent, NotSent], Some("executed")),
    ] {
        assert_eq!(obstacle(2, &[outcomes]), want.map(|why| (1, why)), "{outcomes:?}");
    }
}

#[test]
fn every_earlier_attempt_needs_proof_and_numbers_follow_each_other() {
    assert_eq!(obstacle(1, &[]), None);
    assert_eq!(obstacle(3, &[&[NotSent], &[Rejected]]), None);
    assert_eq!(obstacle(3, &[&[Timeout], &[Rejected]]), Some((1, "no_proof")));
    assert_eq!(obstacle(3, &[&[NotSent], &[]]), Some((2, "no_outcome")));
    let unordered = vec![unfollowed(2, &[]), unfollowed(1, &[Success])];
    assert_eq!(may_attempt(3, &unordered).unwrap_err().attempt_no, 1);
    for (attempt_no, before) in [(2, &[][..]), (0, &[]), (3, &[&[NotSent][..]]), (1, &[&[NotSent][..]])] {
        assert_eq!(obstacle(attempt_no, before), Some((attempt_no, "out_of_order")));
    }
    let text = may_attempt(3, &earlier(&[&[NotSent]])).unwrap_err().to_string();
    assert_eq!(text, "attempt 3 does not follow the last one; request attempt_no 2");
}

#[test]
fn a_followed_attempt_passes_only_in_the_four_states_that_say_not_executed() {
    use AttemptState::{Confirmed, NeverReceived, Recalled, Rejected, Returned};
    for state in AttemptState::ALL.iter().copied() {
        let want = match state {
            Rejected | Returned | Recalled | NeverReceived => None,
            Confirmed => Some(UnresolvedReason::Executed),
            open => Some(UnresolvedReason::Open { state: open }),
        };
        assert_eq!(why(followed(state)), want, "{state}");
    }
}

#[test]
fn outcomes_of_a_followed_attempt_open_nothing() {
    for outcomes in [vec![NotSent], vec![Rejected], vec![Timeout, NotSent]] {
        let earlier = EarlierAttempt { outcomes, ..followed(AttemptState::Unknown) };
        assert_eq!(why(earlier), Some(UnresolvedReason::Open { state: AttemptState::Unknown }));
    }
    let executed = EarlierAttempt { outcomes: vec![Success], ..followed(AttemptState::Rejected) };
    assert_eq!(why(executed), Some(UnresolvedReason::Executed));
}

#[test]
fn an_accepted_risk_is_good_for_one_attempt_and_for_no_frozen_payout() {
    let accepted = |number, frozen| {
        let followed = FollowedAttempt { frozen, risk_accepted_for: Some(number), state: AttemptState::ManualReview };
        EarlierAttempt { attempt_no: 1, outcomes: Vec::new(), followed: Some(followed) }
    };
    assert_eq!(why(accepted(2, false)), None);
    assert_eq!(why(accepted(3, false)), Some(UnresolvedReason::Open { state: AttemptState::ManualReview }));
    assert_eq!(why(accepted(2, true)), Some(UnresolvedReason::Frozen));
    let executed = FollowedAttempt { frozen: false, risk_accepted_for: Some(2), state: AttemptState::Confirmed };
    let executed = EarlierAttempt { attempt_no: 1, outcomes: Vec::new(), followed: Some(executed) };
    assert_eq!(why(executed), Some(UnresolvedReason::Executed));
}

proptest! {
    /// I2: whatever is reported, an attempt is allowed only if the last word on every earlier one is a proof that
    /// nothing contradicts.
    #[test]
    fn an_attempt_without_proof_is_never_allowed(
        list in prop::collection::vec(prop::collection::vec(prop::sample::select(OutcomeClass::ALL.to_vec()), 0..5), 1..4),
    ) {
        let attempts: Vec<_> = list.iter().map(Vec::as_slice).collect();
        let next = u32::try_from(attempts.len()).unwrap() + 1;
        let proven = |outcomes: &[OutcomeClass]| {
            let silent = [Throttle, CustomerFault];
            let last_word = outcomes.iter().rev().find(|outcome| !silent.contains(outcome));
            !outcomes.contains(&Success) && last_word.is_some_and(|outcome| [NotSent, Rejected].contains(outcome))
        };
        prop_assert_eq!(obstacle(next, &attempts).is_none(), attempts.iter().all(|outcomes| proven(outcomes)));
    }
}
