//! Simulated payouts on the rules of the ledger alone: each act is planned by the code that every engine runs in its
//! transaction (the gate, the versions, the entries and their chain), on rows in memory in place of those of a database. That
//! the gate refuses what the state machine would allow by mistake is a rule of the contract (`payouts`, `decisions`).

use std::collections::HashMap;

use uuid::Uuid;

use super::payout_simulation::{entry_of, variable};
use crate::domain::decision::{ChainHead, ChainVerifier};
use crate::domain::payout::Payout;
use crate::ledger::decisions::needs::Needs;
use crate::ledger::decisions::plan::{appended_decision, plan};
use crate::ledger::decisions::state::{BatchState, Named};
use crate::ledger::decisions::{ChainEnds, DecisionBatch, EntryOutcome, EntryPosition, NewEntry, StoredDecision};
use crate::ledger::payouts::{PayoutOutcome, StoredPayout};
use crate::testbed::payouts::{SimulatedCommit, SimulatedStore, Totals, simulate};
use crate::testbed::shown::show;

/// Payouts of `make ci`.
const PAYOUTS: u64 = 10_000;
/// Each has a ledger of its own.
const THREADS: u64 = 2;

/// The rows of a payout that is not at its end.
#[derive(Default)]
struct Rows {
    payout: Option<StoredPayout>,
    decisions: Vec<StoredDecision>,
    entries: Vec<(Uuid, EntryPosition)>,
}

/// One commit of so many is made again, as after a lost acknowledgement.
const REPEATED: u64 = 8;

/// A ledger without a database.
struct PlannedLedger {
    head: ChainEnds,
    payouts: HashMap<String, Rows>,
    chain: ChainVerifier,
    commits: u64,
}

impl PlannedLedger {
    fn new() -> Self {
        let chain = ChainVerifier::new(ChainHead::default());
        Self { head: ChainEnds::default(), payouts: HashMap::new(), chain, commits: 0 }
    }

    /// The chain is whole, and its head is the last entry.
    fn verify(self) {
        let head = ChainHead { hash: self.head.hash, seq: self.head.seq };
        assert_eq!(self.chain.finish(&head), Ok(head));
        assert!(self.payouts.is_empty(), "each payout came to its end");
    }

    /// What an engine would read before it plans the batch.
    fn state<'b>(&self, batch: &'b DecisionBatch, rows: Option<&Rows>) -> BatchState<'b> {
        let needs = Needs::of(batch);
        let mut state = BatchState { head: self.head, ..BatchState::default() };
        let Some(rows) = rows else { return state };
        if let (Some((namespace, id)), Some(stored)) = (needs.followed.first(), &rows.payout) {
            state.payouts.insert(((*namespace).to_owned(), (*id).to_owned()), stored.clone());
        }
        if let Some(payout) = needs.payouts.first().filter(|_| !rows.decisions.is_empty()) {
            state.attempts.insert(*payout, rows.decisions.clone());
        }
        for id in needs.ids {
            let decision = rows.decisions.iter().find(|decision| decision.id == id);
            let entry = rows.entries.iter().find(|(entry, _)| *entry == id);
            if let Some(decision) = decision {
                state.named.insert(id, Named::Decision(Box::new(decision.clone())));
            } else if let Some((_, position)) = entry {
                state.named.insert(id, Named::Other(*position));
            }
        }
        state
    }

    /// Plans the batch, and keeps what is planned.
    fn commit(&mut self, batch: &DecisionBatch, payout_id: &str) -> EntryOutcome {
        let state = self.state(batch, self.payouts.get(payout_id));
        let mut planned = plan(batch, state);
        self.head = planned.head;
        for row in &planned.rows {
            assert_eq!(self.chain.push(row.seq, row.kind, &row.body, &row.hash), Ok(()));
        }
        let rows = self.payouts.entry(payout_id.to_owned()).or_default();
        for row in &planned.payouts {
            rows.payout = Some(StoredPayout {
                payout: Payout::clone(&row.commit.payout),
                request_hash: row.request_hash,
                seq: row.seq,
                updated_at: row.commit.at,
                version: row.commit.version(),
            });
        }
        rows.entries.extend(planned.rows.iter().filter_map(|row| Some((row.id?, row.position()))));
        let (outcome, is_new) = (planned.outcomes.remove(0), !planned.rows.is_empty());
        if let (
            NewEntry::Attempt { decision, .. },
            EntryOutcome::Payout(PayoutOutcome::Stored { decision: Some(at), .. }),
        ) = (&batch.entries[0], &outcome)
            && is_new
        {
            rows.decisions.push(appended_decision(&(decision.as_ref(), *at)));
        }
        outcome
    }
}

impl SimulatedStore for PlannedLedger {
    fn load(&mut self, payout_id: &str) -> Option<(Payout, u64)> {
        let stored = self.payouts.get(payout_id)?.payout.as_ref()?;
        Some((stored.payout.clone(), stored.version))
    }

    fn commit(&mut self, commit: &SimulatedCommit<'_>) -> bool {
        let batch = DecisionBatch { entries: vec![entry_of(commit)] };
        let payout_id = &commit.applied.payout.payout_id;
        let outcome = Self::commit(self, &batch, payout_id);
        self.commits += 1;
        let is_stored = matches!(outcome, EntryOutcome::Payout(PayoutOutcome::Stored { .. }));
        if is_stored && self.commits.is_multiple_of(REPEATED) {
            let head = self.head;
            let again = Self::commit(self, &batch, payout_id);
            assert_eq!((format!("{again:?}"), self.head), (format!("{outcome:?}"), head), "it is stored once");
        }
        match outcome {
            EntryOutcome::Payout(PayoutOutcome::Stored { .. }) => true,
            EntryOutcome::Payout(PayoutOutcome::Changed(_)) => false,
            other => panic!("the ledger refuses what the domain allows: {other:?}"),
        }
    }

    fn finish(&mut self, payout_id: &str) {
        self.payouts.remove(payout_id);
    }
}

#[test]
fn no_payout_is_paid_twice_or_lost_by_the_rules_of_the_ledger() {
    let payouts = variable("PAYOUTS").unwrap_or(PAYOUTS);
    let seed = variable("PAYOUTS_SEED").unwrap_or_else(rand::random);
    show(format_args!("payouts: seed {seed}; to reproduce: PAYOUTS={payouts} PAYOUTS_SEED={seed}"));
    let share = payouts.div_ceil(THREADS);
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        let told = (0..THREADS).map(|thread| {
            let range = payouts.min(thread * share)..payouts.min((thread + 1) * share);
            scope.spawn(move || {
                let mut ledger = PlannedLedger::new();
                let totals = simulate(&mut ledger, seed, range);
                ledger.verify();
                totals
            })
        });
        for part in told.collect::<Vec<_>>() {
            totals.add(part.join().expect("a ledger that refuses nothing"));
        }
    });
    show(format_args!("payouts: {totals}"));
    assert!(totals.is_sound() && totals.payouts == payouts, "seed {seed}: {totals:?}");
    assert!(totals.conflicts > payouts / 100 && totals.crashes > payouts / 100, "seed {seed}: {totals}");
    assert!(totals.rerouted > payouts / 100, "seed {seed}: too little was re-routed: {totals}");
}
