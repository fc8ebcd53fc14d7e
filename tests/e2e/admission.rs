//! The policies of `config/admission/`, with users who have and who do not have the rights that they require.

use serde_json::{Value, json};

use crate::cluster::control_planes::repository;
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::cluster::policies::{User, assert_accepted, assert_denied, assert_type_checked, bind_policies};
use crate::kit::objects::{bearer_auth, connection, merged_patches};
use crate::kit::wait::eventually;

/// A namespace with the two policies in effect.
async fn policies_in_effect(topic: &str) -> TestNs {
    let ns = TestNs::new(topic).await;
    bind_policies(&ns, &["secrets", "override"]).await;
    ns.secret("bank-a", &[("token", ns.canary("bank-a").as_bytes())]).await;
    ns.secret("bank-b", &[("token", ns.canary("bank-b").as_bytes())]).await;
    ns.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: editor}\nrules:\n\
         - {apiGroups: [busbar.dev], resources: [providerconnections], verbs: [get, list, create, update, patch]}\n",
    )
    .await;
    ns
}

/// A user who may write connections, and nothing else.
async fn editor(ns: &TestNs) -> User<'_> {
    let editor = User::new(ns, "ann").await;
    editor.grant("role=editor").await;
    editor.until_allowed("create", "providerconnections.busbar.dev").await;
    // Each policy takes effect some time after it was written.
    for manifest in [with_auth("canary", "unknown"), with_override("canary", "ForcedOpen")] {
        editor.until_denied(&manifest).await;
    }
    editor
}

/// Lets `user` read one Secret.
async fn may_read(ns: &TestNs, user: &User<'_>, secret: &str) {
    let role = format!("read-{secret}");
    let args = ["create", "role", &role, "--verb=get", "--resource=secrets", &format!("--resource-name={secret}")];
    ns.kubectl(&args).await.ok();
    user.grant(&format!("role={role}")).await;
    user.until_allowed("get", &format!("secrets/{secret}")).await;
}

/// A connection that is never called.
fn passive(name: &str, patch: Value) -> Value {
    let spec =
        json!({"endpoint": {"insecure": null}, "healthCheck": {"path": null, "interval": null, "timeout": null}});
    let passive = merged_patches(spec, json!({"healthCheck": {"mode": "Passive"}}));
    connection(name, "https://bank.example", merged_patches(passive, patch))
}

fn with_auth(name: &str, secret: &str) -> Value {
    passive(name, bearer_auth(secret))
}

fn with_override(name: &str, mode: &str) -> Value {
    let until = "2030-01-31T18:00:00Z";
    passive(name, json!({"circuitOverride": {"mode": mode, "untilTime": until, "reason": "maintenance"}}))
}

#[tokio::test]
async fn the_shipped_policies_apply_without_a_warning() {
    let ns = policies_in_effect("policies").await;
    for file in ["secrets", "references", "override", "operator", "in-use", "definitions"] {
        let path = repository(&format!("config/admission/{file}.yaml"));
        // A dry run, because the bindings affect every namespace.
        let args = ["apply", "--server-side", "--dry-run=server", "-f", &path.to_string_lossy()];
        assert_accepted(&ns.kubectl(&args).await);
    }
    let policies = bind_policies(&ns, &["secrets", "references", "override"]).await;
    assert_type_checked(&ns, &policies).await;
}

