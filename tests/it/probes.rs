//! The probe driver against simulated banks: when it probes, what follows from it, and which controller is notified.

mod hung;
mod requested;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{CallClass, EffectiveState, OnUnhealthy};
use busbar::domain::health::Health;
use busbar::domain::key::ObjectKey;
use busbar::domain::window::TimeWindow;
use busbar::metrics::Metrics;
use busbar::notify::KeyQueue;
use busbar::profile::CheckMode;
use busbar::provider::call::Request;
use busbar::provider::connection::Connection;
use busbar::provider::monitor::Verification;
use busbar::provider::probe::CallResult;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::Draft;
use busbar::testbed::sim::{BankConfig, Behaviour, FailurePoint};
use busbar::work::probes::{ProbeDriver, ProbeHandle};
use futures::FutureExt as _;
use jiff::SignedDuration;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kit::banks::{arrivals_at, plain_bank, start_bank, unavailable};
use crate::kit::connections::{apply_as, connect, draft, key};
use crate::kit::time::ManualTime;
use crate::kit::wait::{PATIENCE, eventually};

/// A registry with its driver running; ends when dropped.
struct ProbeEnv {
    registry: Registry,
    /// Wakes the controllers.
    changes: Arc<KeyQueue<ObjectKey>>,
    probes: ProbeHandle,
    clock: Clock,
    _stop: DropGuard,
}

impl ProbeEnv {
    fn new() -> Self {
        Self::with(|driver| driver)
    }

    fn with(change: impl FnOnce(ProbeDriver) -> ProbeDriver) -> Self {
        // Its wall time follows the clock of the runtime, which some of these tests stop.
        let clock = Clock::starting_at(Clock::system().now().wall);
        let metrics = Metrics::new();
        let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).unwrap();
        let driver = change(ProbeDriver::new(registry.clone(), clock, &metrics).unwrap());
        let (probes, stop) = (driver.handle(), CancellationToken::new());
        tokio::spawn(driver.run(stop.clone()));
        Self { changes: registry.subscribe_changes(), registry, probes, clock, _stop: stop.drop_guard() }
    }

    fn apply(&self, draft: Draft) -> Arc<Connection> {
        self.apply_as("bank", draft)
    }

    fn apply_as(&self, name: &str, draft: Draft) -> Arc<Connection> {
        apply_as(&self.registry, name, draft)
    }
}

fn probed_every(base_url: String, interval: Duration) -> Draft {
    let mut draft = draft(base_url);
    draft.health_check.interval = interval;
    draft.health_check.timeout = interval.min(Duration::from_secs(1));
    draft
}

const OFTEN: Duration = Duration::from_millis(50);

const RARELY: Duration = Duration::from_hours(1);

#[tokio::test]
async fn probes_open_the_circuit_of_a_failing_bank_and_close_it_again() {
    let (_sim, bank) = plain_bank().await;
    let env = ProbeEnv::new();
    let mut draft = probed_every(bank.base_url(), OFTEN);
    draft.breaker.consecutive_failures = 2;
    draft.breaker.open.base = Duration::from_millis(300);
    let connection = env.apply(draft);
    eventually("verified", async || connection.snapshot().verification == Verification::Verified).await;
    assert_eq!(connection.snapshot().health, Health::Healthy);

    bank.set_script(unavailable()).await.unwrap();
    eventually("open", async || connection.snapshot().effective == EffectiveState::Open).await;
    eventually("unhealthy", async || connection.snapshot().health == Health::Unhealthy).await;
    assert_eq!(connection.snapshot().verification, Verification::Verified, "an outage leaves the connection verified");
    bank.recover().await;
    eventually("closed", async || connection.snapshot().effective == EffectiveState::Closed).await;
    // The checks pass again; the risk is still raised for some minutes.
    eventually("answers again", async || connection.snapshot().health == Health::Degraded).await;
}

