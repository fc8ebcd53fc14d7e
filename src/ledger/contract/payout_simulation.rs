//! Simulated payouts on a real ledger: banks that keep their own books, two replicas that crash in turn, virtual time.

use std::sync::Arc;

use futures::future::join_all;
use rust_decimal::Decimal;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::OpenLedger;
use super::decision_fixtures::{attempt, built};
use crate::domain::decision::DecisionRecord;
use crate::domain::payout::{Payout, PayoutInput};
use crate::ledger::decisions::{DecisionBatch, EntryOutcome, NewDecision, NewEntry};
use crate::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, Registration};
use crate::ledger::store::Ledger;
use crate::testbed::payouts::{SimulatedCommit, SimulatedStore, Totals, simulate};
use crate::testbed::shown::show;

/// Payouts of `make ci` on each engine: each takes some ten transactions.
const PAYOUTS: u64 = 1_000;

#[expect(clippy::disallowed_methods, reason = "number and seed of a soak test are set by environment variables")]
pub(super) fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Stories that are told at a time: what happens in them is committed in groups.
const TOGETHER: u64 = 64;

/// Entries of a group.
const GROUP: usize = 256;

/// An entry, and where its outcome is awaited.
type Pending = (NewEntry, oneshot::Sender<EntryOutcome>);

/// Keeps the payouts of a simulation in a ledger, with their decisions, as the operator does.
#[derive(Clone)]
struct LedgerStore {
    ledger: Arc<dyn Ledger>,
    queue: mpsc::Sender<Pending>,
    runtime: Handle,
}

/// Commits what the stories queue, in groups, until all of them are at their end.
async fn commit_groups(ledger: Arc<dyn Ledger>, mut queue: mpsc::Receiver<Pending>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let (entries, replies): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        let outcomes = ledger.commit_decisions(Arc::new(DecisionBatch { entries })).await.unwrap();
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            reply.send(outcome).unwrap();
        }
    }
}

/// The decision of the payout's newest attempt.
fn decision(payout: &Payout) -> NewDecision {
    let plan = &payout.attempts.last().unwrap().plan;
    let new = attempt(&payout.payout_id, plan.attempt_no, &plan.candidate, 0);
    let record = DecisionRecord { id: plan.decision_id, ..(*new.record).clone() };
    built(NewDecision { record: Arc::new(record), ..new })
}

/// What the operator would commit.
pub(super) fn entry_of(commit: &SimulatedCommit<'_>) -> NewEntry {
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
    if is_decided {
        NewEntry::Attempt { decision: Box::new(decision(&commit.applied.payout)), payout: Box::new(payout) }
    } else {
        NewEntry::Payout(Box::new(payout))
    }
}

impl SimulatedStore for LedgerStore {
    fn load(&mut self, payout_id: &str) -> Option<(Payout, u64)> {
        let stored = self.runtime.block_on(self.ledger.payout("pay", payout_id)).unwrap()?;
        Some((stored.payout, stored.version))
    }

    fn commit(&mut self, commit: &SimulatedCommit<'_>) -> bool {
        let (reply, outcome) = oneshot::channel();
        self.queue.blocking_send((entry_of(commit), reply)).unwrap();
        match outcome.blocking_recv().unwrap() {
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
    let (queue, queued) = mpsc::channel(GROUP);
    let committing = tokio::spawn(commit_groups(Arc::clone(&ledger), queued));
    let kept = LedgerStore { ledger, queue, runtime: Handle::current() };
    let share = payouts.div_ceil(TOGETHER).max(1);
    let told = (0..payouts).step_by(usize::try_from(share).unwrap()).map(|start| {
        let mut kept = kept.clone();
        tokio::task::spawn_blocking(move || simulate(&mut kept, seed, start..payouts.min(start + share)))
    });
    let mut totals = Totals::default();
    for part in join_all(told.collect::<Vec<_>>()).await {
        totals.add(part.unwrap());
    }
    drop(kept);
    committing.await.unwrap();
    show(format_args!("payouts: {totals}"));
    assert!(totals.is_sound() && totals.payouts == payouts, "seed {seed}: {totals:?}");
    assert!(totals.conflicts > 0 && totals.crashes > 0, "seed {seed}: nothing went wrong: {totals}");
}