#[tokio::test]
async fn only_a_user_who_may_read_a_secret_may_refer_to_it() {
    let ns = policies_in_effect("names").await;
    let editor = editor(&ns).await;
    let secret = json!({"name": "bank-a"});
    let url = "https://bank.example/t";
    let references = [
        json!({"auth": {"bearer": {"secretRef": secret}}}),
        json!({"auth": {"basic": {"secretRef": secret}}}),
        json!({"auth": {"profile": {"secretRef": secret}}}),
        json!({"auth": {"apiKey": {"placement": "Header", "name": "x-key", "secretRef": secret}}}),
        json!({"auth": {"oauth2ClientCredentials": {"tokenURL": url, "secretRef": secret}}}),
        json!({"auth": {"oauth2RefreshToken": {"tokenURL": url, "secretRef": secret}}}),
        json!({"tls": {"certSecretRef": secret}}),
        json!({"webhook": {"hmacSHA512": {"secretRef": secret}}}),
        json!({"webhook": {"staticSecret": {"secretRef": secret}}}),
    ];
    for reference in &references {
        let output = editor.try_apply(&passive("bank", reference.clone())).await;
        assert_denied(&output, "must be allowed to get Secret \"bank-a\", which spec.");
    }
    assert_accepted(&editor.try_apply(&passive("bank", json!({}))).await);

    may_read(&ns, &editor, "bank-a").await;
    for reference in &references {
        assert_accepted(&editor.try_apply(&passive("bank", reference.clone())).await);
    }
    // All three fields at once: within the cost budget of expressions.
    let every = [0, 6, 8].map(|index| references[index].clone()).into_iter().fold(json!({}), merged_patches);
    assert_accepted(&editor.apply(&passive("bank", every)).await);
    // The right to one Secret is not the right to another.
    assert_denied(
        &editor.patch("pconn/bank", r#"{"spec":{"auth":{"bearer":{"secretRef":{"name":"bank-b"}}}}}"#).await,
        "must be allowed to get Secret \"bank-b\", which spec.auth names: ask for a Role",
    );
}

#[tokio::test]
async fn a_user_without_the_secret_may_not_redirect_its_credential() {
    let ns = policies_in_effect("edits").await;
    let editor = editor(&ns).await;
    ns.apply(&with_auth("bank", "bank-a").to_string()).await;
    for harmless in [
        r#"{"spec":{"suspend":true}}"#,
        r#"{"spec":{"timeout":{"request":"10s"}}}"#,
        r#"{"metadata":{"annotations":{"busbar.dev/requestedAt":"now"}}}"#,
    ] {
        assert_accepted(&editor.patch("pconn/bank", harmless).await);
    }
    for elsewhere in [
        r#"{"spec":{"endpoint":{"baseURL":"https://attacker.example"}}}"#,
        r#"{"spec":{"auth":{"bearer":{"secretRef":{"name":"bank-a","key":"other"}}}}}"#,
        r#"{"spec":{"tls":{"serverName":"attacker.example"}}}"#,
    ] {
        assert_denied(&editor.patch("pconn/bank", elsewhere).await, "must be allowed to get Secret \"bank-a\"");
    }
    // Removing the credential sends nothing anywhere.
    assert_accepted(&editor.patch("pconn/bank", r#"{"spec":{"auth":null}}"#).await);
}

#[tokio::test]
async fn a_circuit_override_requires_the_verb_override() {
    let ns = policies_in_effect("override").await;
    let editor = editor(&ns).await;
    let message = "must have the verb override on providerconnections";
    assert_denied(&editor.apply(&with_override("bank", "ForcedOpen")).await, message);
    assert_accepted(&editor.apply(&passive("bank", json!({}))).await);
    let set = r#"{"spec":{"circuitOverride":{"mode":"ForcedOpen","untilTime":"2030-01-31T18:00:00Z","reason":"r"}}}"#;
    let unset = r#"{"spec":{"circuitOverride":null}}"#;
    assert_denied(&editor.patch("pconn/bank", set).await, message);

    let olu = User::new(&ns, "olu").await;
    olu.grant("clusterrole=busbar-circuit-override").await;
    olu.until_allowed("override", "providerconnections.busbar.dev").await;
    assert_accepted(&olu.patch("pconn/bank", set).await);
    // Others may still edit other fields, but not the override.
    assert_accepted(&editor.patch("pconn/bank", r#"{"spec":{"timeout":{"request":"10s"}}}"#).await);
    assert_denied(&editor.patch("pconn/bank", unset).await, message);
    assert_denied(&editor.patch("pconn/bank", &set.replace("ForcedOpen", "ForcedClosed")).await, message);
    assert_accepted(&olu.patch("pconn/bank", unset).await);
}

#[tokio::test]
async fn the_operator_works_with_the_policies() {
    let ns = policies_in_effect("operator").await;
    editor(&ns).await;
    ns.apply(&with_auth("bank", "bank-a").to_string()).await;
    let operator = Operator::ready(&ns, &[]).await;
    eventually("the status of the connection", async || {
        (ns.json("pconn", "bank").await?["status"]["observedGeneration"] == 1).then_some(())
    })
    .await;
    // Forbidden requests of the operator would be found here.
    operator.finish(&ns).await;
}
