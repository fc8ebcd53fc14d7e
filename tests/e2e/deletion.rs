//! What happens when things go: rows and cursor only where `deletionPolicy: Delete` asked for it, and nothing of ours
//! ever hangs for want of an operator, but for those very objects, for which docs/deletion.md has one command.

use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::clock::Clock;
use busbar::testbed::control_plane::Options;
use serde_json::json;

use crate::jobs::{job, pages, rows, slow, until};
use crate::support::plane::{PATIENCE, repository, tell};
use crate::support::{Operator, TestNs, World, eventually, own_plane};
use busbar::testbed::sim::AccountConfig;

/// The API server waits a minute for the instances of a definition to be gone, looking at a list that may have stopped
/// being kept up when the definition was marked for deletion, and then begins again.
const A_FEW_ROUNDS: Duration = Duration::from_mins(5);

const MARK: &str = "busbar.dev/ledger";

async fn marks(ns: &TestNs) -> Vec<String> {
    ns.api::<SyncJob>().get("feed").await.unwrap().metadata.finalizers.unwrap_or_default()
}

async fn gone(ns: &TestNs, kind: &str, name: &str) {
    gone_within(PATIENCE, ns, kind, name).await;
}

async fn gone_within(patience: Duration, ns: &TestNs, kind: &str, name: &str) {
    eventually(patience, &format!("{kind}/{name} is gone"), async || ns.json(kind, name).await.is_none().then_some(()))
        .await;
}

async fn delete(ns: &TestNs, what: &[&str]) {
    let args: Vec<&str> = ["delete", "--wait=false"].iter().chain(what).copied().collect();
    ns.kubectl(&args).await.ok().unwrap();
}

