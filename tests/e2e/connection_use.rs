//! `config/admission/references.yaml`: naming a connection requires the verb `use` on it, of the author and for new names
//! only.

use std::fmt::Write as _;

use crate::support::TestNs;
use crate::support::plane::repository;
use crate::support::policies::{User, assert_accepted, assert_denied, assert_type_checked, bind_policies};

/// As many as a route has candidates.
const NAMES: usize = 16;

/// A connection that no user of these tests may use.
const OTHER: &str = "other";

/// A connection with these entries of `spec.fallback`: connection and further fields.
fn with_fallback(name: &str, entries: &[(String, &str)]) -> String {
    let mut list = String::new();
    for (index, (connection, fields)) in entries.iter().enumerate() {
        write!(list, "{{name: f{index}, connectionRef: {{name: {connection}}}, {fields}}}, ").unwrap();
    }
    format!(
        "apiVersion: busbar.dev/v1alpha1\nkind: ProviderConnection\nmetadata: {{name: {name}}}\nspec: {{provider: fmp, \
         environment: Sandbox, healthCheck: {{mode: Passive}}, fallback: [{list}]}}\n"
    )
}

fn job(connection: &str) -> String {
    format!(
        "apiVersion: busbar.dev/v1alpha1\nkind: SyncJob\nmetadata: {{name: job}}\nspec: {{connectionRef: {{name: \
         {connection}}}, stream: transactions, parameters: {{accountId: a}}, interval: 1h}}\n"
    )
}

fn route(candidates: &[String], fields: &str) -> String {
    let mut list = String::new();
    for (index, connection) in candidates.iter().enumerate() {
        write!(list, "{{name: c{index}, connectionRef: {{name: {connection}}}}}, ").unwrap();
    }
    format!(
        "apiVersion: busbar.dev/v1alpha1\nkind: BankRoute\nmetadata: {{name: route}}\nspec: {{referenceCurrency: EUR, \
         candidates: [{list}], {fields}}}\n"
    )
}

/// The first `count` connections that the user may use.
fn own(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("own-{index}")).collect()
}

fn entries(connections: &[String]) -> Vec<(String, &'static str)> {
    connections.iter().map(|name| (name.clone(), "")).collect()
}

/// A namespace with the policies, and a user who may write objects but use no connection.
async fn editor(ns: &TestNs) -> User<'_> {
    let policies = bind_policies(ns, &["references"]).await;
    assert_type_checked(ns, &policies).await;
    ns.plane().apply_path(&repository("config/rbac/users.yaml")).await.unwrap();
    let user = User::new(ns, "ann").await;
    user.grant("clusterrole=busbar-edit").await;
    user.until_allowed("create", "bankroutes.busbar.dev").await;
    for manifest in [with_fallback("a", &entries(&own(1))), job(OTHER), route(&own(1), "")] {
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
        let tried = user.try_apply(&with_fallback("a", &entries(&connections))).await;
        assert_denied(&tried, &denied("spec.fallback"));
    }
    for index in 0..NAMES {
        let mut candidates = own(NAMES);
        candidates[index] = OTHER.to_owned();
        assert_denied(&user.try_apply(&route(&candidates, "")).await, &denied("spec.candidates"));
    }
    let scorer = |name: &str| format!("scorer: {{connectionRef: {{name: {name}}}}}");
    assert_denied(&user.try_apply(&route(&own(1), &scorer(OTHER))).await, &denied("spec.scorer"));
    assert_denied(&user.try_apply(&job(OTHER)).await, &denied("spec.connectionRef"));

    // The longest lists: within the cost budget of the API server.
    assert_accepted(&user.apply(&with_fallback("a", &entries(&own(8)))).await);
    assert_accepted(&user.apply(&route(&own(NAMES), &scorer("own-0"))).await);
    assert_accepted(&user.apply(&job("own-0")).await);
    let other = format!(r#"{{"spec":{{"scorer":{{"connectionRef":{{"name":"{OTHER}"}}}}}}}}"#);
    assert_denied(&user.patch("broute/route", &other).await, &denied("spec.scorer"));
}

