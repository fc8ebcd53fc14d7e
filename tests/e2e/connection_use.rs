//! `config/admission/references.yaml`: naming a connection requires the verb `use` on it, of the author and for new names
//! only.

use serde_json::{Value, json};

use crate::cluster::control_planes::repository;
use crate::cluster::namespace::TestNs;
use crate::cluster::policies::{User, assert_accepted, assert_denied, assert_type_checked, bind_policies};
use crate::kit::objects::{candidate, job, object, policy, route};

/// As many as a route has candidates.
const NAMES: usize = 16;

/// A connection that no user of these tests may use.
const OTHER: &str = "other";

/// An entry of `spec.fallback`, for all operations or for these.
fn entry(name: &str, connection: &str, operations: &[&str]) -> Value {
    let mut entry = json!({"name": name, "connectionRef": {"name": connection}});
    if !operations.is_empty() {
        entry["operations"] = json!(operations);
    }
    entry
}

/// The connection `a` with these entries.
fn with_fallback(entries: &[Value]) -> Value {
    let spec =
        json!({"provider": "fmp", "environment": "Sandbox", "healthCheck": {"mode": "Passive"}, "fallback": entries});
    object("ProviderConnection", "a", spec)
}

/// The same with an entry for each connection.
fn with_fallbacks(connections: &[String]) -> Value {
    let entries = connections.iter().enumerate().map(|(index, name)| entry(&format!("f{index}"), name, &[]));
    with_fallback(&entries.collect::<Vec<_>>())
}

fn job_of(connection: &str) -> Value {
    job("job", connection, "1h", json!({}))
}

/// The route `route` with a candidate for each connection.
fn route_over(connections: &[String], patch: Value) -> Value {
    let candidates =
        connections.iter().enumerate().map(|(index, name)| candidate(&format!("c{index}"), name, json!({})));
    route("route", &candidates.collect::<Vec<_>>(), patch)
}

fn scorer(connection: &str) -> Value {
    json!({"scorer": {"connectionRef": {"name": connection}}})
}

/// The first `count` connections that the user may use.
fn own(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("own-{index}")).collect()
}

/// A namespace with the policies, and a user who may write objects but use no connection.
async fn editor(ns: &TestNs) -> User<'_> {
    let policies = bind_policies(ns, &["references"]).await;
    assert_type_checked(ns, &policies).await;
    ns.plane().apply_path(&repository("config/rbac/users.yaml")).await.unwrap();
    let user = User::new(ns, "ann").await;
    user.grant("clusterrole=busbar-edit").await;
    user.until_allowed("create", "bankroutes.busbar.dev").await;
    for manifest in [with_fallbacks(&own(1)), job_of(OTHER), route_over(&own(1), json!({}))] {
        user.until_denied(&manifest).await;
    }
    user
}

/// Lets the user use the connections of [`own`].
async fn may_use_own(ns: &TestNs, user: &User<'_>) {
    let names = own(NAMES).join(", ");
    ns.apply(&format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: use-own}}\nrules:\n\
         - {{apiGroups: [busbar.dev], resources: [providerconnections], verbs: [use], resourceNames: [{names}]}}\n"
    ))
    .await;
    user.grant("role=use-own").await;
    user.until_allowed("use", "providerconnections.busbar.dev/own-0").await;
}

#[tokio::test]
async fn a_connection_is_named_at_any_index_only_by_a_user_with_the_verb_use() {
    let ns = TestNs::new("use").await;
    let user = editor(&ns).await;
    may_use_own(&ns, &user).await;
    let denied =
        |place: &str| format!("must have the verb use on providerconnections \"{OTHER}\" to name it in {place}");
    for index in 0..8 {
        let mut connections = own(8);
        connections[index] = OTHER.to_owned();
        let tried = user.try_apply(&with_fallbacks(&connections)).await;
        assert_denied(&tried, &denied("spec.fallback"));
    }
    for index in 0..NAMES {
        let mut candidates = own(NAMES);
        candidates[index] = OTHER.to_owned();
        assert_denied(&user.try_apply(&route_over(&candidates, json!({}))).await, &denied("spec.candidates"));
    }
    assert_denied(&user.try_apply(&route_over(&own(1), scorer(OTHER))).await, &denied("spec.scorer"));
    assert_denied(&user.try_apply(&job_of(OTHER)).await, &denied("spec.connectionRef"));

    // The longest lists: within the cost budget of the API server.
    assert_accepted(&user.apply(&with_fallbacks(&own(8))).await);
    assert_accepted(&user.apply(&route_over(&own(NAMES), scorer("own-0"))).await);
    assert_accepted(&user.apply(&job_of("own-0")).await);
    let other = json!({"spec": scorer(OTHER)}).to_string();
    assert_denied(&user.patch("broute/route", &other).await, &denied("spec.scorer"));
}