#[tokio::test]
async fn a_job_that_asks_for_it_takes_its_rows_and_cursor_along_even_in_the_middle_of_a_run() {
    let world = World::new("erase").await;
    let bank = world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 1_000)])).await;
    bank.set_script(slow(200)).await.unwrap();
    world.put(&job("mono", "24h", "deletionPolicy: Delete")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    eventually(PATIENCE, "some pages", async || (pages(&bank) >= 3).then_some(())).await;
    assert_eq!(marks(&world.ns).await, [MARK]);
    assert!(!rows(&world.ns, "a").await.is_empty());
    delete(&world.ns, &["sjob", "feed"]).await;
    gone(&world.ns, "sjob", "feed").await;
    assert!(pages(&bank) < 10, "the run was stopped at a page");
    assert_eq!(rows(&world.ns, "a").await.len(), 0);

    // Another of the name begins at the beginning.
    bank.recover().await;
    world.put(&job("mono", "24h", "deletionPolicy: Delete")).await;
    let again = until(&world, "it runs", |s| s.last_successful_time.is_some()).await;
    assert_eq!((again.history.len(), again.history[0].inserted), (1, 1_000));
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn a_job_that_changes_its_mind_keeps_its_rows_for_the_next_of_its_name() {
    let world = World::new("retain").await;
    world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 50)])).await;
    world.put(&job("mono", "1h", "jitterPercent: 0, deletionPolicy: Delete")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    until(&world, "the first run succeeded", |s| s.last_successful_time.is_some()).await;
    // Somebody else's mark is not ours to take.
    let theirs = json!({"metadata": {"finalizers": [MARK, "example.org/theirs"]}});
    let patch = kube::api::Patch::Merge(&theirs);
    world.ns.api::<SyncJob>().patch("feed", &kube::api::PatchParams::default(), &patch).await.unwrap();
    world.patch::<SyncJob>("feed", json!({"deletionPolicy": "Retain"})).await;
    eventually(PATIENCE, "our mark is off", async || (marks(&world.ns).await == ["example.org/theirs"]).then_some(()))
        .await;
    delete(&world.ns, &["sjob", "feed"]).await;
    let none = json!({"metadata": {"finalizers": null}});
    let patch = kube::api::Patch::Merge(&none);
    world.ns.api::<SyncJob>().patch("feed", &kube::api::PatchParams::default(), &patch).await.unwrap();
    gone(&world.ns, "sjob", "feed").await;
    assert_eq!(rows(&world.ns, "a").await.len(), 50);
    world.put(&job("mono", "1h", "jitterPercent: 0")).await;
    let adopted = until(&world, "the past is found again", |s| !s.history.is_empty()).await;
    assert!(adopted.last_successful_time.is_some());
    assert!(marks(&world.ns).await.is_empty());
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn the_admission_policy_lets_the_operator_change_finalizers_and_nothing_else() {
    let plane = own_plane(Options::default()).await;
    plane.apply_path(&repository("config/admission/operator.yaml")).await.unwrap();
    let world = World::on(&plane, "narrow").await;
    world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 5)])).await;
    world.put(&job("mono", "1h", "jitterPercent: 0")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    let user = format!("--as={}", operator.user());
    let patch = async |what: &str| {
        world.ns.kubectl(&["patch", "sjob", "feed", "--type=merge", "-p", what, &user, "--dry-run=server"]).await
    };
    let refused = eventually(PATIENCE, "the policy is in force", async || {
        let output = patch(r#"{"spec":{"suspend":true}}"#).await;
        (!output.success).then_some(output.stderr)
    })
    .await;
    assert!(refused.contains("must change nothing but finalizers"), "{refused}");
    for other in [r#"{"metadata":{"labels":{"a":"b"}}}"#, r#"{"metadata":{"annotations":{"a":"b"}}}"#] {
        assert!(!patch(other).await.success, "{other}");
    }
    // And its own work goes on.
    world.patch::<SyncJob>("feed", json!({"deletionPolicy": "Delete"})).await;
    eventually(PATIENCE, "the mark", async || (marks(&world.ns).await == [MARK]).then_some(())).await;
    delete(&world.ns, &["sjob", "feed"]).await;
    gone(&world.ns, "sjob", "feed").await;
    let mut operator = operator;
    // The refusals above were its user's.
    operator.expect_forbidden();
    operator.finish(&world.ns).await;
}

/// The command that docs/deletion.md gives.
fn documented() -> String {
    let text = std::fs::read_to_string(repository("docs/deletion.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("kubectl get syncjobs ")).expect("the command");
    line.to_owned()
}

async fn run_documented(ns: &TestNs) {
    let kubectl =
        format!("{} --kubeconfig {}", ns.plane().kubectl_path().display(), ns.plane().admin_kubeconfig().display());
    let script = documented().replace("kubectl ", &format!("{kubectl} "));
    let output = tokio::process::Command::new("sh").args(["-c", &script]).output().await.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn without_an_operator_nothing_hangs_but_jobs_with_delete_and_one_command_frees_those() {
    let plane = own_plane(Options::default()).await;
    assert!(plane.has_controller_manager(), "removing namespaces is what this is about");
    let world = World::on(&plane, "orphan").await;
    world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 5)])).await;
    world.put(&job("mono", "1h", "jitterPercent: 0, deletionPolicy: Delete")).await;
    let plain = TestNs::on(&plane, "plain").await;
    plain.kubectl(&["apply", "-f", &repository("config/samples").to_string_lossy()]).await.ok().unwrap();
    let mut operator = Operator::start_cluster_wide(&world.ns, &[]).await;
    operator.wait_ready().await;
    until(&world, "the run", |s| s.last_successful_time.is_some()).await;
    eventually(PATIENCE, "the samples have been seen", async || {
        (plain.json("sjob", "mono-transactions").await?["status"]["observedGeneration"] == 1).then_some(())
    })
    .await;
    operator.finish(&world.ns).await;

    // The operator is gone. A namespace without such a job goes at once.
    delete(&plain, &["namespace", plain.name()]).await;
    gone(&plain, "namespace", plain.name()).await;
    // One with such a job waits for it.
    delete(&world.ns, &["namespace", world.ns.name()]).await;
    eventually(PATIENCE, "all but the job is gone", async || {
        let left = world.ns.kubectl(&["get", "pconn,brkp,sjob,broute", "-o", "name"]).await.ok().unwrap();
        (left.trim() == "syncjob.busbar.dev/feed").then_some(())
    })
    .await;
    run_documented(&world.ns).await;
    gone(&world.ns, "namespace", world.ns.name()).await;

    // The same for the definitions: with objects of all kinds, and one job that asks for cleaning.
    let last = TestNs::on(&plane, "crds").await;
    last.kubectl(&["apply", "-f", &repository("config/samples").to_string_lossy()]).await.ok().unwrap();
    let marked = json!({"metadata": {"finalizers": [MARK]}}).to_string();
    last.kubectl(&["patch", "sjob", "mono-transactions", "--type=merge", "-p", &marked]).await.ok().unwrap();
    let crds = ["providerconnections", "breakerpolicies", "bankroutes", "syncjobs"].map(|k| format!("{k}.busbar.dev"));
    for crd in &crds {
        delete(&last, &["crd", crd]).await;
    }
    for crd in &crds[..3] {
        gone(&last, "crd", crd).await;
    }

    assert!(last.json("crd", &crds[3]).await.is_some());
    run_documented(&last).await;
    gone_within(A_FEW_ROUNDS, &last, "crd", &crds[3]).await;
}

#[tokio::test]
async fn without_an_operator_the_definition_of_jobs_that_all_retain_goes_at_once() {
    let plane = own_plane(Options::default()).await;
    let world = World::on(&plane, "retained").await;
    world.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 5)])).await;
    world.put(&job("mono", "1h", "jitterPercent: 0")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    until(&world, "the run", |s| s.last_successful_time.is_some()).await;
    operator.finish(&world.ns).await;
    let clock = Clock::system();
    let began = clock.mono();
    delete(&world.ns, &["crd", "syncjobs.busbar.dev"]).await;
    gone(&world.ns, "crd", "syncjobs.busbar.dev").await;
    tell(&format!("a definition with nothing but retained jobs was gone after {:.1?}", clock.mono().since(began)));
}
