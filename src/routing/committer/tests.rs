use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::domain::decision::OutcomeClass;
use crate::domain::hash::stable_hash;
use crate::ledger::contract::decision_fixtures as fixtures;
use crate::ledger::decisions::{AdjustmentChange, EntryPosition, NewOutcome};
use crate::ledger::faulty::FaultyLedger;

/// An entry that a test tells from others by its number.
fn entry(number: u128) -> NewEntry {
    NewEntry::Adjustment(AdjustmentChange::Delete {
        adjustment: Uuid::from_u128(number),
        at: "2026-01-01T00:00:00Z".parse().unwrap(),
        id: Uuid::from_u128(number),
        namespace: "ns".into(),
        subject: "ops".into(),
    })
}

fn number(entry: &NewEntry) -> u64 {
    let NewEntry::Adjustment(change) = entry else { panic!("{entry:?}") };
    u64::try_from(change.id().as_u128()).unwrap()
}

/// What a scripted commit does.
enum Act {
    Store,
    Fail,
    Panic,
}

/// A ledger whose commits wait for permits and follow a script, then store.
struct Scripted {
    script: Mutex<VecDeque<Act>>,
    /// An entry with which no commit ever succeeds.
    poison: Mutex<Option<u64>>,
    gate: Semaphore,
    groups: Mutex<Vec<Vec<u64>>>,
    running: AtomicUsize,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Act>) -> Arc<Self> {
        let script = Mutex::new(script.into_iter().collect());
        let (poison, groups) = (Mutex::default(), Mutex::default());
        Arc::new(Self { script, poison, gate: Semaphore::new(0), groups, running: AtomicUsize::new(0) })
    }

    fn commit(self: &Arc<Self>) -> Box<Commit> {
        let this = Arc::clone(self);
        Box::new(move |batch| {
            let this = Arc::clone(&this);
            Box::pin(async move {
                assert_eq!(this.running.fetch_add(1, Ordering::SeqCst), 0, "one commit at a time");
                this.gate.acquire().await.unwrap().forget();
                this.running.fetch_sub(1, Ordering::SeqCst);
                let act = this.script.lock().unwrap().pop_front().unwrap_or(Act::Store);
                match act {
                    Act::Store => {}
                    Act::Fail => return Err(failure().await),
                    Act::Panic => panic!("a defect, planted"),
                }
                let numbers: Vec<_> = batch.entries.iter().map(number).collect();
                if this.poison.lock().unwrap().is_some_and(|poison| numbers.contains(&poison)) {
                    return Err(LedgerError::Corrupt { column: "decision_log.body" });
                }
                this.groups.lock().unwrap().push(numbers.clone());
                let stored = |seq| EntryOutcome::Stored(EntryPosition { seq, hash: [0; 32] });
                Ok(numbers.into_iter().map(stored).collect())
            })
        })
    }

    fn groups(&self) -> Vec<Vec<u64>> {
        self.groups.lock().unwrap().clone()
    }
}

/// An error that repeating does not help.
async fn failure() -> LedgerError {
    let faulty = FaultyLedger::new().await;
    faulty.fail_writes();
    let batch = Arc::new(DecisionBatch { entries: vec![entry(1)] });
    match faulty.ledger.commit_decisions(batch).await {
        Err(error) => error,
        Ok(outcomes) => panic!("{outcomes:?}"),
    }
}

fn start(scripted: &Arc<Scripted>, size: usize) -> (CommitQueue, CancellationToken, tokio::task::JoinHandle<()>) {
    let (queue, committer) = channel(scripted.commit(), TaskGroup::default(), size);
    let stop = CancellationToken::new();
    let running = tokio::spawn(committer.run(stop.clone()));
    (queue, stop, running)
}

fn seq(outcome: Result<EntryOutcome, RoutingError>) -> u64 {
    match outcome {
        Ok(EntryOutcome::Stored(position)) => position.seq,
        other => panic!("{other:?}"),
    }
}

