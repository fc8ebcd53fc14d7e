//! The policies of `config/admission/`, with users who have and have not the rights that they ask for.
//!
//! The policies stand on the shared control plane as shipped, and each test binds them to its own namespace alone, so
//! that no other test meets them. Users are service accounts of that namespace, each with a token of its own.

use serde_json::Value;

use crate::support::plane::{PATIENCE, repository};
use crate::support::{Operator, Output, TestNs, eventually};

/// May write connections, and nothing else.
const EDITOR: &str = "ann";

/// Rights in the test's namespace, and the two policies bound to it.
async fn policies_in_force(topic: &str) -> TestNs {
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
    // A policy takes effect a while after it was written, each at its own time.
    let refused = [with_auth("canary", "nobodys"), with_override("canary", "ForcedOpen")];
    for manifest in refused {
        eventually(PATIENCE, "the policies are in force", async || {
            let tried = write_as(&ns, EDITOR, &["--dry-run=server"], &manifest).await;
            (!tried.success && tried.stderr.contains("denied request")).then_some(())
        })
        .await;
    }
    ns
}

/// The name that the API server knows a user by.
fn full(ns: &TestNs, user: &str) -> String {
    format!("system:serviceaccount:{}:{user}", ns.name())
}

/// Binds a role to a user, who comes into being with the first.
async fn grant(ns: &TestNs, binding: &str, role: &str, user: &str) {
    ns.apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {user}}}\n")).await;
    let account = format!("--serviceaccount={}:{user}", ns.name());
    ns.kubectl(&["create", "rolebinding", binding, &format!("--{role}"), &account]).await.ok().unwrap();
}

/// Runs kubectl with a token of the user's, and nothing of the admin's.
async fn kubectl_by(ns: &TestNs, user: &str, args: &[&str], input: &str) -> Output {
    let own = ns.plane().service_account_kubeconfig(ns.name(), user).await.unwrap();
    let own = format!("--kubeconfig={}", own.display());
    let args: Vec<&str> = [own.as_str()].into_iter().chain(args.iter().copied()).collect();
    ns.kubectl_with(&args, input).await
}

/// Waits until the authorizer knows of a right.
async fn allowed(ns: &TestNs, user: &str, verb: &str, group: &str, resource: &str) {
    eventually(PATIENCE, "the right is in force", async || {
        ns.plane().is_allowed(&full(ns, user), ns.name(), verb, group, resource).await.unwrap().then_some(())
    })
    .await;
}

/// Lets `user` read one Secret.
async fn may_read(ns: &TestNs, user: &str, secret: &str) {
    let role = format!("read-{secret}");
    let args = ["create", "role", &role, "--verb=get", "--resource=secrets", &format!("--resource-name={secret}")];
    ns.kubectl(&args).await.ok().unwrap();
    grant(ns, &format!("{user}-{role}"), &format!("role={role}"), user).await;
    eventually(PATIENCE, "the right to the Secret is in force", async || {
        kubectl_by(ns, user, &["auth", "can-i", "get", &format!("secrets/{secret}")], "").await.success.then_some(())
    })
    .await;
}

async fn write_as(ns: &TestNs, user: &str, flags: &[&str], manifest: &str) -> Output {
    let args: Vec<&str> = ["apply", "--server-side", "-f", "-"].iter().chain(flags).copied().collect();
    kubectl_by(ns, user, &args, manifest).await
}

async fn patch_as(ns: &TestNs, user: &str, name: &str, patch: &str) -> Output {
    kubectl_by(ns, user, &["patch", "pconn", name, "--type=merge", "-p", patch], "").await
}

fn connection(name: &str, more: &str) -> String {
    format!(
        "apiVersion: busbar.dev/v1alpha1\nkind: ProviderConnection\nmetadata: {{name: {name}}}\nspec:\n  \
         provider: generic\n  environment: Sandbox\n  endpoint: {{baseURL: \"https://bank.example\"}}\n  \
         healthCheck: {{mode: Passive}}\n{more}"
    )
}

fn with_auth(name: &str, secret: &str) -> String {
    connection(name, &format!("  auth: {{bearer: {{secretRef: {{name: {secret}}}}}}}\n"))
}

fn with_override(name: &str, mode: &str) -> String {
    connection(
        name,
        &format!("  circuitOverride: {{mode: {mode}, untilTime: \"2030-01-31T18:00:00Z\", reason: maintenance}}\n"),
    )
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    assert!(!output.success, "{} was accepted", output.command);
    assert!(output.stderr.contains("denied request: must ") && output.stderr.contains(why), "{}", output.stderr);
}

#[track_caller]
fn accepted(output: &Output) {
    assert!(output.success && output.stderr.is_empty(), "{}: {}", output.command, output.stderr);
}

