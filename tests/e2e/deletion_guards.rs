//! `config/admission/in-use.yaml`: what is in use is deleted by no user, by mistake or otherwise, unless the object says so;
//! the cluster's own controllers delete it all the same.

use busbar::api::v1alpha1::{BreakerPolicy, ProviderConnection};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, QUICK, bank_connection, named_connection, quick_policy};
use crate::cluster::control_planes::report;
use crate::cluster::namespace::{KubectlOutput, TestNs};
use crate::cluster::operator::Operator;
use crate::cluster::policies::{User, assert_accepted, assert_denied, assert_type_checked, bind_policies};
use crate::cluster::sync_jobs::{FEED, steady_job};
use crate::kit::objects::{candidates, policy, route};
use crate::kit::wait::eventually;

/// How every denial begins.
const CONNECTION: &str = "must not be used by SyncJobs and BankRoutes (status.consumers: ";
const POLICY: &str = "must not be used by ProviderConnections (status.connections.total: ";

/// The policies in force, and a user who may delete and edit every kind.
async fn deleter(ns: &TestNs) -> User<'_> {
    let policies = bind_policies(ns, &["in-use"]).await;
    assert_type_checked(ns, &policies).await;
    ns.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: deleter}\nrules:\n\
         - {apiGroups: [busbar.dev], resources: ['*'], verbs: [get, list, patch, delete]}\n",
    )
    .await;
    let user = User::new(ns, "ann").await;
    user.grant("role=deleter").await;
    user.until_allowed("delete", "breakerpolicies.busbar.dev").await;
    user
}

/// Waits until the policy denies the deletion of an object that is in use: a new policy takes effect after a while.
async fn until_denied(user: &User<'_>, object: &str) {
    eventually(format!("the deletion of {object} is denied"), async || {
        let output = try_delete(user, object).await;
        if output.stderr.contains("denied request") { Ok(()) } else { Err(output) }
    })
    .await;
}

async fn try_delete(user: &User<'_>, object: &str) -> KubectlOutput {
    user.kubectl(&["delete", object, "--dry-run=server"], "").await
}

async fn delete(user: &User<'_>, object: &str) -> KubectlOutput {
    user.kubectl(&["delete", object, "--wait=false"], "").await
}