fn cause(outcome: Result<EntryOutcome, RoutingError>) -> UnavailableCause {
    match outcome {
        Err(RoutingError::Unavailable { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

/// Waits until a commit is in flight.
async fn in_flight(scripted: &Scripted) {
    while scripted.running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn entries_that_arrive_during_a_commit_are_the_next_group_in_their_order() {
    let scripted = Scripted::new([]);
    let (queue, _stop, _running) = start(&scripted, 100);
    let first = queue.submit(entry(1)).unwrap();
    in_flight(&scripted).await;
    let rest: Vec<_> = (2..=10).map(|number| queue.submit(entry(number)).unwrap()).collect();
    scripted.gate.add_permits(10);
    assert_eq!(seq(first.outcome().await), 1);
    for (number, submitted) in (2..).zip(rest) {
        assert_eq!(seq(submitted.outcome().await), number);
    }
    assert_eq!(scripted.groups(), [vec![1], (2..=10).collect()]);
}

#[tokio::test]
async fn a_group_has_a_limit() {
    let scripted = Scripted::new([]);
    let (queue, _stop, _running) = start(&scripted, 1_000);
    let first = queue.submit(entry(0)).unwrap();
    in_flight(&scripted).await;
    let rest: Vec<_> = (1..=600).map(|number| queue.submit(entry(number)).unwrap()).collect();
    scripted.gate.add_permits(10);
    seq(first.outcome().await);
    for submitted in rest {
        seq(submitted.outcome().await);
    }
    let sizes: Vec<_> = scripted.groups().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 256, 256, 88]);
}

#[tokio::test]
async fn an_error_that_stays_fails_its_group_and_no_other() {
    // A failure that may pass is tried twice.
    let scripted = Scripted::new([Act::Store, Act::Fail, Act::Fail]);
    let (queue, _stop, _running) = start(&scripted, 100);
    let first = queue.submit(entry(1)).unwrap();
    in_flight(&scripted).await;
    let failing = [2, 3].map(|number| queue.submit(entry(number)).unwrap());
    scripted.gate.add_permits(1);
    assert_eq!(seq(first.outcome().await), 1);
    in_flight(&scripted).await;
    let after = queue.submit(entry(4)).unwrap();
    scripted.gate.add_permits(10);
    for submitted in failing {
        assert_eq!(cause(submitted.outcome().await), UnavailableCause::Ledger);
    }
    assert_eq!(seq(after.outcome().await), 4);
    assert_eq!(scripted.groups(), [[1], [4]]);
}

#[tokio::test]
async fn a_group_whose_commit_fails_once_is_committed_again_as_it_is() {
    let scripted = Scripted::new([Act::Fail]);
    scripted.gate.add_permits(10);
    let (queue, _stop, _running) = start(&scripted, 100);
    assert_eq!(seq(queue.commit(entry(1)).await), 1);
    assert_eq!(scripted.groups(), [[1]]);
}

#[tokio::test]
async fn an_entry_that_can_never_be_stored_fails_alone_and_the_others_keep_their_order() {
    for poison in [1, 5, 10] {
        let scripted = Scripted::new([]);
        *scripted.poison.lock().unwrap() = Some(poison);
        let (queue, _stop, _running) = start(&scripted, 100);
        let first = queue.submit(entry(0)).unwrap();
        in_flight(&scripted).await;
        let rest: Vec<_> = (1..=10).map(|number| queue.submit(entry(number)).unwrap()).collect();
        scripted.gate.add_permits(100);
        assert_eq!(seq(first.outcome().await), 0);
        for (number, submitted) in (1..).zip(rest) {
            let outcome = submitted.outcome().await;
            if number == poison {
                assert_eq!(cause(outcome), UnavailableCause::Ledger);
            } else {
                assert_eq!(seq(outcome), number);
            }
        }
        let stored = scripted.groups().concat();
        assert_eq!(stored, (0..=10).filter(|number| *number != poison).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn where_nothing_can_be_stored_a_group_ends_after_few_commits() {
    let scripted = Scripted::new((0..1_000).map(|_| Act::Panic));
    scripted.gate.add_permits(2_000);
    let (queue, committer) = channel(scripted.commit(), TaskGroup::default(), 300);
    let waiting: Vec<_> = (1..=256).map(|number| queue.submit(entry(number)).unwrap()).collect();
    let running = tokio::spawn(committer.run(CancellationToken::new()));
    for submitted in waiting {
        assert_eq!(cause(submitted.outcome().await), UnavailableCause::Ledger);
    }
    assert!(scripted.script.lock().unwrap().len() > 900, "commits are bounded");
    running.abort();
}

#[tokio::test]
async fn a_panic_in_a_commit_fails_its_callers_and_the_committer_goes_on() {
    let scripted = Scripted::new([Act::Panic]);
    scripted.gate.add_permits(10);
    let (queue, _stop, running) = start(&scripted, 100);
    assert_eq!(cause(queue.commit(entry(1)).await), UnavailableCause::Ledger);
    scripted.running.store(0, Ordering::SeqCst);
    assert_eq!(seq(queue.commit(entry(2)).await), 2);
    assert!(!running.is_finished());
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let scripted = Scripted::new([]);
    let (queue, _stop, _running) = start(&scripted, 2);
    let first = queue.submit(entry(1)).unwrap();
    in_flight(&scripted).await;
    let waiting = [2, 3].map(|number| queue.submit(entry(number)).unwrap());
    assert_eq!(cause(queue.commit(entry(4)).await), UnavailableCause::QueueFull);
    scripted.gate.add_permits(10);
    for submitted in [first].into_iter().chain(waiting) {
        seq(submitted.outcome().await);
    }
}

#[tokio::test]
async fn outcomes_have_a_share_of_the_queue_and_leave_room_for_decisions() {
    let scripted = Scripted::new([]);
    let (queue, _stop, _running) = start(&scripted, QUEUE_SIZE);
    let number = |number: usize| entry(u128::try_from(number).unwrap());
    let outcomes: Vec<_> = (0..OUTCOME_SHARE).map(|n| queue.submit_outcome(number(n)).unwrap()).collect();
    assert!(matches!(queue.submit_outcome(number(1)), Err(RoutingError::Unavailable { .. })));
    let decision = queue.submit(number(7)).unwrap();
    scripted.gate.add_permits(100);
    assert_eq!(seq(decision.outcome().await), 7);
    for (number, submitted) in (0..).zip(outcomes) {
        assert_eq!(seq(submitted.outcome().await), number);
    }
    queue.submit_outcome(number(1)).unwrap().outcome().await.unwrap();
}

#[tokio::test]
async fn an_outcome_that_a_lost_commit_stored_is_new_to_its_caller() {
    let faulty = FaultyLedger::new().await;
    let first = fixtures::decision("p1", "a", 1);
    fixtures::decide(&*faulty.ledger, &first).await;
    fixtures::report(&*faulty.ledger, &first, OutcomeClass::Pending, 2).await;
    let failing = Arc::new(Mutex::new(Some(failure().await)));
    let ledger = Arc::clone(&faulty.ledger);
    let commit = move |batch| -> CommitFuture {
        let (ledger, failing) = (Arc::clone(&ledger), Arc::clone(&failing));
        Box::pin(async move {
            let stored = ledger.commit_decisions(batch).await;
            // It is durable, and the answer is lost.
            let lost = failing.lock().unwrap().take();
            lost.map_or(stored, Err)
        })
    };
    let (queue, committer) = channel(Box::new(commit), TaskGroup::default(), 10);
    let new = NewEntry::Outcome(fixtures::outcome(&first, OutcomeClass::Timeout, 3, 1));
    let old = fixtures::outcome(&first, OutcomeClass::Pending, 2, stable_hash("p1 pending"));
    let old = NewEntry::Outcome(NewOutcome { at: "2027-01-01T00:00:00Z".parse().unwrap(), ..old });
    let submitted = [new.clone(), new, old].map(|entry| queue.submit_outcome(entry).unwrap());
    let stop = CancellationToken::new();
    stop.cancel();
    let running = tokio::spawn(committer.run(stop));
    let mut repeated = Vec::new();
    for submitted in submitted {
        match submitted.outcome().await {
            Ok(EntryOutcome::OutcomeStored { repeated: is_repeated, .. }) => repeated.push(is_repeated),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(repeated, [false, true, true]);
    running.await.unwrap();
}

#[tokio::test]
async fn a_stop_commits_what_is_queued_and_refuses_what_comes_later() {
    let scripted = Scripted::new([]);
    let (queue, stop, running) = start(&scripted, 100);
    let first = queue.submit(entry(1)).unwrap();
    in_flight(&scripted).await;
    let queued: Vec<_> = (2..=5).map(|number| queue.submit(entry(number)).unwrap()).collect();
    stop.cancel();
    scripted.gate.add_permits(10);
    running.await.unwrap();
    assert_eq!(seq(first.outcome().await), 1);
    for (number, submitted) in (2..).zip(queued) {
        assert_eq!(seq(submitted.outcome().await), number);
    }
    assert_eq!(cause(queue.commit(entry(6)).await), UnavailableCause::Closing);
}

#[tokio::test]
async fn a_caller_that_has_gone_does_not_stop_its_group() {
    let scripted = Scripted::new([]);
    let (queue, _stop, _running) = start(&scripted, 100);
    let gone = queue.submit(entry(1)).unwrap();
    in_flight(&scripted).await;
    drop(gone);
    scripted.gate.add_permits(10);
    assert_eq!(seq(queue.commit(entry(2)).await), 2);
    assert_eq!(scripted.groups(), [[1], [2]]);
}
