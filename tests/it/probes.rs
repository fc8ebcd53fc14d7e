//! The probe driver against simulated banks: when it asks, what comes of it, whom it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{EffectiveState, OnUnhealthy};
use busbar::domain::health::Health;
use busbar::domain::key::ObjectKey;
use busbar::domain::window::TimeWindow;
use busbar::metrics::Metrics;
use busbar::notify::KeyQueue;
use busbar::profile::CheckMode;
use busbar::provider::connection::Connection;
use busbar::provider::monitor::Verification;
use busbar::provider::probe::CallResult;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Draft, Settings};
use busbar::testbed::sim::{BankConfig, Behaviour, FailurePoint};
use busbar::work::probes::{ProbeDriver, ProbeHandle};
use futures::FutureExt as _;
use jiff::SignedDuration;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::call_path::{PATIENCE, bank, draft, eventually, key, registry};

/// A registry with its driver running; ends when dropped.
struct World {
    registry: Registry,
    /// What the controllers are woken by.
    changes: Arc<KeyQueue<ObjectKey>>,
    probes: ProbeHandle,
    _stop: DropGuard,
}

fn world() -> World {
    world_of(|driver| driver)
}

fn world_of(change: impl FnOnce(ProbeDriver) -> ProbeDriver) -> World {
    let (clock, metrics) = (Clock::system(), Metrics::new());
    let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).unwrap();
    let driver = change(ProbeDriver::new(registry.clone(), clock, &metrics).unwrap());
    let (probes, stop) = (driver.handle(), CancellationToken::new());
    tokio::spawn(driver.run(stop.clone()));
    World { changes: registry.subscribe_changes(), registry, probes, _stop: stop.drop_guard() }
}

impl World {
    fn apply(&self, draft: Draft) -> Arc<Connection> {
        self.registry.apply(&key("bank"), "uid-1", Settings::resolve(draft).unwrap(), None)
    }
}

fn every(base_url: String, interval: Duration) -> Draft {
    let mut draft = draft(base_url);
    draft.health_check.interval = interval;
    draft.health_check.timeout = interval.min(Duration::from_secs(1));
    draft
}

const OFTEN: Duration = Duration::from_millis(50);
const RARELY: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_bank_that_fails_opens_its_circuit_and_one_that_recovers_closes_it() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let world = world();
    let mut draft = every(bank.base_url(), OFTEN);
    draft.breaker.consecutive_failures = 2;
    draft.breaker.open.base = Duration::from_millis(300);
    let live = world.apply(draft);
    eventually("verified", async || live.snapshot().verification == Verification::Verified).await;
    assert_eq!(live.snapshot().health, Health::Healthy);

    bank.set_script(Behaviour::status(503)).await.unwrap();
    eventually("open", async || live.snapshot().effective == EffectiveState::Open).await;
    eventually("unhealthy", async || live.snapshot().health == Health::Unhealthy).await;
    assert_eq!(live.snapshot().verification, Verification::Verified, "an outage takes no verdict");
    bank.recover().await;
    eventually("closed", async || live.snapshot().effective == EffectiveState::Closed).await;
    // The checks pass again; the risk is still raised for some minutes.
    eventually("answers again", async || live.snapshot().health == Health::Degraded).await;
}

#[tokio::test]
async fn nothing_is_probed_within_a_maintenance_window_not_even_on_request_and_its_end_is_probed_at_once() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let world = world();
    let now = Clock::system().now().wall;
    let ends = now + SignedDuration::from_secs(2);
    let mut draft = every(bank.base_url(), RARELY);
    draft.maintenance = vec![TimeWindow::Once { from: now - SignedDuration::from_secs(60), to: ends }];
    let live = world.apply(draft);
    world.probes.probe_now(&key("bank"));
    eventually("verified", async || live.snapshot().verification == Verification::Verified).await;
    assert!(live.snapshot().last_probe.unwrap().at >= ends, "not before the window ended");
    assert_eq!(bank.arrivals().entries.len(), 1);
}

#[tokio::test]
async fn probes_of_an_open_circuit_close_nothing_before_the_trial_is_due() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::status(503)).await.unwrap();
    let world = world();
    let mut draft = every(bank.base_url(), OFTEN);
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_hours(1);
    let live = world.apply(draft);
    eventually("open", async || live.snapshot().effective == EffectiveState::Open).await;
    bank.recover().await;
    eventually("answers again", async || live.snapshot().health == Health::Degraded).await;
    assert_eq!(live.snapshot().effective, EffectiveState::Open);
}

#[tokio::test]
async fn the_trial_is_taken_when_it_is_due_and_not_at_the_next_beat() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::status(503)).await.unwrap();
    let world = world();
    let mut draft = every(bank.base_url(), RARELY);
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_millis(200);
    let live = world.apply(draft);
    eventually("open", async || live.snapshot().effective == EffectiveState::Open).await;
    bank.recover().await;
    eventually("closed", async || live.snapshot().effective == EffectiveState::Closed).await;
}