#[tokio::test]
async fn entries_that_named_the_connection_before_require_no_right() {
    let ns = TestNs::new("kept").await;
    let user = editor(&ns).await;
    let quote = |name: &str| (name.to_owned(), "operations: [quote]");
    ns.apply(&with_fallback("a", &[quote("one"), quote("two")])).await;
    ns.apply(&route(&["one".to_owned(), "two".to_owned()], "scorer: {connectionRef: {name: one}}")).await;
    ns.apply(&job("one")).await;

    let fallback = |entries: &str| format!(r#"{{"spec":{{"fallback":[{entries}]}}}}"#);
    let entry = |name: &str, connection: &str, operations: &str| {
        format!(r#"{{"name":"{name}","connectionRef":{{"name":"{connection}"}}{operations}}}"#)
    };
    let (q, qe, e) =
        (r#","operations":["quote"]"#, r#","operations":["quote","earnings"]"#, r#","operations":["earnings"]"#);
    for (entries, accepted) in [
        // Moved, renamed, repeated.
        (format!("{},{}", entry("f1", "two", q), entry("renamed", "one", q)), true),
        // For further operations, or for all.
        (format!("{},{}", entry("f1", "two", q), entry("f0", "one", qe)), false),
        (format!("{},{}", entry("f0", "one", q), entry("more", "one", e)), false),
        (entry("f0", "one", ""), false),
        // Another connection under the entry's name.
        (format!("{},{}", entry("f0", "three", q), entry("f1", "two", q)), false),
        (entry("f1", "two", q), true),
    ] {
        let output = user.patch("pconn/a", &fallback(&entries)).await;
        if accepted { assert_accepted(&output) } else { assert_denied(&output, "spec.fallback: ask for a binding") }
    }
    // What was removed is new again.
    assert_denied(
        &user.patch("pconn/a", &fallback(&entry("f0", "one", q))).await,
        "\"one\" to name it in spec.fallback",
    );
    assert_accepted(&user.patch("pconn/a", r#"{"spec":{"timeout":{"request":"5s"}}}"#).await);

    let candidates = |list: &[(&str, &str)]| {
        let entry =
            |(name, more): &(&str, &str)| format!(r#"{{"name":"c-{name}","connectionRef":{{"name":"{name}"}}{more}}}"#);
        format!(r#"{{"spec":{{"candidates":[{}]}}}}"#, list.iter().map(entry).collect::<Vec<_>>().join(","))
    };
    assert_accepted(&user.patch("broute/route", &candidates(&[("two", r#","tier":"Fallback""#), ("one", "")])).await);
    assert_denied(
        &user.patch("broute/route", &candidates(&[("one", ""), ("three", "")])).await,
        "\"three\" to name it",
    );
    assert_accepted(&user.patch("broute/route", r#"{"spec":{"scorer":{"maxAge":"1m"},"suspend":true}}"#).await);
    // A candidate is not a scorer.
    let scorer = r#"{"spec":{"scorer":{"connectionRef":{"name":"two"}}}}"#;
    assert_denied(&user.patch("broute/route", scorer).await, "\"two\" to name it in spec.scorer");
    assert_accepted(&user.patch("sjob/job", r#"{"spec":{"interval":"2h","suspend":true}}"#).await);
}

#[tokio::test]
async fn the_shipped_roles_view_edit_and_use_add_up() {
    let ns = TestNs::new("roles").await;
    let ann = editor(&ns).await;
    let bob = User::new(&ns, "bob").await;
    bob.grant("clusterrole=busbar-view").await;
    bob.until_allowed("list", "breakerpolicies.busbar.dev").await;
    let forbidden = bob.try_apply(&job("own-0")).await;
    assert!(!forbidden.success && forbidden.stderr.contains("is forbidden"), "{}", forbidden.stderr);

    let policy =
        "apiVersion: busbar.dev/v1alpha1\nkind: BreakerPolicy\nmetadata: {name: default}\nspec: {preset: Api}\n";
    let forbidden = ann.try_apply(policy).await;
    assert!(!forbidden.success && forbidden.stderr.contains("is forbidden"), "{}", forbidden.stderr);
    ann.grant("clusterrole=busbar-use").await;
    ann.until_allowed("use", "providerconnections.busbar.dev/anything").await;
    for manifest in [with_fallback("a", &entries(&own(2))), job(OTHER), route(&own(2), "")] {
        assert_accepted(&ann.apply(&manifest).await);
    }
    // `use` names; it neither reads nor writes.
    bob.grant("clusterrole=busbar-use").await;
    bob.until_allowed("use", "providerconnections.busbar.dev/anything").await;
    let forbidden = bob.try_apply(&job("own-0")).await;
    assert!(!forbidden.success && forbidden.stderr.contains("is forbidden"), "{}", forbidden.stderr);
}
