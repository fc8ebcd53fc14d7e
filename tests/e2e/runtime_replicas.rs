//! Two replicas on one lease and one ledger: one works, the other is warm; whoever takes over goes on where the other
//! was, and nothing is done twice.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::clock::Clock;
use busbar::domain::time::Mono;
use busbar::testbed::sim::{AccountConfig, BankHandle};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _};

use crate::jobs::{assert_same, job, ledger_file, pages, rows, run_now, slow, truth, until};
use crate::support::plane::{PATIENCE, tell};
use crate::support::world::policy;
use crate::support::{Operator, World, eventually, metrics};

/// What is promised of a leader that is told to end: its standby leads so soon after the signal.
const HANDED_OVER: Duration = Duration::from_secs(1);
/// What is promised of a leader that dies or freezes.
const TAKEN_OVER: Duration = Duration::from_secs(17);

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::system);

/// A replica with the ledger that replica `a` made.
async fn replica(world: &World, name: &str) -> Operator {
    let ledger: PathBuf = ledger_file(&world.ns, "a");
    let flags = [format!("--ledger=sqlite:{}", ledger.display()), format!("--identity=replica-{name}")];
    let mut operator = Operator::start_replica(&world.ns, name, &flags.each_ref().map(String::as_str)).await;
    operator.wait_ready().await;
    operator
}