#[tokio::test]
async fn a_bank_is_probed_only_at_the_end_of_its_maintenance_window() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    let env = ProbeEnv::new();
    let now = env.clock.now().wall;
    let ends = now + SignedDuration::from_mins(2);
    let mut draft = probed_every(bank.base_url(), RARELY);
    draft.maintenance = vec![TimeWindow::Once { from: now - SignedDuration::from_mins(1), to: ends }];
    let connection = env.apply(draft);
    env.probes.probe_now(&key("bank"));
    time.advance(Duration::from_mins(1)).await;
    assert_eq!(bank.arrivals().entries.len(), 0, "not even on request");
    time.advance(Duration::from_secs(61)).await;
    eventually("verified", async || connection.snapshot().verification == Verification::Verified).await;
    assert!(connection.snapshot().last_probe.unwrap().at >= ends, "not before the window ended");
    assert_eq!(bank.arrivals().entries.len(), 1);
}

#[tokio::test]
async fn probes_of_an_open_circuit_do_not_close_it_before_its_trial() {
    let (_sim, bank) = plain_bank().await;
    bank.set_script(unavailable()).await.unwrap();
    let env = ProbeEnv::new();
    let mut draft = probed_every(bank.base_url(), OFTEN);
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_hours(1);
    let connection = env.apply(draft);
    eventually("open", async || connection.snapshot().effective == EffectiveState::Open).await;
    bank.recover().await;
    eventually("answers again", async || connection.snapshot().health == Health::Degraded).await;
    assert_eq!(connection.snapshot().effective, EffectiveState::Open);
}

#[tokio::test]
async fn a_trial_runs_when_it_is_due_and_not_at_the_next_probe_time() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    bank.set_script(unavailable()).await.unwrap();
    let env = ProbeEnv::new();
    let mut draft = probed_every(bank.base_url(), RARELY);
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_secs(10);
    let connection = env.apply(draft);
    eventually("open", async || connection.snapshot().effective == EffectiveState::Open).await;
    bank.recover().await;
    time.advance(Duration::from_secs(20)).await;
    eventually("closed", async || connection.snapshot().effective == EffectiveState::Closed).await;
}

#[tokio::test]
async fn new_settings_and_a_request_are_probed_at_once() {
    let (_sim, bank) = plain_bank().await;
    let env = ProbeEnv::new();
    let first = probed_every(bank.base_url(), RARELY);
    env.apply(first.clone());
    let probed = async |times: u64| {
        eventually("probed", async || bank.counters().requests == times).await;
    };
    probed(1).await;
    env.apply(first.clone());
    let mut changed = first;
    changed.breaker.consecutive_failures = 9;
    env.apply(changed);
    probed(2).await;
    env.probes.probe_now(&key("bank"));
    probed(3).await;
    env.probes.probe_now(&key("unknown"));
    env.probes.probe_now(&key("bank"));
    probed(4).await;
}

#[tokio::test]
async fn passive_suspended_and_removed_connections_are_not_probed() {
    let (_sim, bank) = plain_bank().await;
    let env = ProbeEnv::new();
    let apply = |name: &str, change: fn(&mut Draft)| {
        let mut draft = probed_every(bank.labelled_url(name), OFTEN);
        change(&mut draft);
        env.apply_as(name, draft)
    };
    let passive = apply("passive", |draft| draft.health_check.mode = CheckMode::Passive);
    apply("suspended", |draft| draft.suspended = true);
    let removed = apply("removed", |_| {});
    eventually("probed", async || removed.snapshot().last_probe.is_some()).await;
    env.registry.remove(&key("removed"));
    apply("probed", |_| {});
    eventually("ten probes of another connection", async || arrivals_at(&bank, "/c/probed/") >= 10).await;
    let arrivals = bank.arrivals().entries;
    let probes = |name: &str| arrivals.iter().filter(|arrival| arrival.path.contains(name)).count();
    assert_eq!((probes("passive"), probes("suspended")), (0, 0));
    assert!(probes("removed") < 5, "it is still probed: {}", probes("removed"));
    assert_eq!(passive.snapshot().verification, Verification::Pending);
    assert_eq!(passive.snapshot().health, Health::Unknown);
}