#[tokio::test]
async fn the_shipped_policies_apply_without_a_warning_and_the_server_finds_no_fault_in_their_expressions() {
    let ns = policies_in_force("policies").await;
    for file in ["secrets", "override", "operator"] {
        let path = repository(&format!("config/admission/{file}.yaml"));
        // Dry, for the bindings reach every namespace.
        let args = ["apply", "--server-side", "--dry-run=server", "-f", &path.to_string_lossy()];
        accepted(&ns.kubectl(&args).await);
    }
    for policy in ["busbar-secret-references", "busbar-circuit-override"] {
        let checked = eventually(PATIENCE, "the expressions are type-checked", async || {
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
async fn only_who_may_read_a_secret_can_name_it() {
    let ns = policies_in_force("names").await;
    let places = [
        "  auth: {bearer: {secretRef: {name: bank-a}}}\n",
        "  auth: {basic: {secretRef: {name: bank-a}}}\n",
        "  auth: {profile: {secretRef: {name: bank-a}}}\n",
        "  auth: {apiKey: {placement: Header, name: x-key, secretRef: {name: bank-a}}}\n",
        "  auth: {oauth2ClientCredentials: {tokenURL: \"https://bank.example/t\", secretRef: {name: bank-a}}}\n",
        "  auth: {oauth2RefreshToken: {tokenURL: \"https://bank.example/t\", secretRef: {name: bank-a}}}\n",
        "  tls: {certSecretRef: {name: bank-a}}\n",
        "  webhook: {hmacSHA512: {secretRef: {name: bank-a}}}\n",
        "  webhook: {staticSecret: {secretRef: {name: bank-a}}}\n",
    ];
    for place in places {
        let output = write_as(&ns, EDITOR, &["--dry-run=server"], &connection("bank", place)).await;
        refused(&output, "must be allowed to get Secret \"bank-a\", which spec.");
    }
    accepted(&write_as(&ns, EDITOR, &["--dry-run=server"], &connection("bank", "")).await);

    may_read(&ns, EDITOR, "bank-a").await;
    for place in places {
        accepted(&write_as(&ns, EDITOR, &["--dry-run=server"], &connection("bank", place)).await);
    }
    // All three places at once: within the budget that the server allows expressions.
    let every = [places[0], places[6], places[8]].concat();
    accepted(&write_as(&ns, EDITOR, &[], &connection("bank", &every)).await);
    // The right to one Secret is not the right to another.
    refused(
        &patch_as(&ns, EDITOR, "bank", r#"{"spec":{"auth":{"bearer":{"secretRef":{"name":"bank-b"}}}}}"#).await,
        "must be allowed to get Secret \"bank-b\", which spec.auth names: ask for a Role",
    );
}

#[tokio::test]
async fn who_may_not_read_a_secret_may_edit_a_connection_but_not_redirect_its_credential() {
    let ns = policies_in_force("edits").await;
    ns.apply(&with_auth("bank", "bank-a")).await;
    for harmless in [
        r#"{"spec":{"suspend":true}}"#,
        r#"{"spec":{"timeout":{"request":"10s"}}}"#,
        r#"{"metadata":{"annotations":{"busbar.dev/requestedAt":"now"}}}"#,
    ] {
        accepted(&patch_as(&ns, EDITOR, "bank", harmless).await);
    }
    for elsewhere in [
        r#"{"spec":{"endpoint":{"baseURL":"https://attacker.example"}}}"#,
        r#"{"spec":{"auth":{"bearer":{"secretRef":{"name":"bank-a","key":"other"}}}}}"#,
        r#"{"spec":{"tls":{"serverName":"attacker.example"}}}"#,
    ] {
        refused(&patch_as(&ns, EDITOR, "bank", elsewhere).await, "must be allowed to get Secret \"bank-a\"");
    }
    // Taking the credential away sends nothing anywhere.
    accepted(&patch_as(&ns, EDITOR, "bank", r#"{"spec":{"auth":null}}"#).await);
}

#[tokio::test]
async fn a_circuit_is_bent_only_by_who_has_the_verb_override() {
    let ns = policies_in_force("override").await;
    let why = "must have the verb override on providerconnections";
    refused(&write_as(&ns, EDITOR, &[], &with_override("bank", "ForcedOpen")).await, why);
    accepted(&write_as(&ns, EDITOR, &[], &connection("bank", "")).await);
    let set = r#"{"spec":{"circuitOverride":{"mode":"ForcedOpen","untilTime":"2030-01-31T18:00:00Z","reason":"r"}}}"#;
    let unset = r#"{"spec":{"circuitOverride":null}}"#;
    refused(&patch_as(&ns, EDITOR, "bank", set).await, why);

    grant(&ns, "olu-override", "clusterrole=busbar-circuit-override", "olu").await;
    allowed(&ns, "olu", "override", "busbar.dev", "providerconnections").await;
    accepted(&patch_as(&ns, "olu", "bank", set).await);
    // Others go on editing beside it, and cannot touch it.
    accepted(&patch_as(&ns, EDITOR, "bank", r#"{"spec":{"timeout":{"request":"10s"}}}"#).await);
    refused(&patch_as(&ns, EDITOR, "bank", unset).await, why);
    refused(&patch_as(&ns, EDITOR, "bank", &set.replace("ForcedOpen", "ForcedClosed")).await, why);
    accepted(&patch_as(&ns, "olu", "bank", unset).await);
}

#[tokio::test]
async fn the_operator_works_beside_the_policies() {
    let ns = policies_in_force("operator").await;
    ns.apply(&with_auth("bank", "bank-a")).await;
    let operator = Operator::ready(&ns, &[]).await;
    eventually(PATIENCE, "the status of the connection", async || {
        (ns.json("pconn", "bank").await?["status"]["observedGeneration"] == 1).then_some(())
    })
    .await;
    // Refused requests of the operator would be found here.
    operator.finish(&ns).await;
}
