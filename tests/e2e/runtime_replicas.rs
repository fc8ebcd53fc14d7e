//! Two replicas on one lease and one ledger: one works, the other is warm; whoever takes over goes on where the other
//! was, and nothing is done twice.

use std::path::PathBuf;
use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::clock::Clock;
use busbar::testbed::sim::{AccountConfig, BankHandle};

use crate::jobs::{assert_same, job, ledger_file, pages, rows, run_now, slow, truth, until};
use crate::support::plane::{PATIENCE, tell};
use crate::support::{Operator, World, eventually, metrics};

/// The lease is 15 s, a standby looks every second; then come its first reconcile and a machine that is busy.
const TAKEOVER: Duration = Duration::from_secs(17 + 13);

/// A replica with the ledger that replica `a` made.
async fn replica(world: &World, name: &str) -> Operator {
    let ledger: PathBuf = ledger_file(&world.ns, "a");
    let flags = [format!("--ledger=sqlite:{}", ledger.display()), format!("--identity=replica-{name}")];
    let mut operator = Operator::start_replica(&world.ns, name, &flags.each_ref().map(String::as_str)).await;
    operator.wait_ready().await;
    operator
}

/// Waits until `operator` leads and has probed the bank; prints how long that took.
async fn leads_and_probes(operator: &Operator, bank: &BankHandle, what: &str) {
    let clock = Clock::system();
    let began = clock.mono();
    let since = bank.arrivals().next;
    eventually(TAKEOVER, &format!("{what}: another leads"), async || operator.leads().await.then_some(())).await;
    let led = clock.mono().since(began);
    eventually(PATIENCE, "its first probe", async || (bank.arrivals().next > since).then_some(())).await;
    tell(&format!("{what}: another leads after {led:.1?}, probes after {:.1?}", clock.mono().since(began)));
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
    let clock = Clock::system();
    let began = clock.mono();
    let (ended, ()) = tokio::join!(first.sigterm(), leads_and_probes(&second, &bank, "SIGTERM"));
    assert_eq!(ended.code(), Some(0));
    let took = clock.mono().since(began);
    assert!(took < Duration::from_secs(10), "a hand-over in order waits for no expiry, but took {took:?}");
    assert!(first.logs().contains("the leader lease was given back"));
    run_now(&world).await;

    // Killed: when the lease has run out.
    let mut third = replica(&world, "c").await;
    assert_idle(&third).await;
    second.kill9();
    leads_and_probes(&third, &bank, "SIGKILL").await;
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
    first.pause();
    leads_and_probes(&second, &bank, "SIGSTOP").await;
    eventually(PATIENCE, "the second goes on with the run", async || (pages(&bank) >= 9).then_some(())).await;
    first.resume();
    let status = first.wait_exit(PATIENCE).await;
    assert!(!status.success() && first.logs().contains("the leader lease was taken by replica-b"), "{status}");
    until(&world, "the run came to its end", |s| s.last_successful_time.is_some()).await;
    assert_same(&rows(&world.ns, "a").await, &truth(&world, &bank).await);
    assert!(rows(&world.ns, "a").await.iter().all(|row| row.revision == 1), "a row was written twice");
    let job = world.ns.api::<SyncJob>().get("feed").await.unwrap().status.unwrap();
    assert!(job.failure_streak == Some(0), "no fault of the bank: {:?}", job.history);
    for operator in [first, second] {
        operator.finish(&world.ns).await;
    }
}
