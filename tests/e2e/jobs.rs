//! Sync jobs on a real API server: what a bank has is in the ledger, once and exactly, whatever happens meanwhile; and the
//! status says how it went.

use std::time::Duration;

use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::api::v1alpha1::{ProviderConnection, SyncJob};
use busbar::testbed::sim::{AccountConfig, Behaviour, Direction, ScriptStep, Transaction};
use rust_decimal::Decimal;
use serde_json::json;

use crate::cluster::bank_env::{BankEnv, QUICK, condition_of, has_condition, quick_policy};
use crate::cluster::control_planes::report;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{
    FEED, assert_complete, assert_same, bank_transactions, feed_job, mono_probes, page_requests, pages_script, run_now,
    slow_pages, steady_job, stored_rows, until_job, until_succeeded,
};
use crate::kit::banks::unavailable;
use crate::kit::binary::{busbar, run_async};
use crate::kit::metrics;
use crate::kit::objects::policy;
use crate::kit::wait::eventually;

fn is(status: &SyncJobStatus, condition_type: &str, value: &str, reason: &str) -> bool {
    has_condition(&status.conditions, condition_type, value, reason)
}

/// The sum of all series of a metric with these labels.
async fn metric_sum(operator: &Operator, name: &str, labels: &[(&str, &str)]) -> f64 {
    metrics::find(&operator.metrics().await, name, labels).iter().map(|s| s.value).sum()
}

