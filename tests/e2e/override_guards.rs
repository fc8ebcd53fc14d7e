//! `config/admission/override.yaml`: every way to decide in place of the breaker requires the verb `override`
//! (docs/adr/0008).

use busbar::api::v1alpha1::ProviderConnection;
use serde_json::{Value, json};

use crate::cluster::bank_env::BankEnv;
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::cluster::policies::{User, assert_accepted, assert_denied, assert_type_checked, bind_policies};
use crate::kit::objects::{candidates, connection, merged_patches, policy, route};

/// How the verb is called in every denial.
const VERB: &str = "must have the verb override on";

/// The connection `bank` with the reference to a policy, or without one.
fn bank(policy: Option<&str>) -> Value {
    named("bank", policy)
}

fn named(name: &str, policy: Option<&str>) -> Value {
    let reference = policy.map_or(json!({}), |policy| json!({"breakerPolicyRef": {"name": policy}}));
    connection(name, "https://bank.example", merged_patches(json!({"endpoint": {"insecure": null}}), reference))
}

/// The policies in force, and two users who may write every kind: one with the verb `override`, one without.
async fn users(ns: &TestNs) -> (User<'_>, User<'_>) {
    let policies = bind_policies(ns, &["override"]).await;
    assert_type_checked(ns, &policies).await;
    ns.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: writer}\nrules:\n\
         - {apiGroups: [busbar.dev], resources: [providerconnections, breakerpolicies],\n   \
         verbs: [get, list, create, update, patch, delete]}\n",
    )
    .await;
    let (editor, ops) = (User::new(ns, "ann").await, User::new(ns, "olu").await);
    for user in [&editor, &ops] {
        user.grant("role=writer").await;
        user.until_allowed("create", "breakerpolicies.busbar.dev").await;
    }
    ops.grant("clusterrole=busbar-circuit-override").await;
    ops.until_allowed("override", "providerconnections.busbar.dev").await;
    for manifest in [policy("canary", json!({"mode": "Shadow"})), named("canary", Some("other"))] {
        editor.until_denied(&manifest).await;
    }
    (editor, ops)
}