#[tokio::test]
async fn entries_that_named_the_connection_before_require_no_right() {
    let ns = TestNs::new("kept").await;
    let user = editor(&ns).await;
    ns.apply(&with_fallback(&[entry("f0", "one", &["quote"]), entry("f1", "two", &["quote"])]).to_string()).await;
    ns.apply(&route_over(&["one".to_owned(), "two".to_owned()], scorer("one")).to_string()).await;
    ns.apply(&job_of("one").to_string()).await;

    let fallback = |entries: &[Value]| json!({"spec": {"fallback": entries}}).to_string();
    let two = entry("f1", "two", &["quote"]);
    for (first, accepted) in [
        // Moved and renamed.
        (entry("renamed", "one", &["quote"]), true),
        // For further operations, or for all.
        (entry("f0", "one", &["quote", "earnings"]), false),
        (entry("f0", "one", &["earnings"]), false),
        (entry("f0", "one", &[]), false),
        // Another connection under the name of the entry.
        (entry("f0", "three", &["quote"]), false),
    ] {
        let output = user.patch("pconn/a", &fallback(&[two.clone(), first])).await;
        if accepted { assert_accepted(&output) } else { assert_denied(&output, "spec.fallback: ask for a binding") }
    }
    // What was removed is new again.
    assert_accepted(&user.patch("pconn/a", &fallback(std::slice::from_ref(&two))).await);
    let again = fallback(&[entry("f0", "one", &["quote"]), two]);
    assert_denied(&user.patch("pconn/a", &again).await, "\"one\" to name it in spec.fallback");
    assert_accepted(&user.patch("pconn/a", r#"{"spec":{"timeout":{"request":"5s"}}}"#).await);

    let candidates = |list: &[Value]| json!({"spec": {"candidates": list}}).to_string();
    let swapped = [candidate("c1", "two", json!({"tier": "Fallback"})), candidate("other", "one", json!({}))];
    assert_accepted(&user.patch("broute/route", &candidates(&swapped)).await);
    let third = [candidate("c0", "one", json!({})), candidate("c1", "three", json!({}))];
    assert_denied(&user.patch("broute/route", &candidates(&third)).await, "\"three\" to name it in spec.candidates");
    assert_accepted(&user.patch("broute/route", r#"{"spec":{"scorer":{"maxAge":"1m"},"suspend":true}}"#).await);
    // A candidate is not a scorer.
    let candidate_as_scorer = json!({"spec": scorer("two")}).to_string();
    assert_denied(&user.patch("broute/route", &candidate_as_scorer).await, "\"two\" to name it in spec.scorer");
    assert_accepted(&user.patch("sjob/job", r#"{"spec":{"interval":"2h","suspend":true}}"#).await);
}

#[tokio::test]
async fn the_shipped_roles_view_edit_and_use_add_up() {
    let ns = TestNs::new("roles").await;
    let ann = editor(&ns).await;
    let bob = User::new(&ns, "bob").await;
    bob.grant("clusterrole=busbar-view").await;
    bob.until_allowed("list", "breakerpolicies.busbar.dev").await;
    let forbidden = bob.try_apply(&job_of("own-0")).await;
    assert!(!forbidden.success && forbidden.stderr.contains("is forbidden"), "{}", forbidden.stderr);

    let forbidden = ann.try_apply(&policy("default", json!({"preset": "Api"}))).await;
    assert!(!forbidden.success && forbidden.stderr.contains("is forbidden"), "{}", forbidden.stderr);
    ann.grant("clusterrole=busbar-use").await;
    ann.until_allowed("use", "providerconnections.busbar.dev/anything").await;
    for manifest in [with_fallbacks(&own(2)), job_of(OTHER), route_over(&own(2), json!({}))] {
        assert_accepted(&ann.apply(&manifest).await);
    }
    // `use` names; it neither reads nor writes.
    bob.grant("clusterrole=busbar-use").await;
    bob.until_allowed("use", "providerconnections.busbar.dev/anything").await;
    let forbidden = bob.try_apply(&job_of("own-0")).await;
    assert!(!forbidden.success && forbidden.stderr.contains("is forbidden"), "{}", forbidden.stderr);
}
