//! A process that follows payouts and is killed between an intent and its call, and between a call and its answer: no
//! payout is executed twice, and no recall is sent twice blindly.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use busbar::domain::payout::{Attempt, AttemptState, BankReport, Payout, PayoutState};
use busbar::ledger::payouts::PayoutCall;
use busbar::provider::payouts::{BankAnswer, NextAttempts, PayoutBanks};
use busbar::testbed::postgres::PostgresServer;
use busbar::testbed::sim::{Behaviour, FailurePoint, PayoutConfig};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::process::{Child, Command};

use super::env::{BANK_B, Banks, Links, PayoutProcess, sqlite, submit};
use crate::kit::banks::count_arrivals;
use crate::kit::wait::eventually;

/// The argument of the child process: the ledger, the URLs of the banks, the file for its announcement and where it
/// stops, separated by `|`.
const CHILD: &str = "BUSBAR_TEST_PAYOUT_CLOCK";
/// The payout.
const PAYOUT: &str = "p1";
/// An hour, in milliseconds: longer than the test.
const HOUR: u64 = 3_600_000;

/// Where the child stops and waits to be killed. The intent of the call is stored at each of them.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stop {
    BeforeInquiry,
    AfterInquiry,
    BeforeRecall,
    AfterRecall,
    BeforeReroute,
    AfterReroute,
    Never,
}

impl Stop {
    const ALL: [Self; 7] = [
        Self::BeforeInquiry,
        Self::AfterInquiry,
        Self::BeforeRecall,
        Self::AfterRecall,
        Self::BeforeReroute,
        Self::AfterReroute,
        Self::Never,
    ];

    fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Something that stops before or after a call.
struct Stopping<T: ?Sized> {
    inner: Arc<T>,
    stop: Stop,
    announce: PathBuf,
}

impl<T: ?Sized> Stopping<T> {
    async fn at(&self, here: Stop) {
        if self.stop == here {
            announce(&self.announce);
            std::future::pending::<()>().await;
        }
    }
}

impl PayoutBanks for Stopping<dyn PayoutBanks> {
    fn ask<'a>(&'a self, call: PayoutCall, payout: &'a Payout, attempt: &'a Attempt) -> BoxFuture<'a, BankAnswer> {
        let (before, after) = match call {
            PayoutCall::Inquiry => (Stop::BeforeInquiry, Stop::AfterInquiry),
            PayoutCall::Recall => (Stop::BeforeRecall, Stop::AfterRecall),
        };
        async move {
            self.at(before).await;
            let answer = self.inner.ask(call, payout, attempt).await;
            self.at(after).await;
            answer
        }
        .boxed()
    }
}

impl NextAttempts for Stopping<dyn NextAttempts> {
    fn decide<'a>(&'a self, payout: &'a Payout, attempt_no: u32) -> BoxFuture<'a, ()> {
        async move {
            self.at(Stop::BeforeReroute).await;
            self.inner.decide(payout, attempt_no).await;
            self.at(Stop::AfterReroute).await;
        }
        .boxed()
    }
}