#[tokio::test]
async fn the_ledger_holds_each_transaction_of_the_bank_once() {
    let env = BankEnv::new("sync").await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 250)])).await;
    env.put(&steady_job("1h")).await;
    let operator = Operator::ready(&env.ns, &[]).await;

    let first = until_succeeded(&env, "the first run succeeded").await;
    assert_complete(&env, &bank).await;
    assert_eq!(first.last_result.unwrap().as_str(), "Succeeded");
    assert_eq!((first.fresh.unwrap().as_str(), first.cadence.as_deref()), ("True", Some("every 1h")));
    assert_eq!((first.failure_streak, first.empty_streak), (Some(0), Some(0)));
    assert!(is(&first, "Ready", "True", "Accepted") && is(&first, "Fresh", "True", "WithinStaleness"));
    assert!(first.cursor.as_deref().is_some_and(|c| !c.is_empty()));
    assert!(first.last_schedule_time.is_some() && first.next_schedule_time.is_some());
    let entry = &first.history[0];
    assert_eq!((entry.fetched, entry.inserted, entry.updated, entry.unchanged, entry.rejected), (250, 250, 0, 0, 0));
    assert_eq!((entry.trigger.as_str(), entry.result.as_str()), ("Schedule", "Succeeded"));
    env.until_event("SyncJob", "feed", "SyncSucceeded", "succeeded").await;

    // The command prints the same.
    let flag = env.ns.ledger_flag("a");
    let list = ["ledger", "transactions", &flag, "--namespace", env.ns.name(), "--limit", "1000"];
    let table = run_async(busbar(&list)).await.ok();
    assert!(table.ends_with("250 of 250 transactions\n"), "{table}");
    let amounts = table.lines().skip(1).filter_map(|line| line.split_once(" NGN ")).map(|(left, _)| left);
    let printed: Decimal =
        amounts.map(|left| left.split_whitespace().next_back().unwrap().parse::<Decimal>().unwrap()).sum();
    assert_eq!(printed, Decimal::from_i128_with_scale(bank_transactions(&env, &bank).await.values().sum(), 2));

    // Again: nothing is new, so nothing is written.
    run_now(&env).await;
    let runs = [("namespace", env.ns.name()), ("syncjob", "feed"), ("result", "Succeeded")];
    eventually("the second run ended", async || operator.metric("busbar_sync_runs_total", &runs).await == Some(2.0))
        .await;
    let of =
        |op: &'static str| [("namespace", env.ns.name().to_owned()), ("syncjob", "feed".into()), ("op", op.into())];
    let records = async |op: &'static str| {
        let labels = of(op);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
        metric_sum(&operator, "busbar_sync_records_total", &labels).await
    };
    assert_eq!((records("inserted").await, records("updated").await, records("rejected").await), (250.0, 0.0, 0.0));
    assert!(records("unchanged").await > 0.0, "the days of the lookback are read again");
    assert!(stored_rows(&env.ns, "a").await.iter().all(|row| row.revision == 1));

    // Two new ones and a change of an old one.
    let newest = stored_rows(&env.ns, "a").await.into_iter().max_by_key(|row| row.record.booked.at).unwrap().record;
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
    run_now(&env).await;
    eventually("the third run ended", async || operator.metric("busbar_sync_runs_total", &runs).await == Some(3.0))
        .await;
    assert_eq!((records("inserted").await, records("updated").await), (252.0, 1.0));
    let after = stored_rows(&env.ns, "a").await;
    assert_same(&after, &bank_transactions(&env, &bank).await);
    assert_eq!(after.iter().filter(|row| row.revision == 2).count(), 1);

    let job = [("namespace", env.ns.name()), ("syncjob", "feed")];
    assert!(metric_sum(&operator, "busbar_sync_pages_total", &job).await >= 5.0);
    assert!(metric_sum(&operator, "busbar_sync_failure_streak", &job).await < 1.0);
    assert!(metric_sum(&operator, "busbar_sync_last_success_timestamp_seconds", &job).await > 1.7e9);
    assert!(
        metric_sum(&operator, "busbar_sync_stage_seconds_count", &[("stage", "persist"), ("outcome", "success")]).await
            >= 5.0
    );

    // With the object its series are removed; what was fetched stays.
    env.delete("SyncJob", FEED).await;
    eventually("the series are removed", async || {
        let scrape = operator.metrics().await;
        metrics::find(&scrape, "busbar_sync_runs_total", &job).is_empty()
    })
    .await;
    assert_eq!(stored_rows(&env.ns, "a").await.len(), 252);
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn kills_between_pages_lose_and_duplicate_nothing() {
    let env = BankEnv::new("kills").await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 2_000)])).await;
    bank.set_script(slow_pages(150)).await.unwrap();
    // Only the first run is due within the test: what follows a kill is caused by the kill.
    env.put(&feed_job("24h", json!({}))).await;
    // As in a Pod, whose name a restarted container keeps.
    let mut operator = Operator::ready(&env.ns, &["--identity=pod-0"]).await;
    for kill in 1..=4_usize {
        let seen = page_requests(&bank);
        eventually("some pages more", async || page_requests(&bank) >= seen + 2 + kill % 2).await;
        operator.kill9();
        let committed = stored_rows(&env.ns, "a").await.len();
        assert!(committed % 100 == 0 && committed < 2_000, "{committed} rows after kill {kill}: not whole pages");
        operator.restart().await;
    }
    until_succeeded(&env, "a run ended").await;
    assert_complete(&env, &bank).await;
    // A kill costs the page it interrupted, and the one before is read again to see whether the list has moved; at the
    // end the lookback of one day is read once.
    let requests = page_requests(&bank);
    report(&format!("20 pages took {requests} requests over 4 kills"));
    assert!((21..=29).contains(&requests), "{requests}");
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn no_run_starts_while_the_circuit_is_open() {
    let env = BankEnv::new("circuit").await;
    let bank = env.mono("mono", |c| c).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    bank.fail_with(unavailable()).await.unwrap();
    env.put(&quick_policy("5s")).await;
    let open = |c: &ProviderConnection| (c.status.as_ref()?.circuit?.as_str() == "Open").then_some(());
    env.request::<ProviderConnection>("mono").await;
    env.until("mono", "the circuit is open", open).await;

    env.put(&feed_job("10s", json!({}))).await;
    let accepted = until_job(&env, "the job is accepted", |s| is(s, "Ready", "True", "Accepted")).await;
    assert!(is(&accepted, "Fresh", "Unknown", "NeverSucceeded"));
    let requested = env.request::<SyncJob>(FEED).await;
    // Probes continue meanwhile: within two of them after the request a run would have started.
    let before = mono_probes(&bank);
    eventually("probes of the open circuit", async || mono_probes(&bank) >= before + 2).await;
    assert_eq!(page_requests(&bank), 0);
    let waiting = env.get::<SyncJob>(FEED).await.status.unwrap();
    assert_eq!((waiting.last_result, waiting.failure_streak), (None, Some(0)));
    assert_eq!(waiting.last_handled_reconcile_at, None, "the request is pending");

    bank.recover().await;
    let done = until_succeeded(&env, "a run has succeeded").await;
    assert_eq!(done.last_handled_reconcile_at, Some(requested));
    assert_complete(&env, &bank).await;
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_failing_job_is_retried_with_backoff_until_it_recovers() {
    let env = BankEnv::new("failing").await;
    // It never opens, so that the test sees the job fail.
    env.put(&policy(QUICK, json!({"preset": "Api", "trip": {"consecutiveFailures": 0}}))).await;
    let bank = env.mono("mono", |c| c).await;
    bank.set_script(pages_script(ScriptStep::from(unavailable()))).await.unwrap();
    env.put(&feed_job("1h", json!({"retryInterval": "1s", "sla": {"maxStaleness": "10s"}}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;

    let failed = until_job(&env, "the run failed", |s| s.last_result.is_some_and(|r| r.as_str() == "Failed")).await;
    assert!(failed.failure_streak >= Some(1) && failed.next_retry_time.is_some());
    assert_eq!(failed.history[0].reason.as_deref(), Some("ProviderError"));
    assert!(is(&failed, "Ready", "True", "Accepted"), "a failed run does not make the spec invalid");
    env.until_event("SyncJob", "feed", "SyncFailed", "ProviderError").await;

    let stale = until_job(&env, "the data is stale", |s| s.fresh.is_some_and(|f| f.as_str() == "False")).await;
    assert!(condition_of(&stale.conditions, "Fresh").is_some_and(|(status, _)| status == "False"));
    env.until_event("SyncJob", "feed", "StalenessExceeded", "data is stale").await;

    // The backoff doubles: at least 1 s, 2 s, 4 s.
    let job = [("namespace", env.ns.name()), ("syncjob", "feed")];
    eventually("four failures", async || operator.metric("busbar_sync_failure_streak", &job).await >= Some(4.0)).await;
    let tries: Vec<Duration> = bank
        .arrivals()
        .entries
        .iter()
        .filter(|a| a.path.ends_with("/transactions"))
        .map(|a| Duration::from_nanos(a.at_ns))
        .collect();
    let pauses: Vec<Duration> = tries.windows(2).map(|w| w[1].saturating_sub(w[0])).collect();
    for (pause, least) in pauses.iter().zip([1, 2, 4]) {
        // The run's end is noted in whole milliseconds, and the request is sent a little after its start.
        assert!(*pause + Duration::from_millis(50) >= Duration::from_secs(least), "{pauses:?}");
    }

    bank.recover().await;
    let recovered =
        until_job(&env, "the job recovered", |s| s.last_result.is_some_and(|r| r.as_str() == "Succeeded")).await;
    assert!(is(&recovered, "Fresh", "True", "WithinStaleness"));
    assert_eq!((recovered.failure_streak, recovered.next_retry_time), (Some(0), None));
    env.until_event("SyncJob", "feed", "SyncSucceeded", "succeeded").await;
    assert_eq!(operator.metric("busbar_sync_failure_streak", &job).await, Some(0.0));
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_rare_job_is_not_retried_each_second_because_the_bank_says_so() {
    let env = BankEnv::new("retry-after").await;
    let bank = env.mono("mono", |c| c).await;
    bank.set_script(pages_script(ScriptStep::from(Behaviour::rate_limited("1")))).await.unwrap();
    env.put(&feed_job("6h", json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let is_failed = |s: &SyncJobStatus| s.last_result.is_some_and(|r| r.as_str() == "Failed");
    let failed = until_job(&env, "the run failed", |s| is_failed(s) && s.next_retry_time.is_some()).await;
    let retry = failed.next_retry_time.unwrap().0;
    let wait = retry.duration_since(failed.history[0].start_time.0).as_secs();
    assert!((15 * 60..16 * 60).contains(&wait), "{wait}");

    // A requested run does not wait, and is one run.
    let before = page_requests(&bank);
    bank.recover().await;
    run_now(&env).await;
    until_succeeded(&env, "the requested run succeeded").await;
    assert!(page_requests(&bank) > before);
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_suspended_job_stops_at_a_page_and_resumes_there() {
    let env = BankEnv::new("pause").await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 1_000)])).await;
    bank.set_script(slow_pages(200)).await.unwrap();
    env.put(&feed_job("24h", json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    eventually("some pages", async || page_requests(&bank) >= 3).await;
    env.patch_spec::<SyncJob>("feed", json!({"suspend": true})).await;
    let suspended = until_job(&env, "the run was stopped", |s| {
        is(s, "Suspended", "True", "Suspended") && s.last_result.is_some_and(|r| r.as_str() == "Canceled")
    })
    .await;
    assert!(suspended.active_run.is_none() && suspended.next_schedule_time.is_none());
    let (committed, requests) = (stored_rows(&env.ns, "a").await.len(), page_requests(&bank));
    assert!(committed % 100 == 0 && committed < 1_000, "{committed} rows");
    env.request::<SyncJob>("feed").await;
    bank.recover().await;
    // The connection is still probed: within a probe a run would have started.
    env.request::<ProviderConnection>("mono").await;
    let before = mono_probes(&bank);
    eventually("a probe", async || mono_probes(&bank) > before).await;
    assert_eq!(page_requests(&bank), requests, "a suspended job does not run, not even on request");

    env.patch_spec::<SyncJob>("feed", json!({"suspend": false})).await;
    until_succeeded(&env, "the job has succeeded").await;
    assert_complete(&env, &bank).await;
    operator.finish(&env.ns).await;
}
