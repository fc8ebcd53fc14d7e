//! Deletion: rows and cursor are deleted only with `deletionPolicy: Delete`, and without an operator nothing waits forever
//! but the jobs that have it, for which docs/deletion.md has one command.

use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::clock::Clock;
use busbar::testbed::control_plane::Options;
use busbar::testbed::sim::AccountConfig;
use serde_json::json;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::{own_plane, report, repository};
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{
    FEED, feed_job, page_requests, slow_pages, steady_job, stored_rows, until_job, until_succeeded,
};
use crate::kit::wait::{PATIENCE, eventually, within};

/// The API server waits a minute for the instances of a CRD to be deleted, looking at a list that may be outdated since the
/// CRD was marked for deletion, and then begins again.
const CRD_DELETION_DEADLINE: Duration = Duration::from_mins(5);

const FINALIZER: &str = "busbar.dev/ledger";

async fn finalizers(ns: &TestNs) -> Vec<String> {
    ns.api::<SyncJob>().get(FEED).await.unwrap().metadata.finalizers.unwrap_or_default()
}

async fn until_deleted(ns: &TestNs, kind: &str, name: &str) {
    deleted_within(PATIENCE, ns, kind, name).await;
}

async fn deleted_within(deadline: Duration, ns: &TestNs, kind: &str, name: &str) {
    within(deadline, format!("{kind}/{name} is deleted"), async || ns.json(kind, name).await.is_none()).await;
}

async fn delete(ns: &TestNs, arguments: &[&str]) {
    let args: Vec<&str> = ["delete", "--wait=false"].iter().chain(arguments).copied().collect();
    ns.kubectl(&args).await.ok();
}

#[tokio::test]
async fn a_job_with_delete_deletes_its_rows_even_during_a_run() {
    let env = BankEnv::new("erase").await;
    let bank = env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 1_000)])).await;
    bank.set_script(slow_pages(200)).await.unwrap();
    env.put(&feed_job("24h", json!({"deletionPolicy": "Delete"}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    eventually("some pages", async || page_requests(&bank) >= 3).await;
    assert_eq!(finalizers(&env.ns).await, [FINALIZER]);
    assert!(!stored_rows(&env.ns, "a").await.is_empty());
    delete(&env.ns, &["sjob", "feed"]).await;
    until_deleted(&env.ns, "sjob", "feed").await;
    assert!(page_requests(&bank) < 10, "the run was stopped at a page");
    assert_eq!(stored_rows(&env.ns, "a").await.len(), 0);

    // A successor begins at the beginning.
    bank.recover().await;
    env.put(&feed_job("24h", json!({"deletionPolicy": "Delete"}))).await;
    let second = until_succeeded(&env, "it runs").await;
    assert_eq!((second.history.len(), second.history[0].inserted), (1, 1_000));
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_job_changed_to_retain_keeps_its_rows_for_its_successor() {
    let env = BankEnv::new("retain").await;
    env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 50)])).await;
    env.put(&feed_job("1h", json!({"jitterPercent": 0, "deletionPolicy": "Delete"}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_succeeded(&env, "the first run succeeded").await;
    // The finalizer of another controller is not removed.
    env.merge("SyncJob", FEED, json!({"metadata": {"finalizers": [FINALIZER, "example.org/theirs"]}})).await;
    env.patch_spec::<SyncJob>("feed", json!({"deletionPolicy": "Retain"})).await;
    eventually("our finalizer is removed", async || finalizers(&env.ns).await == ["example.org/theirs"]).await;
    delete(&env.ns, &["sjob", "feed"]).await;
    env.merge("SyncJob", FEED, json!({"metadata": {"finalizers": null}})).await;
    until_deleted(&env.ns, "sjob", "feed").await;
    assert_eq!(stored_rows(&env.ns, "a").await.len(), 50);
    env.put(&steady_job("1h")).await;
    let adopted = until_job(&env, "its past runs are found", |s| !s.history.is_empty()).await;
    assert!(adopted.last_successful_time.is_some());
    assert!(finalizers(&env.ns).await.is_empty());
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn the_admission_policy_lets_the_operator_change_only_finalizers() {
    let plane = own_plane(Options::default()).await;
    plane.apply_path(&repository("config/admission/operator.yaml")).await.unwrap();
    let env = BankEnv::on(&plane, "narrow").await;
    env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 5)])).await;
    env.put(&steady_job("1h")).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let user = format!("--as={}", operator.user());
    let patch = async |patch: &str| {
        env.ns.kubectl(&["patch", "sjob", "feed", "--type=merge", "-p", patch, &user, "--dry-run=server"]).await
    };
    let rejected = eventually("the policy is in force", async || {
        let output = patch(r#"{"spec":{"suspend":true}}"#).await;
        (!output.success).then_some(output.stderr)
    })
    .await;
    assert!(rejected.contains("must change nothing but finalizers"), "{rejected}");
    for other in [r#"{"metadata":{"labels":{"a":"b"}}}"#, r#"{"metadata":{"annotations":{"a":"b"}}}"#] {
        assert!(!patch(other).await.success, "{other}");
    }
    // And its own work continues.
    env.patch_spec::<SyncJob>("feed", json!({"deletionPolicy": "Delete"})).await;
    eventually("the finalizer", async || finalizers(&env.ns).await == [FINALIZER]).await;
    delete(&env.ns, &["sjob", "feed"]).await;
    until_deleted(&env.ns, "sjob", "feed").await;
    let mut operator = operator;
    // The rejected requests above had its user.
    operator.expect_forbidden();
    operator.finish(&env.ns).await;
}

