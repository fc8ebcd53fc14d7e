//! Two replicas on one lease and one ledger: one works, the other is a standby; a takeover resumes the work, and nothing is
//! done twice.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::clock::Clock;
use busbar::domain::time::Mono;
use busbar::testbed::sim::{AccountConfig, BankHandle};
use serde_json::json;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::report;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{
    FEED, assert_complete, feed_job, page_requests, run_now, slow_pages, stored_rows, until_job, until_succeeded,
};
use crate::kit::objects::policy;
use crate::kit::wait::{PATIENCE, eventually};

/// Documented bound for a leader that is told to exit: its standby leads so soon after the signal.
const AFTER_SIGTERM: Duration = Duration::from_secs(1);

/// Documented bound for a leader that is killed or frozen.
const AFTER_KILL: Duration = Duration::from_secs(17);

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::system);

/// A replica with the ledger that replica `a` made.
async fn replica(env: &BankEnv, name: &str) -> Operator {
    let flags = [env.ns.ledger_flag("a"), format!("--identity=replica-{name}")];
    let mut operator = Operator::start_replica(&env.ns, name, &flags.each_ref().map(String::as_str)).await;
    operator.wait_ready().await;
    operator
}

/// The signal that a leader gets, and how soon another must lead.
struct Takeover {
    signal: &'static str,
    bound: Duration,
    signalled: Mono,
}

/// Waits until `operator` leads and has probed the bank, and asserts that it led in time.
async fn takes_over(operator: &Operator, bank: &BankHandle, takeover: Takeover) {
    let Takeover { signal, bound, signalled } = takeover;
    let since = bank.arrivals().next;
    // Looked at more often than elsewhere, because the time is measured.
    while !operator.leads().await {
        assert!(CLOCK.mono().since(signalled) < PATIENCE, "{signal}: no replica leads");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let led = CLOCK.mono().since(signalled);
    eventually("its first probe", async || bank.arrivals().next > since).await;
    report(&format!("{signal}: another leads {led:.2?} later, probes after {:.1?}", CLOCK.mono().since(signalled)));
    assert!(led <= bound, "{signal}: another leads {led:.2?} later instead of {bound:?}");
}

/// Whether no process is writing to the ledger.
fn is_unlocked(ledger: &Path) -> bool {
    let connection = rusqlite::Connection::open(ledger).expect("the ledger opens");
    connection.busy_timeout(Duration::ZERO).expect("a timeout");
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
}

#[tokio::test]
async fn one_replica_works_and_another_takes_over() {
    let env = BankEnv::new("replicas").await;
    let bank = env.mono("mono", |c| c).await;
    env.put(&feed_job("10s", json!({}))).await;
    let mut first = replica(&env, "a").await;
    first.wait_leading().await;
    until_succeeded(&env, "the first has run").await;
    let mut second = replica(&env, "b").await;
    // Two more probes of the first: the second would have made one by now.
    let probes = || bank.arrivals().entries.into_iter().filter(|a| a.path == "/v2/accounts").collect::<Vec<_>>();
    let seen = probes().len();
    eventually("probes", async || probes().len() >= seen + 2).await;
    second.assert_standby().await;
    let connections: std::collections::HashSet<u64> = probes()[seen..].iter().map(|a| a.connection).collect();
    assert_eq!(connections.len(), 1, "one process probes, over one connection");

    // An orderly exit: at once, whatever the lease.
    let takeover = Takeover { signal: "SIGTERM", bound: AFTER_SIGTERM, signalled: CLOCK.mono() };
    let (status, ()) = tokio::join!(first.sigterm(), takes_over(&second, &bank, takeover));
    assert_eq!(status.code(), Some(0));
    assert!(first.logs().contains("leader lease released"));
    run_now(&env).await;

    // Killed: when the lease has expired.
    let mut third = replica(&env, "c").await;
    third.assert_standby().await;
    let takeover = Takeover { signal: "SIGKILL", bound: AFTER_KILL, signalled: CLOCK.mono() };
    second.kill9();
    takes_over(&third, &bank, takeover).await;
    run_now(&env).await;
    until_job(&env, "a run has succeeded", |s| s.last_result.is_some_and(|r| r.as_str() == "Succeeded")).await;
    assert_complete(&env, &bank).await;
    assert_eq!(third.sigterm().await.code(), Some(0));
    for operator in [first, second, third] {
        operator.finish(&env.ns).await;
    }
}

#[tokio::test]
async fn a_frozen_leader_that_resumes_writes_nothing_more() {
    let env = BankEnv::new("frozen").await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 2_000)])).await;
    bank.set_script(slow_pages(100)).await.unwrap();
    env.put(&feed_job("24h", json!({}))).await;
    let mut first = replica(&env, "a").await;
    first.wait_leading().await;
    let second = replica(&env, "b").await;
    eventually("the first is in the middle of a run", async || page_requests(&bank) >= 5).await;
    // Not in the middle of a transaction: a file has one writer, and a frozen one would block all others.
    let signalled = loop {
        let now = CLOCK.mono();
        first.pause();
        if is_unlocked(&env.ns.ledger_file("a")) {
            break now;
        }
        first.resume();
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    takes_over(&second, &bank, Takeover { signal: "SIGSTOP", bound: AFTER_KILL, signalled }).await;
    eventually("the second resumes the run", async || page_requests(&bank) >= 9).await;
    let resumed = first.audit().position().unwrap();
    // A change that both could report.
    env.put(&policy("unused", json!({"preset": "Api"}))).await;
    first.resume();
    let status = first.wait_exit(PATIENCE).await;
    assert!(!status.success() && first.logs().contains("leader lease lost: now held by replica-b"), "{status}");
    until_succeeded(&env, "the run has succeeded").await;
    // They share an account; each has its name in the user agent.
    let wrote = |replica: &str| {
        let all = first.audit().requests_since(resumed, &first.requests()).unwrap().into_iter();
        let ours = all.filter(|r| r.group == "busbar.dev" && !["get", "list", "watch"].contains(&r.verb.as_str()));
        ours.filter(|r| r.user_agent.ends_with(&format!("(replica-{replica})"))).map(|r| r.uri).collect::<Vec<_>>()
    };
    assert_eq!(wrote("a"), [""; 0], "it wrote after it had lost its lease");
    assert!(!wrote("b").is_empty(), "the other wrote the end of the run, if the two can be distinguished");
    assert_complete(&env, &bank).await;
    assert!(stored_rows(&env.ns, "a").await.iter().all(|row| row.revision == 1), "a row was written twice");
    let job = env.get::<SyncJob>(FEED).await.status.unwrap();
    assert!(job.failure_streak == Some(0), "the bank did not fail: {:?}", job.history);
    for operator in [first, second] {
        operator.finish(&env.ns).await;
    }
}
