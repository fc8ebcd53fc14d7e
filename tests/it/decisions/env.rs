//! Ledgers with decisions, on either engine.

use std::path::Path;

use busbar::domain::decision::OutcomeClass;
use busbar::domain::money::Currency;
use busbar::domain::payout::{AttemptPlan, BankPromises, NewPayout, StuckRules, register};
use busbar::ledger::decisions::EntryOutcome;
use busbar::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, Registration};
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::routing::{Actor, OutcomeReport};
use busbar::testbed::postgres::PostgresServer;
use rust_decimal::Decimal;

use crate::kit::binary::{Finished, busbar, run_async};
use crate::kit::decision_server::{NAMESPACE, RunningDecisions};
use crate::kit::late_choices::request;

/// The engine of a test's ledger.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// The `--ledger` of a new ledger; a file is in `folder`.
    pub(crate) async fn create(self, folder: &Path) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", folder.join("ledger.db").display()),
            Self::Postgres => PostgresServer::shared().await.unwrap().create_database().await.unwrap(),
        }
    }
}

/// Who asks in these tests.
pub(crate) fn actor() -> Actor {
    Actor { request_id: None, subject: "processing".to_owned() }
}

/// Decides so many payouts into a new ledger; then reports the first as not sent, and decides its second attempt. The
/// records are those of the payouts, the outcome, and the second attempt.
pub(crate) async fn decide_into(url: &str, payouts: usize) {
    let ledger = ledger::open(&url.parse::<LedgerUrl>().unwrap(), OpenMode::Migrate).await.unwrap();
    let running = RunningDecisions::start(&ledger);
    let mut first = None;
    for payout in 0..payouts {
        let decided = running.service.decide(request(&format!("payout-{payout}")), &actor()).await.unwrap();
        first.get_or_insert(decided.record.id);
    }
    let report = OutcomeReport { at: None, class: OutcomeClass::NotSent, decision: first.unwrap(), latency: None };
    running.service.outcomes(NAMESPACE, vec![report], &actor()).await.unwrap();
    let second = busbar::domain::decision::DecisionRequest { attempt_no: 2, ..request("payout-0") };
    running.service.decide(second, &actor()).await.unwrap();
    running.stop.cancel();
    running.tasks.wait().await;
    ledger.close().await;
}

/// Follows the first attempt of a decided payout.
pub(crate) async fn follow(url: &str, payout_id: &str) {
    let ledger = ledger::open(&url.parse::<LedgerUrl>().unwrap(), OpenMode::Migrate).await.unwrap();
    let decided = ledger.attempts(NAMESPACE, payout_id).await.unwrap().remove(0);
    let plan = AttemptPlan {
        attempt_no: 1,
        bank: decided.candidate.clone(),
        candidate: decided.candidate,
        decision_id: decided.id,
        promises: BankPromises::default(),
        send_by: decided.at,
    };
    let new = NewPayout {
        amount: Decimal::TEN,
        currency: Currency::parse("EUR").unwrap(),
        namespace: NAMESPACE.to_owned(),
        payout_id: payout_id.to_owned(),
        route: decided.route,
        rules: StuckRules::default(),
    };
    let registration = Registration { idempotency_key: None, request_hash: decided.request_hash };
    let applied = register(new, plan, decided.at);
    let commit = PayoutCommit::new(PayoutAct::Register, "processing", 0, &applied, decided.at);
    let outcome = ledger.commit_payout(commit.registering(registration)).await.unwrap();
    assert!(matches!(outcome, EntryOutcome::Payout(PayoutOutcome::Stored { .. })), "{outcome:?}");
    ledger.close().await;
}

/// Runs `busbar audit` on a ledger.
pub(crate) async fn audit(command: &str, ledger: &str) -> Finished {
    run_async(busbar(&["audit", command, "--ledger", ledger])).await
}
