//! Sync jobs on a real API server: what a bank has is in the ledger, once and exactly, whatever happens on the way; and
//! the status tells how it went.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::api::v1alpha1::{ProviderConnection, SyncJob};
use busbar::ledger::record::{StoredTransaction, TransactionFilter};
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::sim::{AccountConfig, BankHandle, Behaviour, Direction, Latency, Rule, ScriptStep, Transaction};
use rust_decimal::Decimal;
use serde_json::json;

use crate::support::plane::{PATIENCE, tell};
use crate::support::world::{condition, down, policy};
use crate::support::{Operator, TestNs, World, eventually};

const TRANSACTIONS: &str = "/v2/accounts/acc-1/transactions";

/// A job that fetches the account of `connection`.
pub(crate) fn job(connection: &str, interval: &str, fields: &str) -> String {
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: SyncJob, metadata: {{name: feed}}, spec: {{
          connectionRef: {{name: {connection}}}, stream: transactions, parameters: {{accountId: acc-1}},
          interval: {interval}, {fields}}}}}"
    )
}

/// Where a replica of this namespace's operator keeps its ledger.
pub(crate) fn ledger_file(ns: &TestNs, replica: &str) -> PathBuf {
    ns.plane().run_dir().path().join("operators").join(ns.name()).join(replica).join("busbar.db")
}

/// The rows in the ledger, read beside the operator that writes.
pub(crate) async fn rows(ns: &TestNs, replica: &str) -> Vec<StoredTransaction> {
    let ledger = ledger::open(&LedgerUrl::Sqlite(ledger_file(ns, replica)), OpenMode::ReadOnly)
        .await
        .expect("the ledger can be read");
    let filter = TransactionFilter { namespace: Some(ns.name().to_owned()), ..TransactionFilter::default() };
    let rows = ledger.list_transactions(&filter, u32::MAX).await.expect("rows");
    ledger.close().await;
    rows
}

/// What the bank says it has, in its own words: id → signed minor units.
pub(crate) async fn truth(world: &World, bank: &BankHandle) -> BTreeMap<String, i128> {
    let url = format!("{}{TRANSACTIONS}?paginate=false&start=01-01-1970&end=31-12-2100", bank.base_url());
    let key = world.ns.secret_text(&format!("{}-credentials", bank.name()), "api-key").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = client.get(url).header("mono-sec-key", key).send().await.unwrap().text().await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let signed = |t: &serde_json::Value| {
        let amount: i128 = t["amount"].to_string().parse().unwrap();
        (t["id"].as_str().unwrap().to_owned(), if t["type"] == "credit" { amount } else { -amount })
    };
    answer["data"].as_array().unwrap_or_else(|| panic!("{text}")).iter().map(signed).collect()
}

/// Asserts that the ledger holds what the bank has: each transaction once, each amount exact, in naira.
pub(crate) fn assert_same(rows: &[StoredTransaction], truth: &BTreeMap<String, i128>) {
    let keys: HashSet<&str> = rows.iter().map(|row| row.record.key.as_str()).collect();
    assert_eq!((rows.len(), keys.len()), (truth.len(), truth.len()), "rows, distinct keys");
    for row in rows {
        let record = &row.record;
        let minor = truth.get(&record.key).unwrap_or_else(|| panic!("{} is not the bank's", record.key));
        assert_eq!((record.amount_minor, record.currency.as_str()), (*minor, "NGN"));
        assert_eq!(record.amount, Decimal::from_i128_with_scale(*minor, 2));
    }
    let sum: Decimal = rows.iter().map(|row| row.record.amount).sum();
    assert_eq!(sum, Decimal::from_i128_with_scale(truth.values().sum(), 2));
}

pub(crate) async fn until(world: &World, what: &str, look: impl Fn(&SyncJobStatus) -> bool) -> SyncJobStatus {
    let look = |job: &SyncJob| job.status.as_ref().filter(|status| look(status)).cloned();
    world.until::<SyncJob, _>("feed", what, look).await
}

fn is(status: &SyncJobStatus, kind: &str, value: &str, reason: &str) -> bool {
    condition(&status.conditions, kind) == Some((value.to_owned(), reason.to_owned()))
}

/// Asks for a run, and waits until the operator has started it.
pub(crate) async fn run_now(world: &World) {
    let asked = world.request::<SyncJob>("feed").await;
    until(world, "the request is acknowledged", |s| s.last_handled_reconcile_at.as_ref() == Some(&asked)).await;
}

/// How many pages were asked for.
pub(crate) fn pages(bank: &BankHandle) -> usize {
    bank.arrivals().entries.iter().filter(|a| a.path == TRANSACTIONS && a.query_value("page").is_some()).count()
}

