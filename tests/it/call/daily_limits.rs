//! Daily limits across restarts of the process, and while the ledger fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::quota::{Limit, LimitScope, LimitUnit};
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::metrics::Metrics;
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::Settings;
use busbar::testbed::sim::{BankHandle, Sim};

use crate::kit::banks::plain_bank;
use crate::kit::connections::{draft, get, key, probe};
use crate::kit::metrics::value;

/// A bank, and the ledger of the processes that call it one after another.
struct LimitEnv {
    bank: BankHandle,
    path: PathBuf,
    _sim: Sim,
    _dir: tempfile::TempDir,
}

/// One process: its registry, and what it prints.
struct Process {
    connection: Arc<Connection>,
    ledger: Arc<dyn Ledger>,
    metrics: Metrics,
    _registry: Registry,
}

impl LimitEnv {
    async fn new() -> Self {
        let (sim, bank) = plain_bank().await;
        let dir = tempfile::tempdir().unwrap();
        Self { bank, path: dir.path().join("ledger.db"), _sim: sim, _dir: dir }
    }

    /// Starts a process with the connection of the object `uid`, which may send `requests` a day.
    async fn start_as(&self, uid: &str, limit: Limit) -> Process {
        let ledger = ledger::open(&LedgerUrl::Sqlite(self.path.clone()), OpenMode::Migrate).await.unwrap();
        let metrics = Metrics::new();
        let options = RegistryOptions { day_quotas: Some(ledger.clone()), ..RegistryOptions::allowing_loopback() };
        // No day ends during a test.
        let clock = Clock::starting_at("2026-11-22T12:00:00Z".parse().unwrap());
        let registry = Registry::new(clock, &metrics, options).unwrap();
        let mut draft = draft(self.bank.base_url());
        draft.limits = vec![limit];
        let connection = registry.apply(&key("bank"), uid, Settings::resolve(draft).unwrap(), None);
        Process { connection, ledger, metrics, _registry: registry }
    }

    async fn start(&self, requests: u32) -> Process {
        self.start_as("uid-1", daily(requests)).await
    }
}

impl Process {
    /// Sends as many reads as are let through, at most `most`.
    async fn send(&self, most: usize) -> usize {
        for sent in 0..most {
            match get(&self.connection, "/health").await {
                Ok(_) => {}
                Err(CallError::QuotaExhausted { .. }) => return sent,
                Err(error) => panic!("{error:?}"),
            }
        }
        most
    }

    fn unrecorded(&self) -> f64 {
        value(&self.metrics.render().unwrap(), "busbar_quota_unrecorded_total", &[]).unwrap()
    }
}

fn daily(requests: u32) -> Limit {
    let name = "day".to_owned();
    Limit { name, scope: LimitScope::Connection, requests, unit: LimitUnit::Day, burst: None, operations: vec![] }
}

#[tokio::test]
async fn a_restart_grants_no_request_of_the_day_again() {
    let env = LimitEnv::new().await;
    assert_eq!(env.start(5).await.send(3).await, 3);
    // Killed: nothing was closed, and nothing written at the end.
    assert_eq!(env.start(5).await.send(9).await, 2);
    let third = env.start(5).await;
    assert_eq!(third.send(9).await, 0);
    assert!(matches!(probe(&third.connection).await, Err(CallError::QuotaExhausted { .. })), "probes count too");
    assert_eq!((env.bank.counters().requests, third.unrecorded()), (5, 0.0));
}

#[tokio::test]
async fn requests_that_begin_together_are_counted_before_they_are_sent() {
    let env = LimitEnv::new().await;
    let process = env.start(400).await;
    let calls = (0..100).map(|_| get(&process.connection, "/health"));
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    // Of the rest, at most a block of one percent was taken in advance.
    let after = env.start(400).await.send(500).await;
    assert!((296..=300).contains(&after), "{after}");
}

#[tokio::test]
async fn each_partition_goes_on_counting_its_own_requests() {
    let env = LimitEnv::new().await;
    let limit = || Limit { scope: LimitScope::Partition, ..daily(4) };
    let account = |name: &str| Request { partition: Some(name.into()), ..Request::get("balances", "/health") };
    let first = env.start_as("uid-1", limit()).await;
    for _ in 0..3 {
        first.connection.call(account("acc-1")).await.unwrap();
    }
    let second = env.start_as("uid-1", limit()).await;
    second.connection.call(account("acc-1")).await.unwrap();
    assert!(second.connection.call(account("acc-1")).await.is_err());
    assert!(second.connection.call(account("acc-2")).await.is_ok());
}

#[tokio::test]
async fn another_object_of_the_same_name_starts_with_all_of_its_day() {
    let env = LimitEnv::new().await;
    assert_eq!(env.start(5).await.send(5).await, 5);
    assert_eq!(env.start_as("uid-2", daily(5)).await.send(9).await, 5);
}

#[tokio::test]
async fn probes_and_calls_go_on_while_the_ledger_fails_and_are_counted_in_memory() {
    let env = LimitEnv::new().await;
    let process = env.start(5).await;
    process.ledger.close().await;
    assert_eq!(probe(&process.connection).await, Ok(200));
    assert_eq!(process.send(9).await, 4);
    assert!((process.unrecorded() - 5.0).abs() < 0.1, "{}", process.unrecorded());
}

#[tokio::test]
async fn a_ledger_that_hangs_delays_a_call_by_a_second_and_the_next_ones_not_at_all() {
    let env = LimitEnv::new().await;
    let process = env.start(50).await;
    assert_eq!(process.send(1).await, 1);
    let lock = WriteLock::take(&env.path);
    // Each within its deadline, which is longer than the wait for the ledger and shorter than that of the ledger.
    let sent = tokio::time::timeout(Duration::from_secs(8), process.send(20)).await;
    assert_eq!(sent, Ok(20));
    assert!((process.unrecorded() - 20.0).abs() < 0.1, "{}", process.unrecorded());
    drop(lock);
}

/// Another process that writes to the ledger for long.
struct WriteLock(rusqlite::Connection);

impl WriteLock {
    fn take(path: &Path) -> Self {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}
