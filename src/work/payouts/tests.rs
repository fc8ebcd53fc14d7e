//! The payout clock against a ledger on disk and banks that answer as they are told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Follower, PayoutClock, PayoutDeps};
use crate::clock::Clock;
use crate::domain::payout::{
    Attempt, AttemptState, BankReport, BankStatus, Effect, Evidence, EvidenceSource, Payout, PayoutState,
};
use crate::ledger::contract::decision_fixtures::{attempt, one};
use crate::ledger::contract::fixtures::at;
use crate::ledger::contract::payout_fixtures::{entry, is_committed, registration, stored};
use crate::ledger::faulty::FaultyLedger;
use crate::ledger::payouts::{PayoutCall, TimelineEvent};
use crate::ledger::{LeaseHolder, LeaseOptions, LeaseStore, Ledger, LedgerError, TakeOutcome};
use crate::metrics::Metrics;
use crate::provider::payouts::{BankAnswer, NextAttempts, PayoutBanks, PayoutFollower, PayoutMetrics};
use crate::tasks::TaskGroup;

/// A call that a bank got.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Asked {
    call: PayoutCall,
    bank: String,
    payout_id: String,
}

type Answers = Box<dyn Fn(&Asked) -> Option<BankReport> + Send + Sync>;

/// Banks that answer what they are told; without an answer they hang.
struct ScriptedBanks {
    asked: Mutex<Vec<Asked>>,
    answers: Answers,
    clock: Clock,
}

impl ScriptedBanks {
    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl PayoutBanks for ScriptedBanks {
    fn ask<'a>(&'a self, call: PayoutCall, payout: &'a Payout, attempt: &'a Attempt) -> BoxFuture<'a, BankAnswer> {
        let asked = Asked { call, bank: attempt.plan.bank.clone(), payout_id: payout.payout_id.clone() };
        let report = (self.answers)(&asked);
        self.asked.lock().unwrap().push(asked);
        let now = self.clock.now().wall;
        async move {
            let Some(report) = report else { return std::future::pending().await };
            BankAnswer { report, evidence: Evidence::new(EvidenceSource::Inquiry, now).answering(now) }
        }
        .boxed()
    }
}

/// The attempts that were to be decided.
#[derive(Default)]
struct Proposed(Mutex<Vec<u32>>);

impl NextAttempts for Proposed {
    fn decide<'a>(&'a self, _: &'a Payout, attempt_no: u32) -> BoxFuture<'a, ()> {
        self.0.lock().unwrap().push(attempt_no);
        std::future::ready(()).boxed()
    }
}

/// A ledger with payouts that are long due, and those who follow them.
struct Env {
    disk: FaultyLedger,
    clock: Clock,
    banks: Arc<ScriptedBanks>,
    proposed: Arc<Proposed>,
    follower: Follower,
}

impl Env {
    async fn new(answers: impl Fn(&Asked) -> Option<BankReport> + Send + Sync + 'static) -> Self {
        Self::on(FaultyLedger::new().await, 10_000, answers)
    }

    /// The same on a ledger that is there, at this second.
    fn on(
        disk: FaultyLedger,
        second: i64,
        answers: impl Fn(&Asked) -> Option<BankReport> + Send + Sync + 'static,
    ) -> Self {
        let clock = Clock::starting_at(at(second));
        let banks = Arc::new(ScriptedBanks { asked: Mutex::default(), answers: Box::new(answers), clock });
        let (proposed, metrics) = (Arc::<Proposed>::default(), Metrics::new());
        let deps = PayoutDeps {
            banks: Arc::clone(&banks) as Arc<dyn PayoutBanks>,
            clock,
            counts: PayoutMetrics::new(&metrics).unwrap(),
            ledger: Arc::clone(&disk.ledger),
            next: Arc::clone(&proposed) as Arc<dyn NextAttempts>,
            tasks: TaskGroup::default(),
        };
        let follower = Follower::new(deps, &metrics).unwrap();
        Self { disk, clock, banks, proposed, follower }
    }

    fn ledger(&self) -> &dyn Ledger {
        &*self.disk.ledger
    }

    /// Registers a payout at a bank, sent at second 0.
    async fn register(&self, payout_id: &str, bank: &str) {
        let of = attempt(payout_id, 1, bank, 0);
        let outcome = one(self.ledger(), entry(&of, &registration(&of, 0))).await;
        assert!(is_committed(&outcome), "{outcome:?}");
    }

    fn payout_clock(&self, holder: &str) -> PayoutClock {
        PayoutClock::new(self.follower.clone(), holder, TaskGroup::default())
    }

