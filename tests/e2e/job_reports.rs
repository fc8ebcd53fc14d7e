//! What a job reports, and what it does not: the result of a request at once, no run of an earlier object, no request of its
//! own making that the API server refuses.

use std::collections::BTreeSet;

use busbar::api::v1alpha1::SyncJob;
use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::ledger::RunId;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::AccountConfig;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::namespace::object_api;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{FEED, assert_complete, feed_job, until_job, until_succeeded};
use crate::kit::banks::unavailable;
use crate::kit::objects::merged;
use crate::kit::wait::eventually;

async fn env_with_bank(topic: &str) -> (BankEnv, busbar::testbed::sim::BankHandle) {
    let env = BankEnv::new(topic).await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 20)])).await;
    (env, bank)
}

fn result_of<'a>(status: &'a SyncJobStatus, request: &str) -> Option<&'a str> {
    let entry = status.history.iter().find(|entry| entry.requested_at.as_deref() == Some(request))?;
    Some(entry.result.as_str())
}

#[tokio::test]
async fn the_result_of_a_requested_run_is_visible_at_once_under_its_request() {
    let (env, bank) = env_with_bank("requested").await;
    env.put(&feed_job("24h", json!({"jitterPercent": 0}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_succeeded(&env, "the first run succeeded").await;
    // The same result each time, so that nothing but the request makes it news; its own entry each time.
    let mut requests = Vec::new();
    for _ in 0..3 {
        let request = env.request::<SyncJob>(FEED).await;
        let reported = |s: &SyncJobStatus| result_of(s, &request) == Some("Succeeded");
        let status = until_job(&env, "the result of the request", reported).await;
        assert_eq!(status.last_handled_reconcile_at.as_ref(), Some(&request));
        let uid = env.get::<SyncJob>(FEED).await.metadata.uid.unwrap();
        assert_eq!(status.history[0].id, RunId::of_request(&uid, &request).to_string());
        requests.push(request);
    }
    let status = env.get::<SyncJob>(FEED).await.status.unwrap();
    assert!(requests.iter().all(|request| result_of(&status, request) == Some("Succeeded")), "{:#?}", status.history);

    // A failure, and a longer request than a status may hold.
    bank.fail_with(unavailable()).await.unwrap();
    let long = "x".repeat(300);
    env.annotate("SyncJob", FEED, "busbar.dev/requestedAt", &long).await;
    let failed = |s: &SyncJobStatus| result_of(s, &long[..256]) == Some("Failed");
    until_job(&env, "the failure of the request", failed).await;
    bank.recover().await;
    operator.finish(&env.ns).await;
}

/// The columns of `kubectl get sjob` by name.
async fn columns(env: &BankEnv) -> Vec<(String, String)> {
    let table = env.ns.kubectl(&["get", "sjob", FEED]).await.ok();
    let mut lines = table.lines();
    let header = lines.next().unwrap();
    let row = lines.next().unwrap_or_default().to_owned();
    // Cells may be empty: they begin where their header does.
    let starts: Vec<usize> = header
        .char_indices()
        .filter(|(at, c)| *c != ' ' && (*at == 0 || header[..*at].ends_with("  ")))
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    let cell =
        |text: &str, from: usize, to: usize| text.get(from..to.min(text.len())).unwrap_or_default().trim().to_owned();
    starts.iter().zip(ends).map(|(from, to)| (cell(header, *from, to), cell(&row, *from, to))).collect()
}

#[tokio::test]
async fn a_failing_job_shows_it_in_the_default_columns() {
    let (env, bank) = env_with_bank("columns").await;
    bank.fail_with(unavailable()).await.unwrap();
    env.put(&feed_job("10s", json!({"jitterPercent": 0}))).await;
    // The circuit would keep the job from running.
    env.merge("BreakerPolicy", "quick", json!({"spec": {"mode": "Shadow"}})).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let shown = async |result: &str| {
        let columns = columns(&env).await;
        let found = columns.iter().any(|(name, value)| name == "LAST-RESULT" && value == result);
        if found { Ok(()) } else { Err(columns) }
    };
    eventually("the failure is in a column", async || shown("Failed").await).await;
    bank.recover().await;
    eventually("the success is in a column", async || shown("Succeeded").await).await;
    operator.finish(&env.ns).await;
}

/// UID and reason of every event about jobs and routes.
async fn events(env: &BankEnv) -> BTreeSet<(String, String)> {
    let all = env.ns.api::<Event>().list(&ListParams::default()).await.unwrap().items.into_iter();
    let about = |event: Event| Some((event.regarding?.uid?, event.reason?));
    all.filter_map(about).collect()
}

/// Waits until the operator has reconciled the job of this UID.
async fn until_reconciled(env: &BankEnv, uid: &str) {
    let reconciled = |job: &SyncJob| {
        let observed = job.status.as_ref()?.observed_generation? >= 0;
        (observed && job.metadata.uid.as_deref() == Some(uid)).then_some(())
    };
    env.until(FEED, "the operator has reconciled it", reconciled).await;
}

/// Waits until a later event of the operator is written, so that an earlier one would be.
async fn until_later_event(env: &BankEnv, request: &str) {
    env.annotate("SyncJob", FEED, "busbar.dev/requestedAt", request).await;
    until_job(env, "a later run is reported", |s| result_of(s, request).is_some()).await;
}

#[tokio::test]
async fn a_job_created_again_reports_no_run_of_its_predecessor() {
    let (env, bank) = env_with_bank("again").await;
    let object = feed_job("24h", json!({"jitterPercent": 0}));
    env.put(&object).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_succeeded(&env, "the first run succeeded").await;
    env.until_event("SyncJob", FEED, "SyncSucceeded", "succeeded").await;
    let first = env.get::<SyncJob>(FEED).await.metadata.uid.unwrap();

    env.delete("SyncJob", FEED).await;
    env.put(&object).await;
    let second = env.get::<SyncJob>(FEED).await.metadata.uid.unwrap();
    assert_ne!(first, second);
    until_reconciled(&env, &second).await;
    until_later_event(&env, "later").await;
    assert_complete(&env, &bank).await;
    let reported =
        |uid: &str, events: &BTreeSet<(String, String)>| events.contains(&(uid.to_owned(), "SyncSucceeded".to_owned()));
    let seen = events(&env).await;
    assert!(reported(&first, &seen) && !reported(&second, &seen), "{seen:?}");

    // A failure after it is one.
    bank.fail_with(unavailable()).await.unwrap();
    until_later_event(&env, "failing").await;
    env.until_event("SyncJob", FEED, "SyncFailed", "sync failed").await;
    bank.recover().await;
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_restart_or_a_lost_status_repeats_no_event() {
    let (env, _bank) = env_with_bank("lost").await;
    env.put(&feed_job("24h", json!({"jitterPercent": 0}))).await;
    let mut operator = Operator::ready(&env.ns, &[]).await;
    operator.status_recorder().allow_foreign_writes();
    until_succeeded(&env, "the first run succeeded").await;
    env.until_event("SyncJob", FEED, "SyncSucceeded", "succeeded").await;
    let count = async || {
        let all = env.ns.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let of = all.iter().filter(|event| event.reason.as_deref() == Some("SyncSucceeded"));
        of.map(|event| event.series.as_ref().map_or(1, |series| series.count)).sum::<i32>()
    };
    assert_eq!(count().await, 1);
    let uid = env.get::<SyncJob>(FEED).await.metadata.uid.unwrap();
    for (lose, request) in [(false, "restarted"), (true, "lost")] {
        operator.kill9();
        if lose {
            let none = Patch::Merge(json!({"status": null}));
            object_api(&env.ns, "SyncJob").patch_status(FEED, &PatchParams::default(), &none).await.unwrap();
        }
        operator.restart().await;
        operator.wait_leading().await;
        until_reconciled(&env, &uid).await;
        until_later_event(&env, request).await;
        assert_eq!(count().await, 1, "{request}");
    }
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_finalizer_of_the_operators_own_costs_no_conflict() {
    let (env, _bank) = env_with_bank("finalizer").await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let object = feed_job("24h", json!({"deletionPolicy": "Delete", "jitterPercent": 0}));
    for round in 0..3 {
        env.put(&object).await;
        until_succeeded(&env, &format!("round {round}")).await;
        // Switched off and on again while it exists.
        for (policy, finalizers) in [("Retain", 0), ("Delete", 1)] {
            env.patch_spec::<SyncJob>(FEED, json!({"deletionPolicy": policy})).await;
            let switched = |job: &SyncJob| {
                let count = job.metadata.finalizers.as_ref().map_or(0, Vec::len);
                let observed = job.status.as_ref()?.observed_generation == job.metadata.generation;
                (observed && count == finalizers).then_some(())
            };
            env.until(FEED, &format!("the finalizer of {policy}"), switched).await;
        }
        env.delete("SyncJob", FEED).await;
        let gone = async || env.ns.api::<SyncJob>().get_opt(FEED).await.unwrap().is_none();
        eventually("it is deleted", gone).await;
    }
    let query = AuditQuery { resource: Some("syncjobs"), namespace: Some(env.ns.name()), ..operator.requests() };
    let conflicts: Vec<_> =
        operator.audit().requests(&query).unwrap().into_iter().filter(|request| request.code == 409).collect();
    assert!(conflicts.is_empty(), "{conflicts:#?}");
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn the_successor_of_an_erased_job_reports_its_own_run() {
    let (env, bank) = env_with_bank("erased").await;
    let object = merged(feed_job("24h", json!({"jitterPercent": 0})), json!({"spec": {"deletionPolicy": "Delete"}}));
    env.put(&object).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_succeeded(&env, "the first run succeeded").await;
    env.delete("SyncJob", FEED).await;
    eventually("it is deleted", async || env.ns.api::<SyncJob>().get_opt(FEED).await.unwrap().is_none()).await;
    env.put(&object).await;
    until_succeeded(&env, "the successor read everything").await;
    assert_complete(&env, &bank).await;
    let second = env.get::<SyncJob>(FEED).await.metadata.uid.unwrap();
    eventually("its success is an event of its own", async || {
        events(&env).await.contains(&(second.clone(), "SyncSucceeded".to_owned()))
    })
    .await;
    operator.finish(&env.ns).await;
}