/// Waits until `operator` leads and has probed the bank, and asserts that it led within `promised` of `signalled`, when
/// the signal went out: apart from the end of the other process, and from the first probe.
async fn leads_and_probes(operator: &Operator, bank: &BankHandle, (what, promised): (&str, Duration), signalled: Mono) {
    let since = bank.arrivals().next;
    // Looked at more often than elsewhere: it is a time that is asked for.
    while !operator.leads().await {
        assert!(CLOCK.mono().since(signalled) < PATIENCE, "{what}: nobody leads");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let led = CLOCK.mono().since(signalled);
    eventually(PATIENCE, "its first probe", async || (bank.arrivals().next > since).then_some(())).await;
    tell(&format!("{what}: another leads {led:.2?} later, probes after {:.1?}", CLOCK.mono().since(signalled)));
    assert!(led <= promised, "{what}: another leads {led:.2?} later, where {promised:?} is promised");
}

/// Whether nobody is writing to a ledger's file.
async fn is_free(ledger: &Path) -> bool {
    let options = SqliteConnectOptions::new().filename(ledger).busy_timeout(Duration::ZERO);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("the ledger opens");
    let free = connection.execute("BEGIN IMMEDIATE; ROLLBACK").await.is_ok();
    connection.close().await.expect("it closes");
    free
}

/// Asserts that a standby does nothing but watch.
pub(crate) async fn assert_idle(standby: &Operator) {
    let scrape = standby.metrics().await;
    assert_eq!(metrics::value(&scrape, "leader_election_master_status", &[]), Some(0.0));
    for series in [
        "controller_runtime_reconcile_total",
        "busbar_provider_requests_total",
        "busbar_status_writes_total",
        "busbar_sync_runs_total",
    ] {
        let found = metrics::find(&scrape, series, &[]);
        assert!(found.iter().all(|sample| sample.value == 0.0), "a standby works: {found:?}");
    }
    let (status, gates) = standby.get("/readyz").await;
    assert!(status == 200 && gates.contains("[ ] leading"), "a standby is ready: {status} {gates}");
}

#[tokio::test]
async fn one_replica_works_and_hands_over_on_sigterm_and_on_sigkill() {
    let world = World::new("replicas").await;
    let bank = world.mono("mono", |c| c).await;
    world.put(&job("mono", "10s", "")).await;
    let mut first = replica(&world, "a").await;
    eventually(PATIENCE, "the first leads", async || first.leads().await.then_some(())).await;
    until(&world, "the first ran", |s| s.last_successful_time.is_some()).await;
    let mut second = replica(&world, "b").await;
    // Two more probes of the first: the second has had its chance to make one.
    let probes = || bank.arrivals().entries.into_iter().filter(|a| a.path == "/v2/accounts").collect::<Vec<_>>();
    let seen = probes().len();
    eventually(PATIENCE, "probes", async || (probes().len() >= seen + 2).then_some(())).await;
    assert_idle(&second).await;
    let connections: std::collections::HashSet<u64> = probes()[seen..].iter().map(|a| a.connection).collect();
    assert_eq!(connections.len(), 1, "one process probes, over one connection");

    // In order: at once, whatever the lease.
    let promise = ("SIGTERM", HANDED_OVER);
    let now = CLOCK.mono();
    let (ended, ()) = tokio::join!(first.sigterm(), leads_and_probes(&second, &bank, promise, now));
    assert_eq!(ended.code(), Some(0));
    assert!(first.logs().contains("leader lease released"));
    run_now(&world).await;

    // Killed: when the lease has run out.
    let mut third = replica(&world, "c").await;
    assert_idle(&third).await;
    let now = CLOCK.mono();
    second.kill9();
    leads_and_probes(&third, &bank, ("SIGKILL", TAKEN_OVER), now).await;
    run_now(&world).await;
    until(&world, "runs go on", |s| s.last_result.is_some_and(|r| r.as_str() == "Succeeded")).await;
    assert_same(&rows(&world.ns, "a").await, &truth(&world, &bank).await);
    assert_eq!(third.sigterm().await.code(), Some(0));
    for operator in [first, second, third] {
        operator.finish(&world.ns).await;
    }
}

#[tokio::test]
async fn a_frozen_leader_that_wakes_has_lost_and_writes_nothing_more() {
    let world = World::new("frozen").await;
    let bank = world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 2_000)])).await;
    bank.set_script(slow(100)).await.unwrap();
    world.put(&job("mono", "24h", "")).await;
    let mut first = replica(&world, "a").await;
    eventually(PATIENCE, "the first leads", async || first.leads().await.then_some(())).await;
    let second = replica(&world, "b").await;
    eventually(PATIENCE, "the first is in the middle of a run", async || (pages(&bank) >= 5).then_some(())).await;
    // Not in the middle of a transaction: a file has one writer, and a frozen one would keep everybody else out.
    let now = loop {
        let now = CLOCK.mono();
        first.pause();
        if is_free(&ledger_file(&world.ns, "a")).await {
            break now;
        }
        first.resume();
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    leads_and_probes(&second, &bank, ("SIGSTOP", TAKEN_OVER), now).await;
    eventually(PATIENCE, "the second goes on with the run", async || (pages(&bank) >= 9).then_some(())).await;
    let woken = first.audit().position().unwrap();
    // Something to tell for both.
    world.put(&policy("unused", "")).await;
    first.resume();
    let status = first.wait_exit(PATIENCE).await;
    assert!(!status.success() && first.logs().contains("leader lease lost: now held by replica-b"), "{status}");
    until(&world, "the run came to its end", |s| s.last_successful_time.is_some()).await;
    // They share an account; each signs its requests.
    let wrote = |replica: &str| {
        let all = first.audit().requests_since(woken, &first.requests()).unwrap().into_iter();
        let ours = all.filter(|r| r.group == "busbar.dev" && !["get", "list", "watch"].contains(&r.verb.as_str()));
        ours.filter(|r| r.user_agent.ends_with(&format!("(replica-{replica})"))).map(|r| r.uri).collect::<Vec<_>>()
    };
    assert_eq!(wrote("a"), [""; 0], "it wrote after it had lost its lease");
    assert!(!wrote("b").is_empty(), "the other wrote the end of the run, if the two can be told apart");
    assert_same(&rows(&world.ns, "a").await, &truth(&world, &bank).await);
    assert!(rows(&world.ns, "a").await.iter().all(|row| row.revision == 1), "a row was written twice");
    let job = world.ns.api::<SyncJob>().get("feed").await.unwrap().status.unwrap();
    assert!(job.failure_streak == Some(0), "no fault of the bank: {:?}", job.history);
    for operator in [first, second] {
        operator.finish(&world.ns).await;
    }
}