    /// Runs a clock until `done`.
    async fn run_until(&self, holder: &str, done: impl AsyncFn() -> bool) {
        let stop = CancellationToken::new();
        let running = tokio::spawn(self.payout_clock(holder).run(stop.clone()));
        let mut ended = false;
        for _ in 0..1000 {
            ended = done().await;
            if ended {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        running.await.unwrap();
        assert!(ended, "not in time; asked: {:?}", self.banks.asked());
    }

    async fn payout(&self, payout_id: &str) -> Payout {
        stored(self.ledger(), payout_id).await.payout
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of several scripts; others say nothing")]
fn settled(_: &Asked) -> Option<BankReport> {
    Some(BankReport::Status(BankStatus::Settled))
}

#[tokio::test]
async fn a_due_payout_is_inquired_once_and_its_intent_has_the_fence() {
    let env = Env::new(settled).await;
    env.register("p1", "a").await;
    env.run_until("one", async || env.payout("p1").await.state() == PayoutState::Confirmed).await;
    let asked = Asked { call: PayoutCall::Inquiry, bank: "a".to_owned(), payout_id: "p1".to_owned() };
    assert_eq!(env.banks.asked(), [asked]);
    let timeline = env.ledger().payout_timeline("pay", "p1", 0, 100).await.unwrap();
    let fences: Vec<i64> = timeline
        .iter()
        .filter_map(|row| match row.event {
            TimelineEvent::Intent { call: PayoutCall::Inquiry, fence } => Some(fence),
            _ => None,
        })
        .collect();
    assert_eq!(fences.len(), 1, "{timeline:?}");
    assert!(fences[0] > 0, "the fence of the lease");
    assert_eq!(env.payout("p1").await.next_action(), None, "nothing is left to be done");
}

#[tokio::test]
async fn a_bank_that_hangs_delays_no_other_banks_payouts() {
    let env = Env::new(|asked| if asked.bank == "hung" { None } else { settled(asked) }).await;
    for n in 0..60 {
        env.register(&format!("h{n:02}"), "hung").await;
    }
    env.register("p1", "b").await;
    env.register("p2", "c").await;
    env.run_until("one", async || {
        let mut confirmed = true;
        for id in ["p1", "p2"] {
            confirmed &= env.payout(id).await.state() == PayoutState::Confirmed;
        }
        confirmed
    })
    .await;
    let hung = env.banks.asked().iter().filter(|asked| asked.bank == "hung").count();
    assert!(hung <= super::due_queue::MAX_RUNNING_OF_BANK, "{hung} calls at the bank that hangs");
}

#[tokio::test]
async fn a_call_that_a_crash_prevented_is_not_repeated_but_asked_when_it_is_due() {
    let env = Env::new(|_| None).await;
    env.register("p1", "a").await;
    // The intent is stored, the call is under way, and the process ends.
    env.run_until("one", async || !env.banks.asked().is_empty()).await;
    let attempt = env.payout("p1").await.attempts.remove(0);
    assert_eq!((attempt.state, attempt.inquiries), (AttemptState::Inquiring, 1));
    let due = attempt.next_action.unwrap();
    assert!(due > at(10_000), "in a minute");
    // Before it is due, the next process asks nothing; the same question is not sent again.
    let Env { disk, .. } = env;
    let early = Env::on(disk, 10_010, settled);
    early.register("p2", "a").await;
    early.run_until("two", async || early.payout("p2").await.state() == PayoutState::Confirmed).await;
    assert!(early.banks.asked().iter().all(|asked| asked.payout_id == "p2"), "{:?}", early.banks.asked());
    let late = Env::on(early.disk, 10_120, settled);
    late.run_until("three", async || late.payout("p1").await.state() == PayoutState::Confirmed).await;
    assert_eq!(late.banks.asked().len(), 1);
}

#[tokio::test]
async fn a_refused_payout_is_proposed_to_the_next_bank() {
    let env = Env::new(|_| Some(BankReport::Status(BankStatus::Rejected))).await;
    env.register("p1", "a").await;
    env.run_until("one", async || !env.proposed.0.lock().unwrap().is_empty()).await;
    assert_eq!(*env.proposed.0.lock().unwrap(), [2]);
    assert_eq!(env.payout("p1").await.attempts[0].state, AttemptState::Rejected);
}

#[tokio::test]
async fn a_replica_that_was_replaced_changes_nothing_and_makes_no_call() {
    let env = Env::new(settled).await;
    env.register("p1", "a").await;
    let store = Arc::clone(&env.disk.ledger) as Arc<dyn LeaseStore>;
    let ttl = Duration::from_secs(45);
    let options =
        LeaseOptions { name: "payouts".to_owned(), holder: "frozen".to_owned(), ttl, tasks: TaskGroup::default() };
    let taken = LeaseHolder::new(Arc::clone(&store), env.clock, options).take().await.unwrap();
    let TakeOutcome::Taken(held) = taken else { panic!("free") };
    // Another replica takes the lease that was not renewed.
    let later = store.acquire_lease("payouts", "other", ttl, at(20_000), None).await.unwrap();
    assert!(later.acquired().is_some());
    let before = stored(env.ledger(), "p1").await;
    let due = env.ledger().due_payouts(at(10_000), None, 10).await.unwrap();
    assert_eq!(due.len(), 1);
    let refused = env.payout_clock("frozen").turns(&held, &due).await;
    assert!(matches!(refused, Err(LedgerError::Fenced { .. })));
    assert_eq!(stored(env.ledger(), "p1").await, before);
    assert!(env.banks.asked().is_empty());
}

#[tokio::test]
async fn an_act_of_a_person_is_followed_without_the_lease() {
    let env = Env::new(settled).await;
    env.register("p1", "a").await;
    let payout = env.payout("p1").await;
    env.follower.follow(&payout, &[Effect::Audit, Effect::Inquire { attempt_no: 1 }]);
    for _ in 0..1000 {
        if env.payout("p1").await.state() == PayoutState::Confirmed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(env.payout("p1").await.state(), PayoutState::Confirmed);
    assert_eq!(env.banks.asked().len(), 1);
}

#[tokio::test]
async fn a_payout_that_cannot_be_read_delays_no_other_one() {
    let env = Env::new(settled).await;
    env.register("damaged", "a").await;
    env.register("p1", "a").await;
    env.disk.damage_payout("damaged").await;
    env.run_until("one", async || env.payout("p1").await.state() == PayoutState::Confirmed).await;
    assert_eq!(env.banks.asked().len(), 1, "{:?}", env.banks.asked());
}
