//! A credential never goes where it was not meant: the three ways in which it did, on a real API server. Copies of Secrets
//! are a whole minute old here, as by default. Each bank answers 401 to any key but its own.

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::sim::{BankHandle, RequiredAuth};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::{Value, json};

use super::{ConnectionEnv, is, is_verified};
use crate::cluster::bank_env::{BankEnv, condition_of};
use crate::cluster::control_planes::fault_plane;
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::banks::further_arrivals;
use crate::kit::objects::{bearer_auth, connection};
use crate::kit::wait::eventually;

const REFRESH: &str = "--secret-refresh=60s";

/// A bank and its key.
async fn bank(env: &BankEnv, name: &str) -> (BankHandle, String) {
    let key = env.ns.canary(name);
    (env.add_bank(name, RequiredAuth::Bearer { token: key.clone() }).await, key)
}

/// Whether the bank got its own key and no other.
fn got_only_its_own(bank: &BankHandle) {
    let all = bank.arrivals().entries;
    assert!(all.iter().all(|arrival| arrival.status == Some(200)), "{} got another key: {all:#?}", bank.name());
}

fn secret_manifest(name: &str, key: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"token": key}})
}

#[tokio::test]
async fn one_apply_that_rotates_and_moves_sends_no_key_to_the_other_host() {
    let env = ConnectionEnv::with_flags("moved", |_| vec![REFRESH.to_owned()]).await;
    // `kubectl apply` writes the objects in the order of the manifest, for a folder in that of the file names.
    for (name, secret_first) in [("secret-first", true), ("connection-first", false)] {
        let ((from, old), (to, new)) =
            (bank(&env, &format!("{name}-from")).await, bank(&env, &format!("{name}-to")).await);
        env.ns.secret(name, &[("token", old.as_bytes())]).await;
        env.put(&connection(name, &from.base_url(), bearer_auth(name))).await;
        env.until_verified(name).await;

        let mut manifests = vec![secret_manifest(name, &new), connection(name, &to.base_url(), bearer_auth(name))];
        if !secret_first {
            manifests.reverse();
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string();
        env.ns.kubectl_with(&["apply", "-f", "-"], &list).await.ok();
        let host = to.address().to_string();
        env.until_connection(name, "moved", |o| is_verified(o) && o["status"]["host"] == host).await;
        further_arrivals(&to, "/health", 2).await;
        got_only_its_own(&to);
        got_only_its_own(&from);
    }
    env.finish().await;
}

#[tokio::test]
async fn a_deleted_secret_is_not_used_by_a_new_object() {
    let env = ConnectionEnv::with_flags("gone", |_| vec![REFRESH.to_owned()]).await;
    let ((first, old), (second, new)) = (bank(&env, "first").await, bank(&env, "second").await);
    env.ns.secret("token", &[("token", old.as_bytes())]).await;
    env.put(&connection("first", &first.base_url(), bearer_auth("token"))).await;
    env.until_verified("first").await;

    env.ns.api::<Secret>().delete("token", &DeleteParams::default()).await.unwrap();
    env.delete("ProviderConnection", "first").await;
    env.put(&connection("second", &second.base_url(), bearer_auth("token"))).await;
    env.until_connection("second", "without a Secret", |o| is(o, "Ready", "False", "SecretNotFound")).await;
    assert_eq!(second.arrivals().next, 0, "nothing is sent");

    env.ns.secret("token", &[("token", new.as_bytes())]).await;
    env.patch_spec::<ProviderConnection>("second", json!({"healthCheck": {"interval": "6s"}})).await;
    env.until_verified("second").await;
    got_only_its_own(&second);
    env.finish().await;
}

#[tokio::test]
async fn a_namespace_created_anew_never_gets_the_key_of_its_former_tenant() {
    let plane = fault_plane().await;
    let home = TestNs::on(&plane, "home").await;
    let mut operator = Operator::start_cluster_wide(&home, &[REFRESH]).await;
    // Until the new tenant's administrator has bound the role.
    operator.expect_forbidden();
    operator.wait_ready().await;
    let tenant = BankEnv::empty(&plane, "tenant").await;
    let name = tenant.ns.name();
    plane.grant_secrets(name, home.name()).await.unwrap();
    let ((first, old), (second, new)) = (bank(&tenant, "first").await, bank(&tenant, "second").await);
    tenant.ns.secret("token", &[("token", old.as_bytes())]).await;
    tenant.put(&connection("bank", &first.base_url(), bearer_auth("token"))).await;
    let verified = |object: &ProviderConnection| {
        let ready = condition_of(&object.status.as_ref()?.conditions, "Ready")?;
        (ready == ("True".to_owned(), "Verified".to_owned())).then_some(())
    };
    tenant.until::<ProviderConnection, _>("bank", "verified", verified).await;

    tenant.ns.kubectl(&["delete", "namespace", name, "--wait=false"]).await.ok();
    eventually("the namespace is deleted", async || {
        let output = tenant.ns.kubectl(&["get", "namespace", name, "--ignore-not-found", "-o", "name"]).await;
        if output.success && output.stdout.is_empty() { Ok(()) } else { Err(output) }
    })
    .await;
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(tenant.ns.client()).create(&PostParams::default(), &namespace).await.unwrap();
    plane.grant_secrets(name, home.name()).await.unwrap();
    // The same names; its own Secret comes later.
    tenant.put(&connection("bank", &second.base_url(), bearer_auth("token"))).await;
    let waiting = |object: &ProviderConnection| {
        let (status, _) = condition_of(&object.status.as_ref()?.conditions, "Ready")?;
        (status == "False").then_some(())
    };
    tenant.until::<ProviderConnection, _>("bank", "without a Secret", waiting).await;
    assert_eq!(second.arrivals().next, 0, "nothing is sent");

    tenant.ns.secret("token", &[("token", new.as_bytes())]).await;
    tenant.patch_spec::<ProviderConnection>("bank", json!({"healthCheck": {"interval": "6s"}})).await;
    tenant.until::<ProviderConnection, _>("bank", "verified", verified).await;
    further_arrivals(&second, "/health", 2).await;
    got_only_its_own(&second);
    tenant.ns.kubectl(&["delete", "namespace", name, "--wait=false"]).await.ok();
    tenant.ns.kubectl(&["delete", "clusterrolebinding", "busbar-operator"]).await.ok();
    operator.finish(&home).await;
}
