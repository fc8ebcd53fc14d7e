//! `busbar sync`: one run of a job in a process of its own, from manifests; its exit codes, its plan, its lease.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::key::ObjectKey;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode, RunResult, RunTrigger};
use busbar::testbed::sim::{AccountConfig, BankConfig, BankHandle, Sim};
use serde_json::{Value, json};

use crate::kit::banks::{arrivals_at, start_bank, unavailable};
use crate::kit::binary::{Finished, busbar, run_async};
use crate::kit::objects::{job, merged, profile_auth, profile_connection};

const KEY: &str = "canary-mono-key-not-real";

/// A bank with accounts, a ledger file and a folder of manifests.
struct SyncEnv {
    _sim: Sim,
    bank: BankHandle,
    folder: tempfile::TempDir,
}

impl SyncEnv {
    /// Accounts `acc-1`, `acc-2` … with so many transactions each; `spec` is merged into the job's.
    async fn new(transactions: &[u64], spec: Value) -> Self {
        let accounts: Vec<_> = transactions
            .iter()
            .enumerate()
            .map(|(n, &count)| AccountConfig::new(format!("acc-{}", n + 1), count))
            .collect();
        let (sim, bank) = start_bank(BankConfig::mono("bank", KEY).accounts(accounts)).await;
        let env = Self { _sim: sim, bank, folder: tempfile::tempdir().unwrap() };
        let connection =
            profile_connection("bank", "mono", &format!("{}/v2", env.bank.base_url()), profile_auth("bank-key"));
        env.write("connection", &connection);
        env.write("job", &job("books", "bank", "1h", spec));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bank-key"}, "stringData": {"api-key": KEY}});
        env.write("secret", &secret);
        env
    }

    fn write(&self, name: &str, object: &Value) {
        let object = merged(object.clone(), json!({"metadata": {"namespace": "team"}}));
        std::fs::write(self.folder.path().join(format!("{name}.yaml")), object.to_string()).unwrap();
    }

    fn ledger_path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    fn command(&self, words: &[&str], more: &[&str]) -> Command {
        let ledger = format!("sqlite:{}", self.ledger_path().display());
        let folder = self.folder.path().to_str().unwrap();
        let shared = ["-f", folder, "--ledger", &ledger, "--allow-provider-addresses", "127.0.0.0/8"];
        busbar(&[words, &shared, more].concat())
    }

    async fn sync(&self, more: &[&str]) -> Finished {
        let finished = run_async(self.command(&["sync", "team/books"], more)).await;
        assert!(!finished.stdout.contains(KEY) && !finished.stderr.contains(KEY), "no credential is printed");
        finished
    }

    async fn plan(&self, more: &[&str]) -> Finished {
        run_async(self.command(&["sync", "plan", "team/books"], more)).await
    }

    async fn ledger(&self) -> std::sync::Arc<dyn Ledger> {
        ledger::open(&LedgerUrl::Sqlite(self.ledger_path()), OpenMode::Migrate).await.unwrap()
    }

    async fn rows(&self) -> u64 {
        let ledger = self.ledger().await;
        let rows = ledger.count_transactions(&TransactionFilter::default()).await.unwrap();
        ledger.close().await;
        rows
    }
}

fn key() -> ObjectKey {
    ObjectKey::new("team", "books")
}

#[tokio::test]
async fn a_run_writes_rows_and_a_second_one_changes_none() {
    let env = SyncEnv::new(&[30], json!({})).await;
    let first = env.sync(&[]).await.ok();
    assert!(first.contains("sync team/books: Succeeded") && first.contains("30 fetched, 30 new"), "{first}");
    let second = env.sync(&[]).await.ok();
    assert!(second.contains(" 0 new, 0 changed, "), "{second}");
    assert_eq!(env.rows().await, 30);
    let ledger = env.ledger().await;
    let history = ledger.job_history(&key(), 5, Clock::system().now().wall).await.unwrap();
    assert_eq!(history.last.len(), 2);
    assert!(
        history.last.iter().all(|run| run.trigger == RunTrigger::Manual && run.result == Some(RunResult::Succeeded))
    );
    ledger.close().await;
}