/// The command in docs/deletion.md.
fn documented_command() -> String {
    let text = std::fs::read_to_string(repository("docs/deletion.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("kubectl get syncjobs ")).expect("the command");
    line.to_owned()
}

async fn run_documented(ns: &TestNs) {
    let kubectl =
        format!("{} --kubeconfig {}", ns.plane().kubectl_path().display(), ns.plane().admin_kubeconfig().display());
    let script = documented_command().replace("kubectl ", &format!("{kubectl} "));
    let output = tokio::process::Command::new("sh").args(["-c", &script]).output().await.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn without_an_operator_one_command_releases_jobs_with_delete() {
    let plane = own_plane(Options::default()).await;
    assert!(plane.has_controller_manager(), "it deletes namespaces");
    let env = BankEnv::on(&plane, "orphan").await;
    env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 5)])).await;
    env.put(&feed_job("1h", json!({"jitterPercent": 0, "deletionPolicy": "Delete"}))).await;
    let plain = TestNs::on(&plane, "plain").await;
    plane.grant_secrets(plain.name(), env.ns.name()).await.unwrap();
    plain.kubectl(&["apply", "-f", &repository("config/samples").to_string_lossy()]).await.ok();
    let mut operator = Operator::start_cluster_wide(&env.ns, &[]).await;
    operator.wait_ready().await;
    until_succeeded(&env, "the run").await;
    eventually("the samples are reconciled", async || {
        (plain.json("sjob", "mono-transactions").await?["status"]["observedGeneration"] == 1).then_some(())
    })
    .await;
    operator.finish(&env.ns).await;

    // The operator is stopped. A namespace without such a job is deleted at once.
    delete(&plain, &["namespace", plain.name()]).await;
    until_deleted(&plain, "namespace", plain.name()).await;
    // One with such a job waits for it.
    delete(&env.ns, &["namespace", env.ns.name()]).await;
    eventually("all but the job is deleted", async || {
        let left = env.ns.kubectl(&["get", "pconn,brkp,sjob,broute", "-o", "name"]).await.ok();
        if left.trim() == "syncjob.busbar.dev/feed" { Ok(()) } else { Err(left) }
    })
    .await;
    run_documented(&env.ns).await;
    until_deleted(&env.ns, "namespace", env.ns.name()).await;

    // The same for the CRDs: with objects of all kinds, and one job with the finalizer.
    let last = TestNs::on(&plane, "crds").await;
    last.kubectl(&["apply", "-f", &repository("config/samples").to_string_lossy()]).await.ok();
    let with_finalizer = json!({"metadata": {"finalizers": [FINALIZER]}}).to_string();
    last.kubectl(&["patch", "sjob", "mono-transactions", "--type=merge", "-p", &with_finalizer]).await.ok();
    let crds = ["providerconnections", "breakerpolicies", "bankroutes", "syncjobs"].map(|k| format!("{k}.busbar.dev"));
    for crd in &crds {
        delete(&last, &["crd", crd]).await;
    }
    for crd in &crds[..3] {
        until_deleted(&last, "crd", crd).await;
    }

    assert!(last.json("crd", &crds[3]).await.is_some());
    run_documented(&last).await;
    deleted_within(CRD_DELETION_DEADLINE, &last, "crd", &crds[3]).await;
}

#[tokio::test]
async fn without_an_operator_the_crd_of_retained_jobs_is_deleted_at_once() {
    let plane = own_plane(Options::default()).await;
    let env = BankEnv::on(&plane, "retained").await;
    env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 5)])).await;
    env.put(&steady_job("1h")).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_succeeded(&env, "the run").await;
    operator.finish(&env.ns).await;
    let clock = Clock::system();
    let began = clock.mono();
    delete(&env.ns, &["crd", "syncjobs.busbar.dev"]).await;
    until_deleted(&env.ns, "crd", "syncjobs.busbar.dev").await;
    report(&format!("the CRD of retained jobs was deleted after {:.1?}", clock.mono().since(began)));
}
