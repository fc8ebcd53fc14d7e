//! The sources of jobs on a real API server: one job reads one source, and a deletion erases what the job itself read.

use busbar::api::v1alpha1::SyncJob;
use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::testbed::sim::AccountConfig;
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, has_condition};
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::stored_rows;
use crate::kit::objects::{job, merged_patches};
use crate::kit::wait::eventually;

/// A job that reads this account.
fn reading(name: &str, account: &str, patch: Value) -> Value {
    let own = json!({"jitterPercent": 0, "parameters": {"accountId": account}});
    job(name, "mono", "1h", merged_patches(own, patch))
}

async fn until(env: &BankEnv, name: &str, what: &str, look: impl Fn(&SyncJobStatus) -> bool) -> SyncJobStatus {
    env.until::<SyncJob, _>(name, what, |job| job.status.as_ref().filter(|status| look(status)).cloned()).await
}

async fn until_succeeded(env: &BankEnv, name: &str) -> SyncJobStatus {
    until(env, name, "a run succeeded", |status| status.last_successful_time.is_some()).await
}

fn is(status: &SyncJobStatus, condition_type: &str, value: &str, reason: &str) -> bool {
    has_condition(&status.conditions, condition_type, value, reason)
}

async fn delete(env: &BankEnv, name: &str) {
    env.delete("SyncJob", name).await;
    eventually(format!("SyncJob {name} is deleted"), async || env.ns.json("sjob", name).await.is_none()).await;
}

#[tokio::test]
async fn the_younger_of_two_jobs_on_one_source_waits_for_the_older() {
    let env = BankEnv::new("twins").await;
    env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 5), AccountConfig::new("acc-2", 7)])).await;
    // Of one second, the name decides.
    env.put(&reading("a-first", "acc-1", json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_succeeded(&env, "a-first").await;

    env.put(&reading("b-second", "acc-1", json!({"schedule": "0 5 * * *", "interval": null}))).await;
    let stalled = until(&env, "b-second", "it is stalled", |s| is(s, "Stalled", "True", "DuplicateSource")).await;
    assert!(is(&stalled, "Ready", "False", "DuplicateSource") && stalled.history.is_empty());
    env.until_event("SyncJob", "b-second", "DuplicateSource", "\"a-first\"").await;

    // A dry run writes nothing, and another account is another source.
    env.put(&reading("c-dry", "acc-1", json!({"dryRun": true}))).await;
    env.put(&reading("d-other", "acc-2", json!({}))).await;
    for name in ["c-dry", "d-other"] {
        until_succeeded(&env, name).await;
    }
    assert_eq!(stored_rows(&env.ns, "a").await.len(), 12);

    // The spec of the younger changes, and changes back.
    env.patch_spec::<SyncJob>("b-second", json!({"partitions": [{"name": "p"}]})).await;
    until(&env, "b-second", "another partition is another source", |s| is(s, "Ready", "True", "Accepted")).await;
    env.patch_spec::<SyncJob>("b-second", json!({"partitions": null})).await;
    until(&env, "b-second", "it is stalled again", |s| is(s, "Stalled", "True", "DuplicateSource")).await;

    // Its turn comes with the end of the older one, and it goes on with the same rows.
    let before = stored_rows(&env.ns, "a").await.len();
    delete(&env, "a-first").await;
    until(&env, "b-second", "it is ready", |s| is(s, "Ready", "True", "Accepted")).await;
    env.request::<SyncJob>("b-second").await;
    let adopted = until_succeeded(&env, "b-second").await;
    assert_eq!((adopted.history[0].inserted, adopted.history[0].unchanged), (0, 5));
    assert_eq!(stored_rows(&env.ns, "a").await.len(), before);
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_deletion_erases_the_jobs_own_source_and_says_what_stays() {
    let env = BankEnv::new("own").await;
    let accounts = ["acc-1", "acc-2", "acc-3"].into_iter().zip([5, 7, 11]);
    env.mono("mono", |c| c.accounts(accounts.map(|(id, count)| AccountConfig::new(id, count)))).await;
    let deleting = json!({"deletionPolicy": "Delete"});
    env.put(&reading("gone", "acc-1", deleting.clone())).await;
    env.put(&reading("kept", "acc-2", json!({}))).await;
    env.put(&reading("mover", "acc-3", json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    for name in ["gone", "kept", "mover"] {
        until_succeeded(&env, name).await;
    }
    let rows = async || stored_rows(&env.ns, "a").await.len();
    assert_eq!(rows().await, 23);

    // Another job of the same connection and stream is no reason to keep anything.
    delete(&env, "gone").await;
    assert_eq!(rows().await, 18, "only its own");
    env.until_event("SyncJob", "gone", "DataDeleted", "5 rows").await;
    assert!(env.events("SyncJob", "gone").await.iter().all(|(_, note)| !note.contains("kept")));

    // A source that another job has read too stays, and the event names it.
    env.patch_spec::<SyncJob>("mover", json!({"parameters": {"accountId": "acc-1"}})).await;
    env.request::<SyncJob>("mover").await;
    until(&env, "mover", "it reads another account", |s| s.history.first().is_some_and(|run| run.inserted == 5)).await;
    env.put(&reading("sharing", "acc-3", deleting)).await;
    let shared = until_succeeded(&env, "sharing").await;
    assert_eq!((shared.history[0].inserted, shared.history[0].unchanged), (0, 11));
    delete(&env, "sharing").await;
    env.until_event("SyncJob", "sharing", "DataDeleted", "which SyncJob \"mover\" reads too").await;
    assert_eq!(rows().await, 23);
    operator.finish(&env.ns).await;
}