fn announce(file: &Path) {
    let whole = file.with_extension("tmp");
    std::fs::write(&whole, "here").unwrap();
    std::fs::rename(&whole, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child process of the tests below"]
#[expect(clippy::disallowed_methods, reason = "how the parent passes arguments to this process")]
async fn a_child_process_that_follows_payouts_until_it_is_killed() {
    let Ok(argument) = std::env::var(CHILD) else { return };
    let [ledger, a, b, file, stop] = argument.split('|').collect::<Vec<_>>()[..] else { panic!("{argument}") };
    let stop = Stop::ALL.into_iter().find(|one| one.name() == stop).unwrap();
    let file = PathBuf::from(file);
    let process = PayoutProcess::start_with(ledger, [a, b], |Links { banks, next }| Links {
        banks: Arc::new(Stopping { inner: banks, stop, announce: file.clone() }),
        next: Arc::new(Stopping { inner: next, stop, announce: file.clone() }),
    })
    .await;
    process.run_clock("child");
    eventually("the payout is settled, or attempted again", async || is_over(&process.stored(PAYOUT).await.payout))
        .await;
    if stop == Stop::Never {
        announce(&file);
    }
    std::future::pending::<()>().await;
}

/// Whether nothing is left to be done about the payout until its next attempt is sent.
fn is_over(payout: &Payout) -> bool {
    payout.state() == PayoutState::Confirmed || payout.attempts.len() == 2
}

/// Runs a child until it stops there, and kills it.
async fn run_until(ledger: &str, banks: &Banks, stop: Stop) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("here");
    let (a, b) = (banks.a.base_url(), banks.b.base_url());
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "payouts::kill::a_child_process_that_follows_payouts_until_it_is_killed", "--ignored"])
        .env(CHILD, format!("{ledger}|{a}|{b}|{}|{}", file.display(), stop.name()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually(format!("the child is at {stop:?}"), async || file.exists()).await;
    child.kill().await.unwrap();
}

/// A payout that the first bank accepted and whose reply was lost.
async fn stuck(ledger: &str, banks: &Banks) -> Payout {
    let process = PayoutProcess::start(ledger, [&banks.a.base_url(), &banks.b.base_url()]).await;
    let payout = process.register(PAYOUT).await;
    banks.a.fail_with(Behaviour::Reset(FailurePoint::AfterHead)).await.unwrap();
    assert_eq!(submit(&banks.a, PAYOUT, &payout.attempts[0]).await, None, "the reply is lost");
    banks.a.recover().await;
    process.report(PAYOUT, BankReport::Submitted).await;
    let payout = process.report(PAYOUT, BankReport::Silence).await.payout;
    process.end().await;
    payout
}

/// The payout as it is in the ledger.
async fn stored(ledger: &str, banks: &Banks) -> Payout {
    let process = PayoutProcess::start(ledger, [&banks.a.base_url(), &banks.b.base_url()]).await;
    let payout = process.stored(PAYOUT).await.payout;
    process.end().await;
    payout
}

/// Kills a child there, lets another one go on, and compares what is stored with the books of the banks.
async fn nothing_is_repeated_after(stop: Stop, ledger: &str) {
    // It would be executed in an hour, and is cancelled before.
    let banks = Banks::new(PayoutConfig { after_ms: HOUR, ..PayoutConfig::default() }).await;
    stuck(ledger, &banks).await;
    run_until(ledger, &banks, stop).await;
    run_until(ledger, &banks, Stop::Never).await;
    let payout = stored(ledger, &banks).await;
    let [first, second] = &payout.attempts[..] else { panic!("{stop:?}: {payout:#?}") };
    assert_eq!((first.state, second.state), (AttemptState::Recalled, AttemptState::IntentWritten), "{stop:?}");
    assert_eq!(second.plan.bank, BANK_B);
    let recalls = count_arrivals(&banks.a, |arrival| arrival.path.ends_with("/cancel"));
    assert_eq!(recalls, 1, "{stop:?}");
    assert_eq!(submit(&banks.b, PAYOUT, second).await, Some(202));
    assert_eq!(banks.executions(PAYOUT), 1, "{stop:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_an_intent_and_its_call_leads_to_no_second_recall_or_payment() {
    for stop in Stop::ALL.into_iter().filter(|stop| *stop != Stop::Never) {
        let folder = tempfile::tempdir().unwrap();
        nothing_is_repeated_after(stop, &sqlite(folder.path())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_kills_on_a_ledger_that_replicas_share() {
    let server = PostgresServer::shared().await.unwrap();
    for stop in [Stop::BeforeInquiry, Stop::BeforeRecall, Stop::AfterRecall, Stop::BeforeReroute] {
        nothing_is_repeated_after(stop, &server.create_database().await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_a_payout_was_executed_leads_to_its_confirmation() {
    for stop in [Stop::BeforeInquiry, Stop::AfterInquiry] {
        let (folder, banks) = (tempfile::tempdir().unwrap(), Banks::new(PayoutConfig::default()).await);
        let ledger = sqlite(folder.path());
        stuck(&ledger, &banks).await;
        run_until(&ledger, &banks, stop).await;
        run_until(&ledger, &banks, Stop::Never).await;
        let payout = stored(&ledger, &banks).await;
        assert_eq!((payout.state(), payout.attempts.len()), (PayoutState::Confirmed, 1), "{stop:?}");
        assert_eq!(banks.executions(PAYOUT), 1, "{stop:?}");
    }
}