#[tokio::test]
async fn new_settings_and_a_request_are_probed_at_once() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let world = world();
    let first = every(bank.base_url(), RARELY);
    world.apply(first.clone());
    let asked = async |times: u64| {
        eventually("probed", async || bank.counters().requests == times).await;
    };
    asked(1).await;
    world.apply(first.clone());
    let mut changed = first;
    changed.breaker.consecutive_failures = 9;
    world.apply(changed);
    asked(2).await;
    world.probes.probe_now(&key("bank"));
    asked(3).await;
    world.probes.probe_now(&key("nobody"));
    world.probes.probe_now(&key("bank"));
    asked(4).await;
}

#[tokio::test]
async fn passive_suspended_and_removed_connections_are_not_probed() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let world = world();
    let apply = |name: &str, change: fn(&mut Draft)| {
        let mut draft = every(bank.labelled_url(name), OFTEN);
        change(&mut draft);
        world.registry.apply(&key(name), name, Settings::resolve(draft).unwrap(), None)
    };
    let passive = apply("passive", |draft| draft.health_check.mode = CheckMode::Passive);
    apply("suspended", |draft| draft.suspended = true);
    let removed = apply("removed", |_| {});
    eventually("probed", async || removed.snapshot().last_probe.is_some()).await;
    world.registry.remove(&key("removed"));
    apply("probed", |_| {});
    eventually("ten beats", async || {
        bank.arrivals().entries.iter().filter(|arrival| arrival.path.starts_with("/c/probed/")).count() >= 10
    })
    .await;
    let arrivals = bank.arrivals().entries;
    let asked = |name: &str| arrivals.iter().filter(|arrival| arrival.path.contains(name)).count();
    assert_eq!((asked("passive"), asked("suspended")), (0, 0));
    assert!(asked("removed") < 5, "it went on: {}", asked("removed"));
    assert_eq!(passive.snapshot().verification, Verification::Pending);
    assert_eq!(passive.snapshot().health, Health::Unknown);
}

#[tokio::test]
async fn a_passive_connection_that_carries_only_payouts_is_brought_back_by_a_probe() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let world = world();
    let mut draft = every(bank.base_url(), OFTEN);
    draft.health_check.mode = CheckMode::Passive;
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_millis(300);
    let live = world.apply(draft);
    bank.set_script(Behaviour::status(503)).await.unwrap();
    let mut payout = busbar::provider::call::Request::get("payout", "/health");
    payout.class = busbar::domain::breaker::CallClass::Money;
    live.call(payout).await.unwrap();
    assert_eq!(live.snapshot().effective, EffectiveState::Open);
    // A trial that fails, and one more after the next open time; then the bank is well again.
    eventually("two trials", async || bank.counters().requests >= 3).await;
    assert_ne!(live.snapshot().effective, EffectiveState::Closed);
    bank.recover().await;
    eventually("closed", async || live.snapshot().effective == EffectiveState::Closed).await;
    let probes = bank.arrivals().next;
    // Another connection's beats measure the time: whoever is closed is left alone again.
    let mut other = every(bank.labelled_url("other"), OFTEN);
    other.breaker.consecutive_failures = 9;
    world.registry.apply(&key("other"), "uid-2", Settings::resolve(other).unwrap(), None);
    let theirs = |path: &str| bank.arrivals().entries.iter().filter(|arrival| arrival.path.starts_with(path)).count();
    eventually("ten beats", async || theirs("/c/other/") >= 10).await;
    let ours = bank.arrivals().entries.len() - theirs("/c/other/");
    assert_eq!(ours as u64, probes, "no probe without an open circuit");
}

#[tokio::test]
async fn never_more_probes_than_allowed_are_in_flight_and_who_waits_gets_his_turn() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let world = world_of(|driver| driver.with_concurrency(4));
    let lives: Vec<_> = (0..12)
        .map(|n| {
            let name = format!("bank-{n:02}");
            let mut draft = every(bank.labelled_url(&name), RARELY);
            draft.health_check.timeout = Duration::from_secs(2);
            world.registry.apply(&key(&name), &name, Settings::resolve(draft).unwrap(), None)
        })
        .collect();
    // A probe that ended makes room for another, and its line may be closed a little later than the next is opened: what
    // is compared is what has arrived with what has ended.
    let mut most = 0;
    let all_arrive = async {
        loop {
            let arrived = bank.counters().requests;
            let ended = lives.iter().filter(|live| live.last_probe().is_some()).count() as u64;
            most = most.max(arrived.saturating_sub(ended));
            if arrived >= 12 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_arrive).await.expect("all are probed");
    assert_eq!(most, 4, "all places were taken, and no more");
    eventually("all had their turn", async || lives.iter().all(|live| live.last_probe().is_some())).await;
    assert_eq!(bank.counters().requests, 12);
}

