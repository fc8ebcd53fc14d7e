//! The policies of `config/admission/`, with users who have and who do not have the rights that they require.
//!
//! The policies are installed on the shared control plane as shipped, and each test binds them to its own namespace alone,
//! so that they affect no other test. Users are service accounts of that namespace, each with a token of its own.

use serde_json::{Value, json};

use crate::cluster::control_planes::repository;
use crate::cluster::namespace::{KubectlOutput, TestNs};
use crate::cluster::operator::Operator;
use crate::kit::objects::{bearer_auth, connection, merged_patches};
use crate::kit::wait::eventually;

/// May write connections, and nothing else.
const EDITOR: &str = "ann";

/// A namespace with an editor, and the two policies bound to it.
async fn policies_in_effect(topic: &str) -> TestNs {
    let ns = TestNs::new(topic).await;
    for policy in ["secrets", "override"] {
        let text = std::fs::read_to_string(repository(&format!("config/admission/{policy}.yaml"))).unwrap();
        // Everything but the binding for the whole cluster.
        let shipped: Vec<&str> =
            text.split("\n---\n").filter(|part| !part.contains("\nkind: ValidatingAdmissionPolicyBinding\n")).collect();
        ns.plane().apply(&shipped.join("\n---\n")).await.unwrap();
    }
    let name = ns.name();
    for policy in ["busbar-secret-references", "busbar-circuit-override"] {
        ns.plane()
            .apply(&format!(
                "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\n\
                 metadata: {{name: {policy}-{name}}}\nspec:\n  policyName: {policy}\n  validationActions: [Deny]\n  \
                 matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}}}\n"
            ))
            .await
            .unwrap();
    }
    ns.secret("bank-a", &[("token", ns.canary("bank-a").as_bytes())]).await;
    ns.secret("bank-b", &[("token", ns.canary("bank-b").as_bytes())]).await;
    ns.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: editor}\nrules:\n\
         - {apiGroups: [busbar.dev], resources: [providerconnections], verbs: [get, list, create, update, patch]}\n",
    )
    .await;
    grant(&ns, "editor", "role=editor", EDITOR).await;
    allowed(&ns, EDITOR, "create", "busbar.dev", "providerconnections").await;
    // Each policy takes effect some time after it was written.
    let denied = [with_auth("canary", "unknown"), with_override("canary", "ForcedOpen")];
    for manifest in denied {
        eventually("the policies are in effect", async || {
            let output = write_as(&ns, EDITOR, &["--dry-run=server"], &manifest).await;
            if output.stderr.contains("denied request") { Ok(()) } else { Err(output) }
        })
        .await;
    }
    ns
}

/// The full name of a user.
fn full_name(ns: &TestNs, user: &str) -> String {
    format!("system:serviceaccount:{}:{user}", ns.name())
}

/// Binds a role to a user, who is created with the first.
async fn grant(ns: &TestNs, binding: &str, role: &str, user: &str) {
    ns.apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {user}}}\n")).await;
    let account = format!("--serviceaccount={}:{user}", ns.name());
    ns.kubectl(&["create", "rolebinding", binding, &format!("--{role}"), &account]).await.ok();
}

/// Runs kubectl with a token of the user and without admin credentials.
async fn kubectl_by(ns: &TestNs, user: &str, args: &[&str], input: &str) -> KubectlOutput {
    let own = ns.plane().service_account_kubeconfig(ns.name(), user).await.unwrap();
    let own = format!("--kubeconfig={}", own.display());
    let args: Vec<&str> = [own.as_str()].into_iter().chain(args.iter().copied()).collect();
    ns.kubectl_with(&args, input).await
}

/// Waits until a right is in effect.
async fn allowed(ns: &TestNs, user: &str, verb: &str, group: &str, resource: &str) {
    eventually("the right is in effect", async || {
        ns.plane().is_allowed(&full_name(ns, user), ns.name(), verb, group, resource).await.unwrap()
    })
    .await;
}

/// Lets `user` read one Secret.
async fn may_read(ns: &TestNs, user: &str, secret: &str) {
    let role = format!("read-{secret}");
    let args = ["create", "role", &role, "--verb=get", "--resource=secrets", &format!("--resource-name={secret}")];
    ns.kubectl(&args).await.ok();
    grant(ns, &format!("{user}-{role}"), &format!("role={role}"), user).await;
    eventually("the right to the Secret is in effect", async || {
        kubectl_by(ns, user, &["auth", "can-i", "get", &format!("secrets/{secret}")], "").await.success
    })
    .await;
}

async fn write_as(ns: &TestNs, user: &str, flags: &[&str], manifest: &Value) -> KubectlOutput {
    let args: Vec<&str> = ["apply", "--server-side", "-f", "-"].iter().chain(flags).copied().collect();
    kubectl_by(ns, user, &args, &manifest.to_string()).await
}

