//! What the columns, conditions and events of a job say on a real API server: recent, and enough to act.

use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::{AccountConfig, BankHandle, Behaviour, Garbage, Script};
use serde_json::json;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{FEED, feed_job, pages_script, steady_job, until_job, until_succeeded};
use crate::kit::objects::job;
use crate::kit::wait::within;

async fn env_with_bank(topic: &str) -> (BankEnv, BankHandle) {
    let env = BankEnv::new(topic).await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 20)])).await;
    (env, bank)
}

/// The message of Fresh.
fn fresh(status: &SyncJobStatus) -> &str {
    status.conditions.iter().find(|c| c.type_ == "Fresh").map_or("", |c| c.message.as_str())
}

/// How often the operator wrote the job's status.
fn status_writes(operator: &Operator) -> usize {
    let query = AuditQuery {
        verb: Some("update"),
        resource: Some("syncjobs"),
        subresource: Some("status"),
        name: Some(FEED),
        ..operator.requests()
    };
    operator.audit().requests(&query).unwrap().len()
}

#[tokio::test]
async fn the_columns_of_a_job_follow_its_runs_within_a_minute() {
    let (env, _bank) = env_with_bank("columns").await;
    env.put(&steady_job("10s")).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let first = until_succeeded(&env, "the first run succeeded").await;
    let writes = status_writes(&operator);
    // Nothing but these columns changes: every run finds what the one before has stored.
    let newer = async || {
        let status = env.get::<SyncJob>(FEED).await.status?;
        let is_newer = status.last_successful_time > first.last_successful_time
            && status.next_schedule_time > first.next_schedule_time
            && status.last_records.as_deref().is_some_and(|records| records.starts_with("0 new"));
        is_newer.then_some(status)
    };
    let second = within(Duration::from_mins(2), "the columns show a later run", newer).await;
    assert_eq!(second.conditions, first.conditions, "no transition");
    assert!(status_writes(&operator) <= writes + 2, "{writes} and {} writes", status_writes(&operator));
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_failed_run_says_in_fresh_and_in_the_event_what_was_received() {
    let (env, bank) = env_with_bank("causes").await;
    env.put(&feed_job("10s", json!({"jitterPercent": 0, "retryInterval": "1s"}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let html = Behaviour::Garbage(Garbage::Html);
    let moved = Behaviour::Status {
        code: 302,
        headers: [("location".to_owned(), "https://login.example/?account=0131883461".to_owned())].into(),
        body: None,
    };
    let error = Behaviour::Status { code: 200, headers: [].into(), body: Some(r#"{"error": "0131883461"}"#.into()) };
    let empty = Behaviour::Garbage(Garbage::Empty);
    for (behaviour, cause, remedy) in [
        (html, "BodyUnreadable (HTTP 200): received text/html", "check endpoint.baseURL"),
        (moved, "Redirected (HTTP 302): redirects to https://login.example;", "set endpoint.baseURL"),
        (error, "ErrorInBody (HTTP 200): an error object, with field error", "contact the provider"),
        (empty, "BodyUnreadable (HTTP 200): received an empty body", "check endpoint.baseURL"),
        (Behaviour::status(503), "ProviderError (HTTP 503)", "contact the provider"),
    ] {
        let good = |status: &SyncJobStatus| status.last_result.is_some_and(|result| result.as_str() == "Succeeded");
        until_job(&env, "the bank is well", good).await;
        let rules = vec![pages_script(behaviour.into())];
        bank.set_script(Script { rules }).await.unwrap();
        let told = |status: &SyncJobStatus| fresh(status).contains(&format!("last run failed: {cause}"));
        let status = until_job(&env, cause, told).await;
        assert!(fresh(&status).contains(remedy), "{}", fresh(&status));
        env.until_event("SyncJob", FEED, "SyncFailed", cause).await;
        bank.recover().await;
    }
    let shown = format!("{:?} {:?}", env.get::<SyncJob>(FEED).await.status, env.events("SyncJob", FEED).await);
    assert!(!shown.contains("0131883461"), "an account number: {shown}");
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn the_failing_partitions_of_a_job_are_counted_and_named() {
    let (env, _bank) = env_with_bank("partitions").await;
    let partition = |name: &str| json!({"name": name, "parameters": {"accountId": name}});
    let names = ["gone-1", "acc-1", "gone-2", "gone-3", "gone-4", "gone-5", "gone-6"];
    let partitions: Vec<_> = names.iter().map(|name| partition(name)).collect();
    env.put(&job(FEED, "mono", "1h", json!({"jitterPercent": 0, "partitions": partitions}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let failed = |status: &SyncJobStatus| status.last_result.is_some_and(|result| result.as_str() == "Failed");
    let status = until_job(&env, "the run failed", failed).await;
    let counted = status.partitions.as_ref().unwrap();
    assert_eq!((counted.total, counted.failing), (7, 6));
    assert_eq!(counted.failing_names, ["gone-1", "gone-2", "gone-3", "gone-4", "gone-5"]);
    let cause = "NotFound (HTTP 404); 6 of 7 partitions failed: gone-1, gone-2, gone-3, gone-4, gone-5 and 1 more";
    assert!(fresh(&status).contains(cause), "{}", fresh(&status));
    env.until_event("SyncJob", FEED, "SyncFailed", cause).await;

    env.patch_spec::<SyncJob>(FEED, json!({"partitions": [partition("acc-1"), partition("gone-1")]})).await;
    env.request::<SyncJob>(FEED).await;
    let fewer = |status: &SyncJobStatus| {
        status.partitions.as_ref().is_some_and(|p| (p.total, p.failing) == (2, 1) && p.failing_names == ["gone-1"])
    };
    until_job(&env, "one of two fails", fewer).await;
    operator.finish(&env.ns).await;
}