#[tokio::test]
async fn one_probe_of_a_connection_runs_at_a_time() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let world = world();
    let mut draft = every(bank.base_url(), Duration::from_millis(200));
    draft.health_check.timeout = Duration::from_millis(200);
    world.apply(draft);
    for _ in 0..20 {
        world.probes.probe_now(&key("bank"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(bank.counters().requests <= 2, "{}", bank.counters().requests);
}

#[tokio::test]
async fn a_changed_status_wakes_the_controller_and_an_unchanged_one_does_not() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let world = world();
    let mut draft = every(bank.base_url(), OFTEN);
    draft.breaker.consecutive_failures = 2;
    let live = world.apply(draft);
    assert_eq!(world.changes.try_take(), Some(key("bank")), "applied");
    assert_eq!(tokio::time::timeout(PATIENCE, world.changes.take()).await.unwrap(), key("bank"));
    assert_eq!(live.snapshot().verification, Verification::Verified);
    let before = bank.counters().requests;
    eventually("ten more probes", async || bank.counters().requests >= before + 10).await;
    assert!(world.changes.take().now_or_never().is_none(), "nothing changed");

    bank.set_script(Behaviour::status(500)).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, world.changes.take()).await.unwrap(), key("bank"));
    assert_eq!(live.snapshot().effective, EffectiveState::Open, "the circuit is the first thing that changes");
}

#[tokio::test]
async fn each_probe_wakes_the_controller_once_from_the_first_to_the_closing_trial() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::status(503)).await.unwrap();
    let world = world();
    let mut draft = every(bank.base_url(), RARELY);
    draft.breaker.consecutive_failures = 1;
    draft.breaker.unhealthy = OnUnhealthy::Ignore;
    draft.breaker.open.base = Duration::from_millis(300);
    // Subscribed, and consumed at once: nothing is coalesced that was published apart.
    let wakes = Arc::new(AtomicUsize::new(0));
    let consumer = tokio::spawn({
        let (changes, wakes) = (Arc::clone(&world.changes), Arc::clone(&wakes));
        async move {
            loop {
                changes.take().await;
                wakes.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let live = world.apply(draft);
    eventually("open", async || live.snapshot().effective == EffectiveState::Open).await;
    bank.recover().await;
    eventually("closed", async || live.snapshot().effective == EffectiveState::Closed).await;
    let probes = usize::try_from(bank.counters().requests).unwrap();
    assert!(probes >= 2, "one that opens the circuit and the trial that closes it: {probes}");
    eventually("woken", async || wakes.load(Ordering::SeqCst) > probes).await;
    assert_eq!(wakes.load(Ordering::SeqCst), 1 + probes, "the settings, then one for each probe's outcome");
    consumer.abort();
}

#[tokio::test]
async fn a_probe_returns_what_was_recorded_of_it() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, _) = registry();
    let live = registry.apply(&key("bank"), "uid-1", Settings::resolve(draft(bank.base_url())).unwrap(), None);
    for (status, success) in [(200, true), (503, false)] {
        bank.set_script(Behaviour::status(status)).await.unwrap();
        let outcome = live.probe().await.unwrap();
        let record = outcome.record.unwrap();
        assert_eq!((record.success, record.result.clone()), (success, CallResult::Status(status)));
        assert_eq!(live.last_probe(), Some(record));
    }
}

#[tokio::test]
async fn a_call_that_trips_the_circuit_wakes_the_controller() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let world = world();
    let mut draft = every(bank.base_url(), RARELY);
    draft.health_check.mode = CheckMode::Passive;
    draft.breaker.consecutive_failures = 1;
    let live = world.apply(draft);
    assert_eq!(world.changes.try_take(), Some(key("bank")), "applied");
    bank.set_script(Behaviour::status(500)).await.unwrap();
    live.call(busbar::provider::call::Request::get("test", "/health")).await.unwrap();
    assert_eq!(world.changes.try_take(), Some(key("bank")));
    assert_eq!(live.snapshot().effective, EffectiveState::Open);
}

#[tokio::test]
async fn a_thousand_new_connections_are_each_probed_once_through_one_client() {
    let (_sim, bank) = bank(BankConfig { log_capacity: 4096, ..BankConfig::new("bank") }).await;
    let world = world();
    // One draft for all: each would read the profiles anew.
    let whole = every(bank.base_url(), RARELY);
    let lives: Vec<_> = (0..1000)
        .map(|n| {
            let name = format!("bank-{n:04}");
            let draft = Draft { base_url: bank.labelled_url(&name), ..whole.clone() };
            let key = ObjectKey::new("treasury", name.as_str());
            world.registry.apply(&key, &name, Settings::resolve(draft).unwrap(), None)
        })
        .collect();
    eventually("all verified", async || {
        lives.iter().all(|live| live.snapshot().verification == Verification::Verified)
    })
    .await;
    assert_eq!(bank.counters().requests, 1000);
    assert_eq!(world.registry.clients().len(), 1);
}

#[tokio::test]
async fn probes_in_flight_end_with_the_driver() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let world = world();
    let live = world.apply(every(bank.base_url(), RARELY));
    eventually("a probe hangs", async || bank.counters().connections_open == 1).await;
    drop(world);
    eventually("its line is closed", async || bank.counters().connections_open == 0).await;
    assert_eq!(live.snapshot().verification, Verification::Pending, "a dropped probe says nothing");
}
