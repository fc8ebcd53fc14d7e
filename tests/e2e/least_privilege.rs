//! The operator's rights, compared with what it does: no request is denied, and no granted verb is never used. The API
//! server's audit log is the witness.

use std::collections::BTreeSet;

use busbar::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use busbar::testbed::control_plane::{AuditLog, AuditQuery, AuthorizationDecision, OperatorScope, Options};
use futures::future::join_all;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, BusbarKind, QUICK, bank_connection, condition_of};
use crate::cluster::chart_release::roles;
use crate::cluster::control_planes::{forbidden, own_plane};
use crate::cluster::failover_env::{deleting_job, has_succeeded};
use crate::cluster::gateway_calls::{caller_token, get};
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::cluster::policies::documents;
use crate::cluster::sync_jobs::FEED;
use crate::kit::banks::{arrivals_at, unavailable};
use crate::kit::objects::{candidates, connection, merged_patches, route};
use crate::kit::wait::eventually;

/// A verb on a resource, as a rule grants it: `update busbar.dev/syncjobs/status`.
pub(crate) type Rights = BTreeSet<String>;

fn right(verb: &str, group: &str, resource: &str, subresource: &str) -> String {
    let subresource = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    format!("{verb} {group}/{resource}{subresource}")
}

/// What a role's rules grant.
pub(crate) fn rights_of(role: &Value) -> Rights {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut all = Rights::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                all.extend(texts(rule, "verbs").iter().map(|verb| right(verb, &group, &resource, "")));
            }
        }
    }
    all
}

/// What the chart's roles grant, which are those of `config/rbac/clusterroles.yaml`.
async fn granted() -> Rights {
    let granted: Rights = roles(OperatorScope::Namespace).await.flat_map(rights_of).collect();
    let shipped: Rights =
        documents("config/rbac/clusterroles.yaml").iter().flat_map(|(_, role)| rights_of(role)).collect();
    assert_eq!(granted, shipped);
    granted
}

/// What `user` did and was allowed to do.
pub(crate) fn used(audit: &AuditLog, user: &str) -> Rights {
    let query = AuditQuery { user: Some(user), decision: Some(AuthorizationDecision::Allow), ..AuditQuery::default() };
    let requests = audit.requests(&query).unwrap();
    let resources = requests.iter().filter(|request| !request.resource.is_empty());
    resources.map(|r| right(&r.verb, &r.group, &r.resource, &r.subresource)).collect()
}

