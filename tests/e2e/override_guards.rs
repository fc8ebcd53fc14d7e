//! `config/admission/override.yaml`: every way to decide in place of the breaker requires the verb `override`
//! (docs/adr/0007).

use busbar::api::v1alpha1::ProviderConnection;

use crate::support::policies::{User, assert_accepted, assert_denied, assert_type_checked, bind_policies};
use crate::support::world::{policy, route};
use crate::support::{Operator, TestNs, World};

/// How the verb is called in every denial.
const VERB: &str = "must have the verb override on";

fn connection(name: &str, fields: &str) -> String {
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: ProviderConnection, metadata: {{name: {name}}}, spec: {{provider: generic, \
         environment: Sandbox, endpoint: {{baseURL: 'https://bank.example'}}, {fields}}}}}"
    )
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
    let (editor, operator) = (User::new(ns, "ann").await, User::new(ns, "olu").await);
    for user in [&editor, &operator] {
        user.grant("role=writer").await;
        user.until_allowed("create", "breakerpolicies.busbar.dev").await;
    }
    operator.grant("clusterrole=busbar-circuit-override").await;
    operator.until_allowed("override", "providerconnections.busbar.dev").await;
    for manifest in [policy("canary", "mode: Shadow"), connection("canary", "breakerPolicyRef: {name: other}")] {
        editor.until_denied(&manifest).await;
    }
    (editor, operator)
}

#[tokio::test]
async fn a_breaker_policy_is_written_only_with_the_verb_override() {
    let ns = TestNs::new("policies").await;
    let (editor, operator) = users(&ns).await;
    let written = [
        "mode: Shadow",
        // Everything off, and what amounts to it.
        "trip: {consecutiveFailures: 0, failurePercent: 0, slowCallPercent: 0, unhealthy: Ignore}",
        "trip: {consecutiveFailures: 1000}",
        "classify: {ignoreStatuses: [5xx], failureErrors: [Body]}",
        "open: {base: 1s, max: 1s}",
        "trip: {consecutiveFailures: 3}",
    ];
    for fields in written {
        for name in ["default", "banks"] {
            assert_denied(&editor.try_apply(&policy(name, fields)).await, VERB);
            assert_accepted(&operator.try_apply(&policy(name, fields)).await);
        }
    }
    ns.apply(&policy("banks", "trip: {consecutiveFailures: 3}")).await;
    for patch in [
        r#"{"spec":{"mode":"Shadow"}}"#,
        r#"{"spec":{"trip":{"consecutiveFailures":0}}}"#,
        r#"{"spec":{"preset":"Data"}}"#,
        r#"{"spec":{"trip":null}}"#,
    ] {
        assert_denied(&editor.patch("brkp/banks", patch).await, "all providerconnections of the namespace");
    }
    assert_accepted(&editor.patch("brkp/banks", r#"{"metadata":{"labels":{"team":"a"}}}"#).await);
    assert_accepted(&operator.patch("brkp/banks", r#"{"spec":{"mode":"Shadow"}}"#).await);

    // A right to one connection is no right to a policy, which applies to any number of them.
    ns.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: one}\nrules:\n\
         - {apiGroups: [busbar.dev], resources: [providerconnections], verbs: [override], resourceNames: [bank]}\n",
    )
    .await;
    editor.grant("role=one").await;
    editor.until_allowed("override", "providerconnections.busbar.dev/bank").await;
    assert_denied(&editor.patch("brkp/banks", r#"{"spec":{"mode":"Enforce"}}"#).await, VERB);
    assert_accepted(&editor.try_apply(&connection("bank", "breakerPolicyRef: {name: banks}")).await);
}

#[tokio::test]
async fn another_breaker_policy_is_named_only_with_the_verb_override() {
    let ns = TestNs::new("policyref").await;
    let (editor, operator) = users(&ns).await;
    let named = |policy: &str| connection("bank", &format!("breakerPolicyRef: {{name: {policy}}}"));
    assert_denied(&editor.apply(&named("shadow")).await, "change or remove spec.breakerPolicyRef: ask for a binding");
    assert_accepted(&editor.apply(&connection("bank", "")).await);
    assert_denied(&editor.patch("pconn/bank", r#"{"spec":{"breakerPolicyRef":{"name":"shadow"}}}"#).await, VERB);
    assert_accepted(&operator.patch("pconn/bank", r#"{"spec":{"breakerPolicyRef":{"name":"shadow"}}}"#).await);
    assert_accepted(&editor.patch("pconn/bank", r#"{"spec":{"timeout":{"request":"5s"}}}"#).await);
    for patch in [r#"{"spec":{"breakerPolicyRef":{"name":"lax"}}}"#, r#"{"spec":{"breakerPolicyRef":null}}"#] {
        assert_denied(&editor.patch("pconn/bank", patch).await, VERB);
    }
    assert_accepted(&operator.patch("pconn/bank", r#"{"spec":{"breakerPolicyRef":null}}"#).await);
}

#[tokio::test]
async fn a_bank_is_taken_out_of_its_routes_only_with_the_verb_override() {
    let world = World::new("routed").await;
    let _bank = world.bank("bank").await;
    let operator = Operator::ready(&world.ns, &[]).await;
    let (editor, ops) = users(&world.ns).await;
    let consumers = |c: &ProviderConnection| Some(c.status.as_ref()?.consumers.as_ref()?.bank_routes);
    world.until::<ProviderConnection, _>("bank", "its status is written", |c| consumers(c).map(drop)).await;
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
    world.put(&route("payouts", &[("a", "bank", "")], "")).await;
    world.until::<ProviderConnection, _>("bank", "the route counts", |c| (consumers(c)? == 1).then_some(())).await;
    for (set, unset) in switches {
        let denied = "of a connection that routes use: ask for a binding of ClusterRole busbar-circuit-override";
        assert_denied(&editor.patch("pconn/bank", set).await, denied);
        assert_accepted(&ops.patch("pconn/bank", set).await);
        // What one user decided, another does not revert.
        assert_denied(&editor.patch("pconn/bank", unset).await, denied);
        assert_accepted(&ops.patch("pconn/bank", unset).await);
    }
    assert_accepted(&editor.patch("pconn/bank", r#"{"spec":{"timeout":{"request":"5s"}}}"#).await);
    world.ns.kubectl(&["delete", "broute", "payouts"]).await.ok().unwrap();
    world.until::<ProviderConnection, _>("bank", "no route counts", |c| (consumers(c)? == 0).then_some(())).await;
    assert_accepted(&editor.patch("pconn/bank", r#"{"spec":{"suspend":true}}"#).await);
    operator.finish(&world.ns).await;
}