/// The value of a metric of the job, summed over what else it is told apart by.
async fn metric(operator: &Operator, name: &str, labels: &[(&str, &str)]) -> f64 {
    crate::support::metrics::find(&operator.metrics().await, name, labels).iter().map(|s| s.value).sum()
}

#[tokio::test]
async fn what_the_bank_has_is_in_the_ledger_once_and_exactly_and_the_status_tells() {
    let world = World::new("sync").await;
    let bank = world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 250)])).await;
    world.put(&job("mono", "1h", "jitterPercent: 0")).await;
    let operator = Operator::ready(&world.ns, &[]).await;

    let first = until(&world, "the first run succeeded", |s| s.last_successful_time.is_some()).await;
    assert_same(&rows(&world.ns, "a").await, &truth(&world, &bank).await);
    assert_eq!(first.last_result.unwrap().as_str(), "Succeeded");
    assert_eq!((first.fresh.unwrap().as_str(), first.cadence.as_deref()), ("True", Some("every 1h")));
    assert_eq!((first.failure_streak, first.empty_streak), (Some(0), Some(0)));
    assert!(is(&first, "Ready", "True", "Accepted") && is(&first, "Fresh", "True", "WithinStaleness"));
    assert!(first.cursor.as_deref().is_some_and(|c| !c.is_empty()));
    assert!(first.last_schedule_time.is_some() && first.next_schedule_time.is_some());
    let entry = &first.history[0];
    assert_eq!((entry.fetched, entry.inserted, entry.updated, entry.unchanged, entry.rejected), (250, 250, 0, 0, 0));
    assert_eq!((entry.trigger.as_str(), entry.result.as_str()), ("Schedule", "Succeeded"));
    world.event("SyncJob", "feed", "SyncSucceeded", "succeeded").await;

    // The same to whoever looks with our own tool.
    let file = format!("sqlite:{}", ledger_file(&world.ns, "a").display());
    let look = ["ledger", "transactions", "--ledger", &file, "--namespace", world.ns.name(), "--limit", "1000"];
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_busbar")).args(look).output().await.unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && table.ends_with("250 of 250 transactions\n"), "{table}");
    let amounts = table.lines().skip(1).filter_map(|line| line.split_once(" NGN ")).map(|(left, _)| left);
    let printed: Decimal =
        amounts.map(|left| left.split_whitespace().next_back().unwrap().parse::<Decimal>().unwrap()).sum();
    assert_eq!(printed, Decimal::from_i128_with_scale(truth(&world, &bank).await.values().sum(), 2));

    // Again: nothing is new, and nothing is written.
    run_now(&world).await;
    let runs = [("namespace", world.ns.name()), ("syncjob", "feed"), ("result", "Succeeded")];
    eventually(PATIENCE, "the second run ended", async || {
        (operator.metric("busbar_sync_runs_total", &runs).await == Some(2.0)).then_some(())
    })
    .await;
    let of =
        |op: &'static str| [("namespace", world.ns.name().to_owned()), ("syncjob", "feed".into()), ("op", op.into())];
    let records = async |op: &'static str| {
        let labels = of(op);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
        metric(&operator, "busbar_sync_records_total", &labels).await
    };
    assert_eq!((records("inserted").await, records("updated").await, records("rejected").await), (250.0, 0.0, 0.0));
    assert!(records("unchanged").await > 0.0, "the days of the overlap are read again");
    assert!(rows(&world.ns, "a").await.iter().all(|row| row.revision == 1));

    // Two new ones and a change of an old one.
    let newest = rows(&world.ns, "a").await.into_iter().max_by_key(|row| row.record.booked.at).unwrap().record;
    let new = |id: &str, amount, direction| Transaction {
        id: id.to_owned(),
        narration: "POS PURCHASE".to_owned(),
        amount,
        direction,
        balance: 0,
        date: newest.booked.at.unwrap(),
        category: None,
    };
    let changed = new(&newest.key, 123_456_789_012_345, Direction::Credit);
    assert!(bank.put_transactions(
        "acc-1",
        vec![new("new-1", 1, Direction::Debit), new("new-2", 99_999_999_999, Direction::Credit), changed]
    ));
    run_now(&world).await;
    eventually(PATIENCE, "the third run ended", async || {
        (operator.metric("busbar_sync_runs_total", &runs).await == Some(3.0)).then_some(())
    })
    .await;
    assert_eq!((records("inserted").await, records("updated").await), (252.0, 1.0));
    let after = rows(&world.ns, "a").await;
    assert_same(&after, &truth(&world, &bank).await);
    assert_eq!(after.iter().filter(|row| row.revision == 2).count(), 1);

    let job = [("namespace", world.ns.name()), ("syncjob", "feed")];
    assert!(metric(&operator, "busbar_sync_pages_total", &job).await >= 5.0);
    assert!(metric(&operator, "busbar_sync_failure_streak", &job).await < 1.0);
    assert!(metric(&operator, "busbar_sync_last_success_timestamp_seconds", &job).await > 1.7e9);
    assert!(
        metric(&operator, "busbar_sync_stage_seconds_count", &[("stage", "persist"), ("outcome", "success")]).await
            >= 5.0
    );

    // With the object its series vanish; what was fetched stays.
    world.ns.api::<SyncJob>().delete("feed", &kube::api::DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "the series vanish", async || {
        let scrape = operator.metrics().await;
        crate::support::metrics::find(&scrape, "busbar_sync_runs_total", &job).is_empty().then_some(())
    })
    .await;
    assert_eq!(rows(&world.ns, "a").await.len(), 252);
    operator.finish(&world.ns).await;
}