/// Edits an object in quick succession while its status is due, until the operator met a conflict and read it again.
async fn conflict<K: BusbarKind>(env: &BankEnv, operator: &Operator, plural: &str, name: &str) {
    let api = env.ns.api::<K>();
    let query = AuditQuery { verb: Some("get"), resource: Some(plural), name: Some(name), ..operator.requests() };
    let mut edit = 0;
    eventually(format!("{plural}/{name} is read again after a conflict"), async || {
        env.request::<K>(name).await;
        let edits = (0..20).map(|n| {
            let patch = Patch::Merge(json!({"metadata": {"labels": {format!("edit-{n}"): edit.to_string()}}}));
            let api = api.clone();
            async move { api.patch_metadata(name, &PatchParams::default(), &patch).await.map(drop) }
        });
        join_all(edits).await.into_iter().collect::<Result<(), _>>().unwrap();
        edit += 1;
        !operator.audit().requests(&query).unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn every_granted_verb_is_used_and_no_request_of_the_operator_is_denied() {
    let env = BankEnv::new("privilege").await;
    let a = env.bank("a").await;
    env.bank("b").await;
    env.mono("mono", |c| c).await;
    env.put(&deleting_job()).await;
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    let mut operator = Operator::ready(&env.ns, &[]).await;
    let ledger = format!("--ledger=sqlite:{}", env.ns.ledger_file("a").display());
    let mut standby = Operator::start_replica(&env.ns, "b", &[&ledger]).await;
    standby.wait_ready().await;
    env.until(FEED, "the job ran", has_succeeded).await;

    // A bank that fails twice in the same way: the second time continues the series of the first event.
    let active =
        |name: &'static str| move |r: &BankRoute| (r.status.as_ref()?.active.as_deref()? == name).then_some(());
    for _ in 0..2 {
        env.until("payouts", "a takes payouts", active("a")).await;
        a.fail_with(unavailable()).await.unwrap();
        env.until("payouts", "b takes payouts", active("b")).await;
        a.recover().await;
    }
    env.until("payouts", "a takes payouts", active("a")).await;
    // A call through the gateway, and a scrape.
    let caller = caller_token(&env.ns, "caller", Some("busbar-caller")).await;
    get(&operator, &format!("/api/providers/{}/a/anything", env.ns.name()), &caller).await;

    conflict::<ProviderConnection>(&env, &operator, "providerconnections", "a").await;
    conflict::<SyncJob>(&env, &operator, "syncjobs", FEED).await;
    conflict::<BankRoute>(&env, &operator, "bankroutes", "payouts").await;
    conflict::<BreakerPolicy>(&env, &operator, "breakerpolicies", QUICK).await;
    env.ns.kubectl(&["delete", "sjob", FEED]).await.ok();

    // The standby leads after its leader's end.
    assert!(operator.sigterm().await.success());
    standby.wait_leading().await;
    let (granted, used) = (granted().await, used(&standby.audit(), standby.user()));
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted by the chart and never used: {unused:#?}");
    let more: Vec<_> = used.difference(&granted).collect();
    assert!(more.is_empty(), "used and not granted by the chart: {more:#?}");
    let denied = forbidden(&standby.audit(), standby.user());
    assert!(denied.is_empty(), "denied: {denied:#?}");
    operator.finish(&env.ns).await;
    standby.finish(&env.ns).await;
}

#[tokio::test]
async fn of_all_leases_the_operator_may_change_its_own_only() {
    let ns = TestNs::new("leases").await;
    let identity = ns.plane().grant_operator(ns.name(), OperatorScope::Namespace).await.unwrap();
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        for (name, expected) in
            [("busbar", ["get", "watch", "update", "create"].contains(&verb)), ("other", verb == "create")]
        {
            let attributes = ResourceAttributes {
                namespace: Some(ns.name().to_owned()),
                verb: Some(verb.to_owned()),
                group: Some("coordination.k8s.io".to_owned()),
                resource: Some("leases".to_owned()),
                name: Some(name.to_owned()),
                ..ResourceAttributes::default()
            };
            let allowed = ns.plane().is_access_allowed(&identity.user, attributes).await.unwrap();
            assert_eq!(allowed, expected, "{verb} leases/{name}");
        }
    }
}

#[tokio::test]
async fn a_cluster_wide_operator_reads_secrets_only_where_the_role_is_bound() {
    let plane = own_plane(Options::default()).await;
    let home = BankEnv::on(&plane, "home").await;
    let mut operator = Operator::start_cluster_wide(&home.ns, &["--secret-refresh=1s"]).await;
    operator.wait_ready().await;
    let elsewhere = BankEnv::on(&plane, "elsewhere").await;
    let bank = elsewhere.bank_with_secret("bank").await;
    elsewhere.put(&bank_connection(&bank, json!({}))).await;
    let passive = json!({"healthCheck": {"path": null, "interval": null, "timeout": null}});
    let passive = merged_patches(passive, json!({"healthCheck": {"mode": "Passive"}}));
    elsewhere.put(&connection("open", &bank.base_url(), passive)).await;
    let ready = |c: &ProviderConnection| Some(condition_of(&c.status.as_ref()?.conditions, "Ready")?.0);
    // Objects are watched everywhere, so what needs no Secret works without a binding.
    elsewhere.until("open", "it is Ready", |c| (ready(c)? == "True").then_some(())).await;
    let namespace = Some(elsewhere.ns.name());
    let secret_requests = AuditQuery { resource: Some("secrets"), namespace, ..operator.requests() };
    eventually("the read of the Secret is denied", async || {
        let denied = operator.audit().requests(&secret_requests).unwrap();
        denied.iter().any(|r| r.decision == Some(AuthorizationDecision::Forbid))
    })
    .await;
    assert_eq!(arrivals_at(&bank, "/health"), 0, "nothing is sent");

    // The command of the condition's remedy, with the operator's own namespace.
    let account = format!("--serviceaccount={}:busbar-operator", home.ns.name());
    let command = ["create", "rolebinding", "busbar-secrets", "--clusterrole=busbar-secrets", &account];
    elsewhere.ns.kubectl(&command).await.ok();
    elsewhere.until("bank", "it is Ready", |c| (ready(c)? == "True").then_some(())).await;
    operator.expect_forbidden();
    operator.finish(&home.ns).await;
}
