//! Simulated payouts on a real ledger: banks that keep their own books, two replicas that crash in turn, virtual time.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use futures::future::join_all;
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
pub(crate) fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Stories that are told at a time: what happens in them is committed in groups.
const TOGETHER: u64 = 64;

/// Entries of a group.
const GROUP: usize = 256;

/// An entry, and where its outcome is awaited.
type Pending = (NewEntry, oneshot::Sender<EntryOutcome>);

/// One load of so many is answered by the ledger, the others by what was stored last: that these are equal is asserted.
const READ: u64 = 4;

/// Keeps the payouts of a simulation in a ledger, with their decisions, as the operator does.
#[derive(Clone)]
struct LedgerStore {
    ledger: Arc<dyn Ledger>,
    queue: mpsc::Sender<Pending>,
    runtime: Handle,
    /// The payouts of the stories under way, as they were stored last, with their versions.
    held: HashMap<String, (Payout, u64)>,
    loads: u64,
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

impl LedgerStore {
    fn read(&self, payout_id: &str) -> Option<(Payout, u64)> {
        let stored = self.runtime.block_on(self.ledger.payout("pay", payout_id)).unwrap()?;
        Some((stored.payout, stored.version))
    }
}

impl SimulatedStore for LedgerStore {
    fn load(&mut self, payout_id: &str) -> Option<(Payout, u64)> {
        self.loads += 1;
        let held = self.held.get(payout_id).cloned();
        if held.is_none() || self.loads.is_multiple_of(READ) {
            let stored = self.read(payout_id);
            assert!(held.is_none() || held == stored, "{held:?} was stored, not {stored:?}");
            return stored;
        }
        held
    }

    fn commit(&mut self, commit: &SimulatedCommit<'_>) -> bool {
        let (reply, outcome) = oneshot::channel();
        self.queue.blocking_send((entry_of(commit), reply)).unwrap();
        let payout = &commit.applied.payout;
        match outcome.blocking_recv().unwrap() {
            EntryOutcome::Payout(PayoutOutcome::Stored { version, .. }) => {
                self.held.insert(payout.payout_id.clone(), (payout.clone(), version));
                true
            }
            EntryOutcome::Payout(PayoutOutcome::Changed(_)) => false,
            other => panic!("the ledger refuses what the domain allows: {other:?}"),
        }
    }

    fn finish(&mut self, payout_id: &str) {
        let (held, stored) = (self.held.remove(payout_id), self.read(payout_id));
        assert!(held.is_some() && held == stored, "{held:?} was stored, not {stored:?}");
    }
}

/// Simulates the payouts of these numbers on a ledger, which may hold others.
pub(crate) async fn simulated(ledger: Arc<dyn Ledger>, seed: u64, payouts: Range<u64>) -> Totals {
    let (queue, queued) = mpsc::channel(GROUP);
    let committing = tokio::spawn(commit_groups(Arc::clone(&ledger), queued));
    let kept = LedgerStore { ledger, queue, runtime: Handle::current(), held: HashMap::new(), loads: 0 };
    let share = (payouts.end - payouts.start).div_ceil(TOGETHER).max(1);
    let told = payouts.clone().step_by(usize::try_from(share).unwrap()).map(|start| {
        let mut kept = kept.clone();
        let part = start..payouts.end.min(start + share);
        tokio::task::spawn_blocking(move || simulate(&mut kept, seed, part))
    });
    let mut totals = Totals::default();
    for part in join_all(told.collect::<Vec<_>>()).await {
        totals.add(part.unwrap());
    }
    drop(kept);
    committing.await.unwrap();
    totals
}

pub(crate) async fn no_simulated_payout_is_paid_twice_or_lost(store: &impl OpenLedger) {
    let payouts = variable("PAYOUTS_LEDGER").unwrap_or(PAYOUTS);
    let seed = variable("PAYOUTS_SEED").unwrap_or_else(rand::random);
    show(format_args!("payouts: seed {seed}; to reproduce: PAYOUTS_LEDGER={payouts} PAYOUTS_SEED={seed}"));
    let totals = simulated(store.writer().await, seed, 0..payouts).await;
    show(format_args!("payouts: {totals}"));
    assert!(totals.is_sound() && totals.payouts == payouts, "seed {seed}: {totals:?}");
    assert!(totals.conflicts > 0 && totals.crashes > 0, "seed {seed}: nothing went wrong: {totals}");
}