#[tokio::test]
async fn the_exit_code_says_how_the_run_ended() {
    let env = SyncEnv::new(&[5], json!({})).await;
    env.bank.fail_with(unavailable()).await.unwrap();
    let failed = env.sync(&[]).await;
    assert_eq!(failed.status.code(), Some(3), "{}", failed.stderr);
    assert!(failed.stderr.contains("sync failed: ProviderError"), "{}", failed.stderr);
    env.bank.recover().await;
    // Another process holds the lease, and renews it.
    let ledger = env.ledger().await;
    let (clock, ttl) = (Clock::system(), Duration::from_secs(15));
    let name = "sync/team/books";
    let lease = ledger.acquire_lease(name, "another", ttl, clock.now().wall, None).await.unwrap().acquired().unwrap();
    let renewing = async {
        loop {
            assert!(ledger.renew_lease(&lease, ttl, clock.now().wall).await.unwrap());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let held = tokio::select! {
        finished = env.sync(&[]) => finished,
        () = renewing => unreachable!(),
    };
    assert_eq!(held.status.code(), Some(5), "{}", held.stderr);
    assert!(held.stderr.contains("LeaseHeld"), "{}", held.stderr);
    ledger.release_lease(&lease).await.unwrap();
    ledger.close().await;
    assert_eq!(env.sync(&[]).await.status.code(), Some(0));
}

#[tokio::test]
async fn what_prevents_a_run_is_named_and_sends_no_request() {
    let env = SyncEnv::new(&[5], json!({})).await;
    for (spec, said) in [
        (json!({"suspend": true}), "is suspended (spec.suspend)"),
        (json!({"stream": "horoscopes"}), "stream \"horoscopes\" (spec.stream) not found"),
        (json!({"connectionRef": {"name": "other"}}), "ProviderConnection team/other not found"),
        (json!({"partitionsFrom": {"syncJobRef": {"name": "books"}, "field": "id"}}), "is part of a cycle"),
    ] {
        env.write("job", &merged(job("books", "bank", "1h", json!({})), json!({"spec": spec})));
        let finished = env.sync(&[]).await;
        assert_eq!(finished.status.code(), Some(1), "{said} {}", finished.stderr);
        assert!(finished.stderr.contains(said), "{said}: {}", finished.stderr);
    }
    std::fs::remove_file(env.folder.path().join("secret.yaml")).unwrap();
    env.write("job", &job("books", "bank", "1h", json!({})));
    let finished = env.sync(&[]).await;
    assert!(finished.stderr.contains("Secret \"bank-key\""), "{}", finished.stderr);
    assert_eq!(run_async(busbar(&["sync", "books"])).await.status.code(), Some(2), "no namespace");
    assert_eq!(arrivals_at(&env.bank, "/"), 0);
}

#[tokio::test]
async fn a_plan_says_what_a_run_would_write_and_writes_nothing() {
    let env = SyncEnv::new(&[30], json!({})).await;
    let fresh = env.plan(&[]).await.ok();
    assert!(
        fresh.contains("transactions: 30 new, 0 changed, 0 same") && fresh.contains("nothing was written"),
        "{fresh}"
    );
    assert!(!env.ledger_path().exists(), "not even a file");
    env.sync(&[]).await.ok();
    let before = std::fs::read(env.ledger_path()).unwrap();
    let again = env.plan(&["--samples", "2"]).await.ok();
    assert!(again.contains("0 new, 0 changed, "), "{again}");
    assert_eq!(again.lines().filter(|line| line.starts_with("transactions ")).count(), 2, "{again}");
    assert!(!again.contains(KEY) && !again.contains("0123456789"), "{again}");
    assert_eq!(env.rows().await, 30);
    assert_eq!(std::fs::read(env.ledger_path()).unwrap().len(), before.len());
    let ledger = env.ledger().await;
    assert_eq!(ledger.job_history(&key(), 5, Clock::system().now().wall).await.unwrap().last.len(), 1, "the run alone");
    ledger.close().await;
}

#[tokio::test]
async fn a_resync_runs_once_for_its_id_and_moves_no_cursor() {
    let env = SyncEnv::new(&[30], json!({})).await;
    env.sync(&[]).await.ok();
    let (ledger, now) = (env.ledger().await, Clock::system().now().wall);
    let before = ledger.job_history(&key(), 5, now).await.unwrap();
    let range = ["--resync", "may", "--resync-from", "2020-01-01T00:00:00Z", "--resync-to", "2020-02-01T00:00:00Z"];
    env.sync(&[&["--trigger", "Resync"], range.as_slice()].concat()).await.ok();
    let after = ledger.job_history(&key(), 5, now).await.unwrap();
    assert_eq!(after.last[0].trigger, RunTrigger::Resync);
    assert_eq!(after.last_resync.as_deref(), Some("may"));
    assert!(
        ledger.is_resync_done(&key(), "may").await.unwrap() && !ledger.is_resync_done(&key(), "june").await.unwrap()
    );
    let marks = |history: &busbar::ledger::JobHistory| -> Vec<_> {
        history.cursors.iter().map(|(stream, state)| (stream.partition.clone(), state.committed_hwm.clone())).collect()
    };
    assert_eq!(marks(&after), marks(&before));
    assert_eq!((after.last_success, after.empty_streak), (before.last_success, before.empty_streak), "not a success");
    ledger.close().await;
}

#[tokio::test]
async fn streaks_are_counted_for_each_partition_and_by_the_next_process_too() {
    let partition = |name: &str, account: &str| json!({"name": name, "parameters": {"accountId": account}});
    let partitions =
        json!([partition("good", "acc-1"), partition("bad", "no-such-account"), partition("quiet", "acc-2")]);
    let env = SyncEnv::new(&[3, 0], json!({"parameters": null, "partitions": partitions})).await;
    for _ in 0..2 {
        assert_eq!(env.sync(&[]).await.status.code(), Some(3));
    }
    let ledger = env.ledger().await;
    let history = ledger.job_history(&key(), 0, Clock::system().now().wall).await.unwrap();
    let streaks: Vec<_> =
        history.partitions.iter().map(|one| (one.name.as_str(), one.failure_streak, one.empty_streak)).collect();
    assert_eq!(streaks, [("bad", 2, 0), ("quiet", 0, 2)]);
    ledger.close().await;
    let healed = json!([partition("good", "acc-1"), partition("bad", "acc-1"), partition("quiet", "acc-2")]);
    env.write("job", &job("books", "bank", "1h", json!({"parameters": null, "partitions": healed})));
    env.sync(&[]).await.ok();
    let ledger = env.ledger().await;
    let history = ledger.job_history(&key(), 0, Clock::system().now().wall).await.unwrap();
    assert!(history.partitions.iter().all(|one| one.failure_streak == 0), "{:?}", history.partitions);
    ledger.close().await;
}