/// Every page takes a while, so that a kill finds a run in the middle.
pub(crate) fn slow(ms: u64) -> Rule {
    let step = ScriptStep { latency: vec![Latency { ms, percent: 100 }], ..ScriptStep::from(Behaviour::Healthy) };
    Rule { path: Some(TRANSACTIONS.to_owned()), method: None, steps: vec![step], repeat: true }
}

#[tokio::test]
async fn kills_between_pages_lose_and_double_nothing() {
    let world = World::new("kills").await;
    let bank = world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 2_000)])).await;
    bank.set_script(slow(150)).await.unwrap();
    // Only the first run is due within the test: what follows a kill must come from the kill.
    world.put(&job("mono", "24h", "")).await;
    // As in a Pod, whose name a restarted container keeps.
    let mut operator = Operator::ready(&world.ns, &["--identity=pod-0"]).await;
    for kill in 1..=4_usize {
        let seen = pages(&bank);
        eventually(PATIENCE, "some pages more", async || (pages(&bank) >= seen + 2 + kill % 2).then_some(())).await;
        operator.kill9();
        let committed = rows(&world.ns, "a").await.len();
        assert!(committed % 100 == 0 && committed < 2_000, "{committed} rows after kill {kill}: no whole pages");
        operator.restart().await;
    }
    until(&world, "a run came to its end", |s| s.last_successful_time.is_some()).await;
    assert_same(&rows(&world.ns, "a").await, &truth(&world, &bank).await);
    // A kill costs the page it interrupted, and the one before is read again to see whether the list has moved; at the
    // end the overlap with the last day is read once.
    let asked = pages(&bank);
    tell(&format!("20 pages took {asked} requests over 4 kills"));
    assert!((21..=29).contains(&asked), "{asked}");
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn no_run_is_started_while_the_circuit_is_open_and_a_request_waits_for_it() {
    let world = World::new("circuit").await;
    let bank = world.mono("mono", |c| c).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    bank.fail_with(down()).await.unwrap();
    world.put(&policy("quick", "trip: {consecutiveFailures: 1}, open: {base: 5s}")).await;
    let circuit =
        |open: &'static str| move |c: &ProviderConnection| (c.status.as_ref()?.circuit?.as_str() == open).then_some(());
    world.request::<ProviderConnection>("mono").await;
    world.until("mono", "the circuit is open", circuit("Open")).await;

    world.put(&job("mono", "10s", "")).await;
    let accepted = until(&world, "the job is accepted", |s| is(s, "Ready", "True", "Accepted")).await;
    assert!(is(&accepted, "Fresh", "Unknown", "NeverSucceeded"));
    let asked = world.request::<SyncJob>("feed").await;
    // Probes go on meanwhile: two that come after the request have given a run its time.
    let probes = || bank.arrivals().entries.iter().filter(|a| a.path == "/v2/accounts").count();
    let before = probes();
    eventually(PATIENCE, "probes of the open circuit", async || (probes() >= before + 2).then_some(())).await;
    assert_eq!(pages(&bank), 0);
    let waiting = world.ns.api::<SyncJob>().get("feed").await.unwrap().status.unwrap();
    assert_eq!((waiting.last_result, waiting.failure_streak), (None, Some(0)));
    assert_eq!(waiting.last_handled_reconcile_at, None, "the request is still to be done");

    bank.recover().await;
    let done = until(&world, "runs go on", |s| s.last_successful_time.is_some()).await;
    assert_eq!(done.last_handled_reconcile_at, Some(asked));
    assert_same(&rows(&world.ns, "a").await, &truth(&world, &bank).await);
    operator.finish(&world.ns).await;
}