#[tokio::test]
async fn a_passive_connection_with_payouts_only_recovers_by_a_probe() {
    let (_sim, bank) = plain_bank().await;
    let env = ProbeEnv::new();
    let mut draft = probed_every(bank.base_url(), OFTEN);
    draft.health_check.mode = CheckMode::Passive;
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_millis(300);
    let connection = env.apply(draft);
    bank.set_script(unavailable()).await.unwrap();
    let mut payout = Request::get("payout", "/health");
    payout.class = CallClass::Money;
    connection.call(payout).await.unwrap();
    assert_eq!(connection.snapshot().effective, EffectiveState::Open);
    // A trial that fails, and one more after the next open time; then the bank recovers.
    eventually("two trials", async || bank.counters().requests >= 3).await;
    assert_ne!(connection.snapshot().effective, EffectiveState::Closed);
    bank.recover().await;
    eventually("closed", async || connection.snapshot().effective == EffectiveState::Closed).await;
    let probes = bank.arrivals().next;
    // The probes of another connection measure the time: the closed one is not probed any more.
    let mut other = probed_every(bank.labelled_url("other"), OFTEN);
    other.breaker.consecutive_failures = 9;
    env.apply_as("other", other);
    eventually("ten probes of another connection", async || arrivals_at(&bank, "/c/other/") >= 10).await;
    let own = bank.arrivals().entries.len() - arrivals_at(&bank, "/c/other/");
    assert_eq!(own as u64, probes, "no probe without an open circuit");
}

#[tokio::test]
async fn probes_in_flight_never_exceed_their_limit() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    bank.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let env = ProbeEnv::with(|driver| driver.with_concurrency(4));
    let connections: Vec<_> = (0..12)
        .map(|n| {
            let name = format!("bank-{n:02}");
            let mut draft = probed_every(bank.labelled_url(&name), RARELY);
            draft.health_check.timeout = Duration::from_secs(2);
            env.apply_as(&name, draft)
        })
        .collect();
    // What has arrived is compared with what has ended: a TCP connection may be closed later than the next is opened.
    let mut most = 0;
    while bank.counters().requests < 12 {
        time.advance(Duration::from_millis(500)).await;
        let ended = connections.iter().filter(|connection| connection.last_probe().is_some()).count() as u64;
        most = most.max(bank.counters().requests.saturating_sub(ended));
    }
    assert_eq!(most, 4, "as many as allowed, and no more");
    // Longer than their timeout.
    time.advance(Duration::from_secs(3)).await;
    eventually("all probes ended", async || connections.iter().all(|connection| connection.last_probe().is_some()))
        .await;
    assert_eq!(bank.counters().requests, 12);
}

#[tokio::test]
async fn one_probe_of_a_connection_runs_at_a_time() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    bank.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let env = ProbeEnv::new();
    let mut draft = probed_every(bank.base_url(), Duration::from_millis(200));
    draft.health_check.timeout = Duration::from_millis(200);
    env.apply(draft);
    for _ in 0..20 {
        env.probes.probe_now(&key("bank"));
        time.advance(Duration::from_millis(10)).await;
    }
    assert!(bank.counters().requests <= 2, "{}", bank.counters().requests);
}

#[tokio::test]
async fn only_a_changed_snapshot_notifies_the_controller() {
    let (_sim, bank) = plain_bank().await;
    let env = ProbeEnv::new();
    let mut draft = probed_every(bank.base_url(), OFTEN);
    draft.breaker.consecutive_failures = 2;
    let connection = env.apply(draft);
    assert_eq!(env.changes.try_take(), Some(key("bank")), "applied");
    assert_eq!(tokio::time::timeout(PATIENCE, env.changes.take()).await.unwrap(), key("bank"));
    assert_eq!(connection.snapshot().verification, Verification::Verified);
    let before = bank.counters().requests;
    eventually("ten more probes", async || bank.counters().requests >= before + 10).await;
    assert!(env.changes.take().now_or_never().is_none(), "nothing changed");

    bank.set_script(Behaviour::status(500)).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, env.changes.take()).await.unwrap(), key("bank"));
    assert_eq!(connection.snapshot().effective, EffectiveState::Open, "the circuit is the first thing that changes");
}

