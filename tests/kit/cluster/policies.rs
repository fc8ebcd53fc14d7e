//! The admission policies of `config/admission/`, bound to one test's namespace, and users with tokens of their own.
//!
//! The policies are installed on the shared control plane as shipped, and each test binds them to its own namespace, so
//! that no other test is affected. Users are service accounts of that namespace.

use serde::Deserialize as _;
use serde_json::Value;

use super::control_planes::repository;
use super::namespace::{KubectlOutput, TestNs};
use crate::kit::wait::eventually;

/// The documents of a manifest below the repository, each as text and as a value.
pub(crate) fn documents(path: &str) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(repository(path)).expect("the manifest is readable");
    let parse = |part: &str| {
        let value = Value::deserialize(serde_yaml::Deserializer::from_str(part)).expect("a YAML document");
        (part.to_owned(), value)
    };
    text.split("\n---\n").map(parse).collect()
}

/// Installs what the files of `config/admission/` contain, without the bindings, and binds the policies to this namespace
/// only; returns the names of the policies.
pub(crate) async fn bind_policies(ns: &TestNs, files: &[&str]) -> Vec<String> {
    let mut policies = Vec::new();
    for file in files {
        let all = documents(&format!("config/admission/{file}.yaml"));
        let shipped: Vec<_> = all.iter().filter(|(_, d)| d["kind"] != "ValidatingAdmissionPolicyBinding").collect();
        let texts: Vec<&str> = shipped.iter().map(|(text, _)| text.as_str()).collect();
        ns.plane().apply(&texts.join("\n---\n")).await.unwrap();
        let named = shipped.iter().filter(|(_, d)| d["kind"] == "ValidatingAdmissionPolicy");
        policies.extend(named.map(|(_, d)| d["metadata"]["name"].as_str().expect("a name").to_owned()));
    }
    let name = ns.name();
    for policy in &policies {
        ns.plane()
            .apply(&format!(
                "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\n\
                 metadata: {{name: {policy}-{name}}}\nspec:\n  policyName: {policy}\n  validationActions: [Deny]\n  \
                 matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}}}\n"
            ))
            .await
            .unwrap();
    }
    policies
}

/// Asserts that the API server's type checker finds no fault in the expressions of these policies.
pub(crate) async fn assert_type_checked(ns: &TestNs, policies: &[String]) {
    for name in policies {
        let checked = eventually("the expressions are type-checked", async || {
            let policy = ns.json("validatingadmissionpolicy", name).await?;
            // By the controller-manager, if there is one.
            let done = policy["status"]["observedGeneration"].is_number() || !ns.plane().has_controller_manager();
            done.then_some(policy)
        })
        .await;
        assert_eq!(checked["status"]["typeChecking"]["expressionWarnings"], Value::Null, "{name}: {checked:#}");
        assert_eq!(checked["spec"]["failurePolicy"], "Fail");
    }
}

/// A user: a service account of the test's namespace, which acts with a token of its own.
pub(crate) struct User<'a> {
    ns: &'a TestNs,
    name: &'static str,
}

impl<'a> User<'a> {
    /// Creates the user, without any right.
    pub(crate) async fn new(ns: &'a TestNs, name: &'static str) -> Self {
        ns.apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n")).await;
        Self { ns, name }
    }

    /// Binds a role, `role=NAME` or `clusterrole=NAME`, in the namespace.
    pub(crate) async fn grant(&self, role: &str) {
        let binding = format!("{}-{}", self.name, role.replace('=', "-"));
        let account = format!("--serviceaccount={}:{}", self.ns.name(), self.name);
        self.ns.kubectl(&["create", "rolebinding", &binding, &format!("--{role}"), &account]).await.ok();
    }

    /// Waits until the authorizer allows `verb` on `resource`, `PLURAL.GROUP[/NAME]`.
    pub(crate) async fn until_allowed(&self, verb: &str, resource: &str) {
        eventually("the right is in effect", async || {
            self.kubectl(&["auth", "can-i", verb, resource], "").await.success
        })
        .await;
    }

    /// Runs kubectl with the user's token.
    pub(crate) async fn kubectl(&self, args: &[&str], input: &str) -> KubectlOutput {
        let kubeconfig = self.ns.plane().service_account_kubeconfig(self.ns.name(), self.name).await.unwrap();
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let args: Vec<&str> = [kubeconfig.as_str()].into_iter().chain(args.iter().copied()).collect();
        self.ns.kubectl_with(&args, input).await
    }

    /// Applies a manifest.
    pub(crate) async fn apply(&self, manifest: &Value) -> KubectlOutput {
        self.kubectl(&["apply", "--server-side", "-f", "-"], &manifest.to_string()).await
    }

    /// Applies a manifest without storing it.
    pub(crate) async fn try_apply(&self, manifest: &Value) -> KubectlOutput {
        self.kubectl(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &manifest.to_string()).await
    }

    /// Changes an object, `KIND/NAME`, by a merge patch.
    pub(crate) async fn patch(&self, object: &str, patch: &str) -> KubectlOutput {
        self.kubectl(&["patch", object, "--type=merge", "-p", patch], "").await
    }

    /// Waits until a policy denies `manifest`: a new policy takes effect after a while, each at its own time.
    pub(crate) async fn until_denied(&self, manifest: &Value) {
        eventually("the policy is in effect", async || {
            let output = self.try_apply(manifest).await;
            if output.stderr.contains("denied request") { Ok(()) } else { Err(output) }
        })
        .await;
    }
}

/// Asserts that a policy denied the request with this text.
#[track_caller]
pub(crate) fn assert_denied(output: &KubectlOutput, text: &str) {
    assert!(!output.success, "{} was accepted", output.command);
    assert!(output.stderr.contains("denied request: must ") && output.stderr.contains(text), "{}", output.stderr);
}

/// Asserts that the request was accepted without a warning.
#[track_caller]
pub(crate) fn assert_accepted(output: &KubectlOutput) {
    assert!(output.success && output.stderr.is_empty(), "{}: {}", output.command, output.stderr);
}
