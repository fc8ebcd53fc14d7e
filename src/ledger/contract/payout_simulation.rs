//! Simulated payouts on a real ledger: banks that keep their own books, two replicas that crash in turn, virtual time.

use std::sync::Arc;

use rust_decimal::Decimal;
use tokio::runtime::Handle;

use super::OpenLedger;
use super::decision_fixtures::{attempt, built};
use crate::domain::decision::DecisionRecord;
use crate::domain::payout::{Payout, PayoutInput};
use crate::ledger::decisions::{DecisionBatch, EntryOutcome, NewDecision, NewEntry};
use crate::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, Registration};
use crate::ledger::store::Ledger;
use crate::testbed::payouts::{SimulatedCommit, SimulatedStore, simulate};
use crate::testbed::shown::show;

/// Payouts of `make ci` on each engine: each takes some ten transactions.
const PAYOUTS: u64 = 200;

#[expect(clippy::disallowed_methods, reason = "number and seed of a soak test are set by environment variables")]
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Keeps the payouts of a simulation in a ledger, with their decisions, as the operator does.
struct LedgerStore {
    ledger: Arc<dyn Ledger>,
    runtime: Handle,
}

/// The decision of the payout's newest attempt.
fn decision(payout: &Payout) -> NewDecision {
    let plan = &payout.attempts.last().unwrap().plan;
    let new = attempt(&payout.payout_id, plan.attempt_no, &plan.candidate, 0);
    let record = DecisionRecord { id: plan.decision_id, ..(*new.record).clone() };
    built(NewDecision { record: Arc::new(record), ..new })
}

impl SimulatedStore for LedgerStore {
    fn load(&mut self, payout_id: &str) -> Option<(Payout, u64)> {
        let stored = self.runtime.block_on(self.ledger.payout("pay", payout_id)).unwrap()?;
        Some((stored.payout, stored.version))
    }

    fn commit(&mut self, commit: &SimulatedCommit<'_>) -> bool {
        let (act, is_decided) = match commit.input {
            None => (PayoutAct::Register, true),
            Some(PayoutInput::Attempt(_)) => (PayoutAct::Attempt, true),
            Some(PayoutInput::Tick) => (PayoutAct::Tick, false),
            Some(_) => (PayoutAct::Report, false),
        };
        let mut payout = PayoutCommit::new(act, "simulation", commit.expected, commit.applied, commit.now);
        if commit.input.is_none() {
            payout = payout.registering(Registration { idempotency_key: None, request_hash: [1; 32] });
        }
        let entry = if is_decided {
            NewEntry::Attempt { decision: Box::new(decision(&commit.applied.payout)), payout: Box::new(payout) }
        } else {
            NewEntry::Payout(Box::new(payout))
        };
        let batch = Arc::new(DecisionBatch { entries: vec![entry] });
        let outcome = self.runtime.block_on(self.ledger.commit_decisions(batch)).unwrap().pop().unwrap();
        match outcome {
            EntryOutcome::Payout(PayoutOutcome::Stored { .. }) => true,
            EntryOutcome::Payout(PayoutOutcome::Changed(_)) => false,
            other => panic!("the ledger refuses what the domain allows: {other:?}"),
        }
    }

    fn finish(&mut self, payout_id: &str) {
        let (payout, _) = self.load(payout_id).unwrap();
        assert_eq!(payout.amount, Decimal::ONE_HUNDRED);
    }
}

pub(crate) async fn no_simulated_payout_is_paid_twice_or_lost(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let payouts = variable("PAYOUTS_LEDGER").unwrap_or(PAYOUTS);
    let seed = variable("PAYOUTS_SEED").unwrap_or_else(rand::random);
    show(format_args!("payouts: seed {seed}; to reproduce: PAYOUTS_LEDGER={payouts} PAYOUTS_SEED={seed}"));
    let mut kept = LedgerStore { ledger, runtime: Handle::current() };
    let totals = tokio::task::spawn_blocking(move || simulate(&mut kept, seed, 0..payouts)).await.unwrap();
    show(format_args!("payouts: {totals}"));
    assert!(totals.is_sound() && totals.payouts == payouts, "seed {seed}: {totals:?}");
    assert!(totals.conflicts > 0 && totals.crashes > 0, "seed {seed}: nothing went wrong: {totals}");
}