#[tokio::test]
async fn each_probe_wakes_the_controller_once() {
    let (_sim, bank) = plain_bank().await;
    bank.set_script(unavailable()).await.unwrap();
    let env = ProbeEnv::new();
    let mut draft = probed_every(bank.base_url(), RARELY);
    draft.breaker.consecutive_failures = 1;
    draft.breaker.unhealthy = OnUnhealthy::Ignore;
    draft.breaker.open.base = Duration::from_millis(300);
    // Subscribed, and consumed at once: nothing is coalesced that was published apart.
    let wakes = Arc::new(AtomicUsize::new(0));
    let consumer = tokio::spawn({
        let (changes, wakes) = (Arc::clone(&env.changes), Arc::clone(&wakes));
        async move {
            loop {
                changes.take().await;
                wakes.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let connection = env.apply(draft);
    eventually("open", async || connection.snapshot().effective == EffectiveState::Open).await;
    bank.recover().await;
    eventually("closed", async || connection.snapshot().effective == EffectiveState::Closed).await;
    let probes = usize::try_from(bank.counters().requests).unwrap();
    assert!(probes >= 2, "one that opens the circuit and the trial that closes it: {probes}");
    eventually("woken", async || wakes.load(Ordering::SeqCst) > probes).await;
    assert_eq!(wakes.load(Ordering::SeqCst), 1 + probes, "the settings, then one for each probe's outcome");
    consumer.abort();
}

#[tokio::test]
async fn a_probe_returns_what_was_recorded_of_it() {
    let (_sim, bank) = plain_bank().await;
    let connection = connect(draft(bank.base_url()));
    for (status, success) in [(200, true), (503, false)] {
        bank.set_script(Behaviour::status(status)).await.unwrap();
        let outcome = connection.probe().await.unwrap();
        let record = outcome.record.unwrap();
        assert_eq!((record.success, record.result.clone()), (success, CallResult::Status(status)));
        assert_eq!(connection.last_probe(), Some(record));
    }
}

#[tokio::test]
async fn a_call_that_opens_the_circuit_notifies_the_controller() {
    let (_sim, bank) = plain_bank().await;
    let env = ProbeEnv::new();
    let mut draft = probed_every(bank.base_url(), RARELY);
    draft.health_check.mode = CheckMode::Passive;
    draft.breaker.consecutive_failures = 1;
    let connection = env.apply(draft);
    assert_eq!(env.changes.try_take(), Some(key("bank")), "applied");
    bank.set_script(Behaviour::status(500)).await.unwrap();
    connection.call(Request::get("test", "/health")).await.unwrap();
    assert_eq!(env.changes.try_take(), Some(key("bank")));
    assert_eq!(connection.snapshot().effective, EffectiveState::Open);
}

#[tokio::test]
async fn a_thousand_new_connections_are_each_probed_once_through_one_client() {
    // No probe times out, however long a thousand of them take here.
    let _time = ManualTime::start();
    let (_sim, bank) = start_bank(BankConfig { log_capacity: 4096, ..BankConfig::new("bank") }).await;
    let env = ProbeEnv::new();
    // One draft for all: each would read the profiles again.
    let whole = probed_every(bank.base_url(), RARELY);
    let connections: Vec<_> = (0..1000)
        .map(|n| {
            let name = format!("bank-{n:04}");
            let draft = Draft { base_url: bank.labelled_url(&name), ..whole.clone() };
            env.apply_as(&name, draft)
        })
        .collect();
    eventually("all verified", async || {
        connections.iter().all(|connection| connection.snapshot().verification == Verification::Verified)
    })
    .await;
    assert_eq!(bank.counters().requests, 1000);
    assert_eq!(env.registry.clients().len(), 1);
}

#[tokio::test]
async fn probes_in_flight_end_with_the_driver() {
    let (_sim, bank) = plain_bank().await;
    bank.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let env = ProbeEnv::new();
    let connection = env.apply(probed_every(bank.base_url(), RARELY));
    eventually("a probe hangs", async || bank.counters().connections_open == 1).await;
    drop(env);
    eventually("its TCP connection is closed", async || bank.counters().connections_open == 0).await;
    assert_eq!(connection.snapshot().verification, Verification::Pending, "a dropped probe verifies nothing");
}