/// Waits until the connection's status counts these jobs and routes.
async fn counted(env: &BankEnv, name: &str, jobs: i32, routes: i32) {
    env.until(name, "its users are counted", |c: &ProviderConnection| {
        let consumers = c.status.as_ref()?.consumers.as_ref()?;
        ((consumers.sync_jobs, consumers.bank_routes) == (jobs, routes)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_in_use_is_deleted_by_no_user_until_its_last_user_is_gone() {
    let env = BankEnv::new("inuse").await;
    let ann = deleter(&env.ns).await;
    env.mono("mono", |c| c).await;
    env.bank("free").await;
    env.put(&steady_job("24h")).await;
    env.put(&route("payouts", &candidates(&["mono"]), json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    counted(&env, "mono", 1, 1).await;
    counted(&env, "free", 0, 0).await;
    until_denied(&ann, "pconn/mono").await;
    let counts = format!("{CONNECTION}syncJobs 1, bankRoutes 1): delete these, or name another connection in them");
    // By name, by a label or all of them, and of the administrator too.
    env.ns.kubectl(&["label", "pconn/mono", "bank=mono"]).await.ok();
    for arguments in [&["pconn/mono"][..], &["pconn", "-l", "bank=mono"], &["pconn/mono", "--cascade=orphan"]] {
        let arguments = [&["delete", "--wait=false"], arguments].concat();
        assert_denied(&ann.kubectl(&arguments, "").await, &counts);
        assert_denied(&env.ns.kubectl(&arguments).await, &counts);
    }
    let selected = ListParams::default().labels("bank=mono");
    let collection = env.ns.api::<ProviderConnection>().delete_collection(&DeleteParams::default(), &selected).await;
    let refused = collection.expect_err("a deletion of the collection");
    assert!(refused.to_string().contains(&counts), "{refused}");
    // What nothing uses is deleted.
    assert_accepted(&delete(&ann, "pconn/free").await);

    env.delete("SyncJob", FEED).await;
    counted(&env, "mono", 0, 1).await;
    assert_denied(&delete(&ann, "pconn/mono").await, &format!("{CONNECTION}syncJobs 0, bankRoutes 1)"));
    env.delete("BankRoute", "payouts").await;
    let began = env.now();
    eventually("the connection is deleted", async || delete(&ann, "pconn/mono").await.success).await;
    report(&format!("deleted {:#} after its last user", env.now().duration_since(began)));
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn an_annotation_deletes_what_is_in_use_also_without_an_operator() {
    let env = BankEnv::new("forced").await;
    let ann = deleter(&env.ns).await;
    env.mono("mono", |c| c).await;
    env.put(&steady_job("24h")).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    counted(&env, "mono", 1, 0).await;
    // The counts stay as they were.
    operator.finish(&env.ns).await;
    until_denied(&ann, "pconn/mono").await;
    until_denied(&ann, &format!("brkp/{QUICK}")).await;
    for object in ["pconn/mono".to_owned(), format!("brkp/{QUICK}")] {
        for value in ["false", "yes", ""] {
            let patch = json!({"metadata": {"annotations": {"busbar.dev/delete-in-use": value}}});
            assert!(ann.patch(&object, &patch.to_string()).await.success);
            assert!(!try_delete(&ann, &object).await.success, "{object}: {value:?}");
        }
        let patch = json!({"metadata": {"annotations": {"busbar.dev/delete-in-use": "true"}}});
        assert!(ann.patch(&object, &patch.to_string()).await.success);
        assert_accepted(&delete(&ann, &object).await);
    }
}

#[tokio::test]
async fn a_policy_in_use_is_deleted_by_no_user_named_or_by_default() {
    let env = BankEnv::new("policyuse").await;
    let ann = deleter(&env.ns).await;
    let bank = env.bank("named").await;
    env.put(&named_connection("plain", &bank, json!({"breakerPolicyRef": null}))).await;
    for name in ["default", "unused"] {
        env.put(&policy(name, json!({"preset": "Bank"}))).await;
    }
    let operator = Operator::ready(&env.ns, &[]).await;
    let used =
        |total: i32| move |p: &BreakerPolicy| (p.status.as_ref()?.connections.as_ref()?.total == total).then_some(());
    for (name, total) in [("default", 1), (QUICK, 1), ("unused", 0)] {
        env.until(name, "its connections are counted", used(total)).await;
    }
    for name in ["default", QUICK] {
        until_denied(&ann, &format!("brkp/{name}")).await;
        let denied = format!("{POLICY}1): name another policy in their spec.breakerPolicyRef");
        assert_denied(&delete(&ann, &format!("brkp/{name}")).await, &denied);
        assert_denied(&env.ns.kubectl(&["delete", "--wait=false", &format!("brkp/{name}")]).await, &denied);
    }
    assert_accepted(&delete(&ann, "brkp/unused").await);
    // The last connection leaves, and comes back.
    let elsewhere = json!({"breakerPolicyRef": {"name": QUICK}});
    env.merge("ProviderConnection", "plain", json!({ "spec": elsewhere })).await;
    env.until("default", "nothing uses it", used(0)).await;
    assert_accepted(&try_delete(&ann, "brkp/default").await);
    env.merge("ProviderConnection", "plain", json!({"spec": {"breakerPolicyRef": null}})).await;
    env.until("default", "it is used again", used(1)).await;
    assert_denied(&try_delete(&ann, "brkp/default").await, POLICY);
    operator.finish(&env.ns).await;
}

/// The same object with an owner in its namespace.
fn owned_by(object: &Value, owner: &ConfigMap) -> Value {
    let mut object = object.clone();
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid,
    }]);
    object
}

#[tokio::test]
async fn the_namespace_controller_and_the_garbage_collector_delete_what_is_in_use() {
    let env = BankEnv::new("ending").await;
    if !env.ns.plane().has_controller_manager() {
        // With CI=true the build script fails without one.
        report("SKIPPED, without a kube-controller-manager: deletion by its controllers");
        return;
    }
    let ann = deleter(&env.ns).await;
    let mut owner = ConfigMap { metadata: ObjectMeta::default(), ..ConfigMap::default() };
    owner.metadata.name = Some("release".into());
    let owner = env.ns.api::<ConfigMap>().create(&PostParams::default(), &owner).await.unwrap();
    let bank = env.bank_with_secret("owned").await;
    // Applied by the manager that created it.
    env.put(&owned_by(&quick_policy("1s"), &owner)).await;
    env.put(&owned_by(&bank_connection(&bank, json!({})), &owner)).await;
    env.bank("kept").await;
    env.put(&route("payouts", &candidates(&["owned", "kept"]), json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    for name in ["owned", "kept"] {
        counted(&env, name, 0, 1).await;
        until_denied(&ann, &format!("pconn/{name}")).await;
    }
    until_denied(&ann, &format!("brkp/{QUICK}")).await;

    // The garbage collector deletes what the deleted object owned.
    env.ns.kubectl(&["delete", "configmap", "release"]).await.ok();
    for (kind, name) in [("pconn", "owned"), ("brkp", QUICK)] {
        eventually(format!("{kind}/{name} is collected"), async || env.ns.json(kind, name).await.is_none()).await;
    }
    assert_denied(&delete(&ann, "pconn/kept").await, CONNECTION);
    operator.finish(&env.ns).await;

    // The namespace controller deletes everything in it.
    env.ns.kubectl(&["delete", "namespace", env.ns.name(), "--wait=false"]).await.ok();
    eventually("the namespace is deleted", async || {
        let namespace = ["get", "namespace", env.ns.name(), "--ignore-not-found", "-o", "name"];
        env.ns.kubectl(&namespace).await.ok().is_empty()
    })
    .await;
}
