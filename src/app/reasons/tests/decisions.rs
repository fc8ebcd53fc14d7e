//! Decision requests with a fault in each field, and attempts that are not allowed.

use super::{Emitted, at};
use crate::domain::decision::OutcomeClass::{NotSent, Success, Timeout};
use crate::domain::decision::{EarlierAttempt, RateDraft, RequestDraft, may_attempt};
use crate::domain::payout::{AttemptState, FollowedAttempt};

fn sound() -> RequestDraft {
    RequestDraft {
        amount: "1000".to_owned(),
        currency: "USD".to_owned(),
        namespace: "team".to_owned(),
        payout_id: "p-1".to_owned(),
        ..RequestDraft::default()
    }
}

fn rate(pair: &str, at: Option<&str>) -> RateDraft {
    RateDraft { at: at.map(str::to_owned), pair: pair.to_owned(), rate: "655.957".to_owned() }
}

pub(super) fn emit(emitted: &mut Emitted) {
    let amount = |text: &str| RequestDraft { amount: text.to_owned(), ..sound() };
    let currency = |code: &str| RequestDraft { currency: code.to_owned(), ..sound() };
    let with_rates = |rates: Vec<RateDraft>| RequestDraft { rates, ..sound() };
    let text = |text: &str| Some(text.to_owned());
    let drafts = [
        amount(""),
        amount("-1"),
        amount("0"),
        amount("much"),
        amount("10000000000000000000"),
        amount("0.001"),
        currency("usd"),
        currency("QQQ"),
        RequestDraft { country: text("Senegal"), ..sound() },
        RequestDraft { route: text("A"), ..sound() },
        RequestDraft { payout_id: "p 1".to_owned(), ..sound() },
        RequestDraft { merchant: text(""), ..sound() },
        RequestDraft { rail: text("a b"), ..sound() },
        RequestDraft { attempt_no: Some(0), ..sound() },
        with_rates(vec![rate("USD", None)]),
        with_rates(vec![rate("USD/XOF", None), rate("XOF/USD", None)]),
        with_rates(vec![rate("USD/XOF", None); 33]),
        with_rates(vec![rate("USD/XOF", Some("noon"))]),
        with_rates(vec![rate("USD/XOF", Some("2999-01-01T00:00:00Z"))]),
    ];
    let now = at("2026-03-01T12:00:00Z").wall;
    let problems = drafts.into_iter().map(|draft| draft.validate(now).unwrap_err().problem.to_string());
    emitted.problems.extend(problems);

    let after = |outcomes: &[_]| vec![EarlierAttempt { attempt_no: 1, outcomes: outcomes.to_vec(), followed: None }];
    let followed = |frozen| {
        let followed = FollowedAttempt { frozen, risk_accepted_for: None, state: AttemptState::Unknown };
        vec![EarlierAttempt { attempt_no: 1, outcomes: Vec::new(), followed: Some(followed) }]
    };
    let attempts = [
        (3, after(&[NotSent])),
        (2, after(&[])),
        (2, after(&[Timeout])),
        (2, after(&[NotSent, Timeout])),
        (2, after(&[Success])),
        (2, followed(false)),
        (2, followed(true)),
    ];
    let obstacles = attempts.iter().map(|(number, earlier)| may_attempt(*number, earlier).unwrap_err().why.obstacle());
    emitted.obstacles.extend(obstacles.map(|obstacle| obstacle.to_string()));
}