async fn patch_as(ns: &TestNs, user: &str, name: &str, patch: &str) -> KubectlOutput {
    kubectl_by(ns, user, &["patch", "pconn", name, "--type=merge", "-p", patch], "").await
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

#[track_caller]
fn assert_denied(output: &KubectlOutput, message: &str) {
    assert!(!output.success, "{} was accepted", output.command);
    assert!(output.stderr.contains("denied request: must ") && output.stderr.contains(message), "{}", output.stderr);
}

#[track_caller]
fn assert_accepted(output: &KubectlOutput) {
    assert!(output.success && output.stderr.is_empty(), "{}: {}", output.command, output.stderr);
}

#[tokio::test]
async fn the_shipped_policies_apply_without_a_warning() {
    let ns = policies_in_effect("policies").await;
    for file in ["secrets", "override", "operator"] {
        let path = repository(&format!("config/admission/{file}.yaml"));
        // A dry run, because the bindings affect every namespace.
        let args = ["apply", "--server-side", "--dry-run=server", "-f", &path.to_string_lossy()];
        assert_accepted(&ns.kubectl(&args).await);
    }
    for policy in ["busbar-secret-references", "busbar-circuit-override"] {
        let checked = eventually("the expressions are type-checked", async || {
            let policy = ns.json("validatingadmissionpolicy", policy).await?;
            // Done by the controller-manager, where there is one.
            let done = policy["status"]["observedGeneration"].is_number() || !ns.plane().has_controller_manager();
            done.then_some(policy)
        })
        .await;
        assert_eq!(checked["status"]["typeChecking"]["expressionWarnings"], Value::Null, "{policy}: {checked:#}");
        assert_eq!(checked["spec"]["failurePolicy"], "Fail");
    }
}

#[tokio::test]
async fn only_a_user_who_may_read_a_secret_may_refer_to_it() {
    let ns = policies_in_effect("names").await;
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
        let output = write_as(&ns, EDITOR, &["--dry-run=server"], &passive("bank", reference.clone())).await;
        assert_denied(&output, "must be allowed to get Secret \"bank-a\", which spec.");
    }
    assert_accepted(&write_as(&ns, EDITOR, &["--dry-run=server"], &passive("bank", json!({}))).await);

    may_read(&ns, EDITOR, "bank-a").await;
    for reference in &references {
        assert_accepted(&write_as(&ns, EDITOR, &["--dry-run=server"], &passive("bank", reference.clone())).await);
    }
    // All three fields at once: within the cost budget of expressions.
    let every = [0, 6, 8].map(|index| references[index].clone()).into_iter().fold(json!({}), merged_patches);
    assert_accepted(&write_as(&ns, EDITOR, &[], &passive("bank", every)).await);
    // The right to one Secret is not the right to another.
    assert_denied(
        &patch_as(&ns, EDITOR, "bank", r#"{"spec":{"auth":{"bearer":{"secretRef":{"name":"bank-b"}}}}}"#).await,
        "must be allowed to get Secret \"bank-b\", which spec.auth names: ask for a Role",
    );
}

#[tokio::test]
async fn a_user_without_the_secret_may_not_redirect_its_credential() {
    let ns = policies_in_effect("edits").await;
    ns.apply(&with_auth("bank", "bank-a").to_string()).await;
    for harmless in [
        r#"{"spec":{"suspend":true}}"#,
        r#"{"spec":{"timeout":{"request":"10s"}}}"#,
        r#"{"metadata":{"annotations":{"busbar.dev/requestedAt":"now"}}}"#,
    ] {
        assert_accepted(&patch_as(&ns, EDITOR, "bank", harmless).await);
    }
    for elsewhere in [
        r#"{"spec":{"endpoint":{"baseURL":"https://attacker.example"}}}"#,
        r#"{"spec":{"auth":{"bearer":{"secretRef":{"name":"bank-a","key":"other"}}}}}"#,
        r#"{"spec":{"tls":{"serverName":"attacker.example"}}}"#,
    ] {
        assert_denied(&patch_as(&ns, EDITOR, "bank", elsewhere).await, "must be allowed to get Secret \"bank-a\"");
    }
    // Removing the credential sends nothing anywhere.
    assert_accepted(&patch_as(&ns, EDITOR, "bank", r#"{"spec":{"auth":null}}"#).await);
}

#[tokio::test]
async fn a_circuit_override_requires_the_verb_override() {
    let ns = policies_in_effect("override").await;
    let message = "must have the verb override on providerconnections";
    assert_denied(&write_as(&ns, EDITOR, &[], &with_override("bank", "ForcedOpen")).await, message);
    assert_accepted(&write_as(&ns, EDITOR, &[], &passive("bank", json!({}))).await);
    let set = r#"{"spec":{"circuitOverride":{"mode":"ForcedOpen","untilTime":"2030-01-31T18:00:00Z","reason":"r"}}}"#;
    let unset = r#"{"spec":{"circuitOverride":null}}"#;
    assert_denied(&patch_as(&ns, EDITOR, "bank", set).await, message);

    grant(&ns, "olu-override", "clusterrole=busbar-circuit-override", "olu").await;
    allowed(&ns, "olu", "override", "busbar.dev", "providerconnections").await;
    assert_accepted(&patch_as(&ns, "olu", "bank", set).await);
    // Others may still edit other fields, but not the override.
    assert_accepted(&patch_as(&ns, EDITOR, "bank", r#"{"spec":{"timeout":{"request":"10s"}}}"#).await);
    assert_denied(&patch_as(&ns, EDITOR, "bank", unset).await, message);
    assert_denied(&patch_as(&ns, EDITOR, "bank", &set.replace("ForcedOpen", "ForcedClosed")).await, message);
    assert_accepted(&patch_as(&ns, "olu", "bank", unset).await);
}

#[tokio::test]
async fn the_operator_works_with_the_policies() {
    let ns = policies_in_effect("operator").await;
    ns.apply(&with_auth("bank", "bank-a").to_string()).await;
    let operator = Operator::ready(&ns, &[]).await;
    eventually("the status of the connection", async || {
        (ns.json("pconn", "bank").await?["status"]["observedGeneration"] == 1).then_some(())
    })
    .await;
    // Forbidden requests of the operator would be found here.
    operator.finish(&ns).await;
}