/// Applies a policy that never opens, so that a test sees a job fail.
async fn never_open(world: &World) {
    world.put(&policy("quick", "trip: {consecutiveFailures: 0}")).await;
}

#[tokio::test]
async fn a_failing_job_is_told_paced_and_stale_and_recovers() {
    let world = World::new("failing").await;
    never_open(&world).await;
    let bank = world.mono("mono", |c| c).await;
    let fails =
        Rule { path: Some(TRANSACTIONS.to_owned()), method: None, steps: vec![ScriptStep::from(down())], repeat: true };
    bank.set_script(fails).await.unwrap();
    world.put(&job("mono", "1h", "retryInterval: 1s, sla: {maxStaleness: 10s}")).await;
    let operator = Operator::ready(&world.ns, &[]).await;

    let failed = until(&world, "the run failed", |s| s.last_result.is_some_and(|r| r.as_str() == "Failed")).await;
    assert!(failed.failure_streak >= Some(1) && failed.next_retry_time.is_some());
    assert_eq!(failed.history[0].reason.as_deref(), Some("ProviderError"));
    assert!(is(&failed, "Ready", "True", "Accepted"), "a failing run is no fault of the spec");
    world.event("SyncJob", "feed", "SyncFailed", "ProviderError").await;

    let stale = until(&world, "the data is stale", |s| s.fresh.is_some_and(|f| f.as_str() == "False")).await;
    assert!(condition(&stale.conditions, "Fresh").is_some_and(|(status, _)| status == "False"));
    world.event("SyncJob", "feed", "StalenessExceeded", "data is stale").await;

    // Each try comes at least twice the last pause later: 1 s, 2 s, 4 s.
    let job = [("namespace", world.ns.name()), ("syncjob", "feed")];
    eventually(PATIENCE, "four failures", async || {
        (operator.metric("busbar_sync_failure_streak", &job).await >= Some(4.0)).then_some(())
    })
    .await;
    let tries: Vec<Duration> = bank
        .arrivals()
        .entries
        .iter()
        .filter(|a| a.path == TRANSACTIONS)
        .map(|a| Duration::from_nanos(a.at_ns))
        .collect();
    let pauses: Vec<Duration> = tries.windows(2).map(|w| w[1].saturating_sub(w[0])).collect();
    for (pause, least) in pauses.iter().zip([1, 2, 4]) {
        // The run's end is noted in whole milliseconds, and the request is sent a little after its start.
        assert!(*pause + Duration::from_millis(50) >= Duration::from_secs(least), "{pauses:?}");
    }

    bank.recover().await;
    let well = until(&world, "the job recovered", |s| s.last_result.is_some_and(|r| r.as_str() == "Succeeded")).await;
    assert!(is(&well, "Fresh", "True", "WithinStaleness"));
    assert_eq!((well.failure_streak, well.next_retry_time), (Some(0), None));
    world.event("SyncJob", "feed", "SyncSucceeded", "succeeded").await;
    assert_eq!(operator.metric("busbar_sync_failure_streak", &job).await, Some(0.0));
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn a_suspended_job_stops_at_a_page_and_goes_on_from_there() {
    let world = World::new("pause").await;
    let bank = world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 1_000)])).await;
    bank.set_script(slow(200)).await.unwrap();
    world.put(&job("mono", "24h", "")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    eventually(PATIENCE, "some pages", async || (pages(&bank) >= 3).then_some(())).await;
    world.patch::<SyncJob>("feed", json!({"suspend": true})).await;
    let off = until(&world, "the run was stopped", |s| {
        is(s, "Suspended", "True", "Suspended") && s.last_result.is_some_and(|r| r.as_str() == "Canceled")
    })
    .await;
    assert!(off.active_run.is_none() && off.next_schedule_time.is_none());
    let (committed, asked) = (rows(&world.ns, "a").await.len(), pages(&bank));
    assert!(committed % 100 == 0 && committed < 1_000, "{committed} rows");
    world.request::<SyncJob>("feed").await;
    bank.recover().await;
    // The connection is probed on: what would have started a run has had its time.
    world.request::<ProviderConnection>("mono").await;
    let probes = || bank.arrivals().entries.iter().filter(|a| a.path == "/v2/accounts").count();
    let before = probes();
    eventually(PATIENCE, "a probe", async || (probes() > before).then_some(())).await;
    assert_eq!(pages(&bank), asked, "a suspended job runs nothing, asked or not");

    world.patch::<SyncJob>("feed", json!({"suspend": false})).await;
    until(&world, "the job is whole", |s| s.last_successful_time.is_some()).await;
    assert_same(&rows(&world.ns, "a").await, &truth(&world, &bank).await);
    operator.finish(&world.ns).await;
}