#[tokio::test]
async fn a_breaker_policy_is_written_only_with_the_verb_override() {
    let ns = TestNs::new("policies").await;
    let (editor, ops) = users(&ns).await;
    let written = [
        json!({"mode": "Shadow"}),
        // Everything off, and what amounts to it.
        json!({"trip": {"consecutiveFailures": 0, "failurePercent": 0, "slowCallPercent": 0, "unhealthy": "Ignore"}}),
        json!({"trip": {"consecutiveFailures": 1000}}),
        json!({"classify": {"ignoreStatuses": ["5xx"], "failureErrors": ["Body"]}}),
        json!({"open": {"base": "1s", "max": "1s"}}),
        json!({"trip": {"consecutiveFailures": 3}}),
    ];
    for spec in written {
        for name in ["default", "banks"] {
            assert_denied(&editor.try_apply(&policy(name, spec.clone())).await, VERB);
            assert_accepted(&ops.try_apply(&policy(name, spec.clone())).await);
        }
    }
    ns.apply(&policy("banks", json!({"trip": {"consecutiveFailures": 3}})).to_string()).await;
    for patch in [
        r#"{"spec":{"mode":"Shadow"}}"#,
        r#"{"spec":{"trip":{"consecutiveFailures":0}}}"#,
        r#"{"spec":{"preset":"Data"}}"#,
        r#"{"spec":{"trip":null}}"#,
    ] {
        assert_denied(&editor.patch("brkp/banks", patch).await, "all providerconnections of the namespace");
    }
    assert_accepted(&editor.patch("brkp/banks", r#"{"metadata":{"labels":{"team":"a"}}}"#).await);
    assert_accepted(&ops.patch("brkp/banks", r#"{"spec":{"mode":"Shadow"}}"#).await);

    // A right to one connection is no right to a policy, which applies to any number of them.
    ns.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: one}\nrules:\n\
         - {apiGroups: [busbar.dev], resources: [providerconnections], verbs: [override], resourceNames: [bank]}\n",
    )
    .await;
    editor.grant("role=one").await;
    editor.until_allowed("override", "providerconnections.busbar.dev/bank").await;
    assert_denied(&editor.patch("brkp/banks", r#"{"spec":{"mode":"Enforce"}}"#).await, VERB);
    assert_accepted(&editor.try_apply(&bank(Some("banks"))).await);
}

#[tokio::test]
async fn another_breaker_policy_is_named_only_with_the_verb_override() {
    let ns = TestNs::new("policyref").await;
    let (editor, ops) = users(&ns).await;
    assert_denied(
        &editor.apply(&bank(Some("shadow"))).await,
        "change or remove spec.breakerPolicyRef: ask for a binding",
    );
    assert_accepted(&editor.apply(&bank(None)).await);
    assert_denied(&editor.patch("pconn/bank", r#"{"spec":{"breakerPolicyRef":{"name":"shadow"}}}"#).await, VERB);
    assert_accepted(&ops.patch("pconn/bank", r#"{"spec":{"breakerPolicyRef":{"name":"shadow"}}}"#).await);
    assert_accepted(&editor.patch("pconn/bank", r#"{"spec":{"timeout":{"request":"5s"}}}"#).await);
    for patch in [r#"{"spec":{"breakerPolicyRef":{"name":"lax"}}}"#, r#"{"spec":{"breakerPolicyRef":null}}"#] {
        assert_denied(&editor.patch("pconn/bank", patch).await, VERB);
    }
    assert_accepted(&ops.patch("pconn/bank", r#"{"spec":{"breakerPolicyRef":null}}"#).await);
}

#[tokio::test]
async fn a_bank_is_taken_out_of_its_routes_only_with_the_verb_override() {
    let env = BankEnv::new("routed").await;
    env.bank("bank").await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let (editor, ops) = users(&env.ns).await;
    let consumers = |c: &ProviderConnection| Some(c.status.as_ref()?.consumers.as_ref()?.bank_routes);
    env.until::<ProviderConnection, _>("bank", "its status is written", |c| consumers(c).map(drop)).await;
    let switches = [
        (r#"{"spec":{"suspend":true}}"#, r#"{"spec":{"suspend":false}}"#),
        (
            r#"{"spec":{"maintenance":[{"name":"now","schedule":"* * * * *","duration":"24h"}]}}"#,
            r#"{"spec":{"maintenance":null}}"#,
        ),
        (
            r#"{"spec":{"healthCheck":{"expectedStatuses":["2xx","5xx"]}}}"#,
            r#"{"spec":{"healthCheck":{"expectedStatuses":null}}}"#,
        ),
    ];
    // No route uses it: nothing is taken out of one.
    for (set, unset) in switches {
        assert_accepted(&editor.patch("pconn/bank", set).await);
        assert_accepted(&editor.patch("pconn/bank", unset).await);
    }
    env.put(&route("payouts", &candidates(&["bank"]), json!({}))).await;
    env.until::<ProviderConnection, _>("bank", "the route counts", |c| (consumers(c)? == 1).then_some(())).await;
    for (set, unset) in switches {
        let denied = "of a connection that routes use: ask for a binding of ClusterRole busbar-circuit-override";
        assert_denied(&editor.patch("pconn/bank", set).await, denied);
        assert_accepted(&ops.patch("pconn/bank", set).await);
        // What one user decided, another does not revert.
        assert_denied(&editor.patch("pconn/bank", unset).await, denied);
        assert_accepted(&ops.patch("pconn/bank", unset).await);
    }
    assert_accepted(&editor.patch("pconn/bank", r#"{"spec":{"timeout":{"request":"5s"}}}"#).await);
    env.delete("BankRoute", "payouts").await;
    env.until::<ProviderConnection, _>("bank", "no route counts", |c| (consumers(c)? == 0).then_some(())).await;
    assert_accepted(&editor.patch("pconn/bank", r#"{"spec":{"suspend":true}}"#).await);
    operator.finish(&env.ns).await;
}
