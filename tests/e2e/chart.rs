//! The chart and the plain manifests on a real API server: what a render alone cannot show (`make check-chart` checks the
//! renders). Helm is built once, on the first use.

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::chart_release::helm;
use crate::cluster::control_planes::{OwnPlane, forbidden, own_empty_plane, repository};
use crate::cluster::namespace::{KubectlOutput, kubectl};
use crate::cluster::node::agent::NodeAgent;
use crate::cluster::node::control::Restarts;
use crate::kit::binary::{Finished, busbar, run_async};
use crate::kit::wait::eventually;

/// The namespace of `config/install.yaml`.
pub(crate) const NAMESPACE: &str = "busbar-system";

/// A control plane on which nothing of Busbar is installed, and Helm without any setting of the user.
pub(crate) struct Cluster {
    pub(crate) plane: OwnPlane,
    pub(crate) home: TempDir,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        Self { plane: own_empty_plane().await, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn helm(&self, args: &[&str]) -> Finished {
        helm(&self.plane, args.iter().chain(&["--namespace", NAMESPACE])).await
    }

    pub(crate) async fn kubectl(&self, args: &[&str], input: &str) -> KubectlOutput {
        kubectl(&self.plane, args, input).await
    }

    /// A namespace that refuses Pods below the standard `restricted`.
    pub(crate) async fn restricted_namespace(&self, name: &str) {
        let labels = "pod-security.kubernetes.io/enforce: restricted";
        let text = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}");
        self.plane.apply(&text).await.unwrap();
    }

    /// An object as JSON, if it exists.
    pub(crate) async fn get(&self, resource: &str, name: &str) -> Option<Value> {
        let found = self.kubectl(&["-n", NAMESPACE, "get", resource, name, "-o", "json"], "").await;
        found.success.then(|| serde_json::from_str(&found.stdout).unwrap())
    }

    async fn data(&self, secret: &str) -> Value {
        self.get("secret", secret).await.unwrap_or_else(|| panic!("Secret {secret}"))["data"].clone()
    }

    /// The UID and generation of our definitions: another one means that they were written.
    pub(crate) async fn definitions(&self) -> String {
        let column =
            "-o=jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.metadata.generation}{\"\\n\"}{end}";
        let all = self.kubectl(&["get", "crd", column], "").await.ok();
        assert_eq!(all.matches(".busbar.dev ").count(), 4, "{all}");
        all
    }

    /// The Pod that the `StatefulSet`'s controller has created: it was admitted.
    pub(crate) async fn admitted_pod(&self) -> Value {
        eventually("the Pod is admitted", async || self.get("pod", "busbar-0").await).await
    }
}

#[tokio::test]
async fn an_upgrade_keeps_keys_and_certificate_and_uninstall_keeps_all_data() {
    let cluster = Cluster::new().await;
    cluster.restricted_namespace(NAMESPACE).await;
    let values = "keys.generate=true,gateway.enabled=true,gateway.tls.source=SelfSigned,networkPolicy.enabled=true";
    cluster.helm(&["install", "busbar", "charts/busbar", "--set", values]).await.ok();
    cluster.admitted_pod().await;
    let (keys, certificate) = (cluster.data("busbar-keys").await, cluster.data("busbar-gateway-tls").await);
    assert!(keys["v1"].is_string() && certificate["ca.crt"].is_string(), "{keys} {certificate}");

    // A key that an administrator has added stays, too.
    let added = r#"{"data":{"v2":"YWRkZWQ="}}"#;
    let patch = ["-n", NAMESPACE, "patch", "secret", "busbar-keys", "--type=merge", "-p", added];
    cluster.kubectl(&patch, "").await.ok();
    let definitions = cluster.definitions().await;
    let more = format!("{values},operator.logLevel=debug,ledger.persistence.size=10Gi");
    cluster.helm(&["upgrade", "busbar", "charts/busbar", "--set", &more]).await.ok();
    let after = cluster.data("busbar-keys").await;
    assert_eq!((&after["v1"], &after["v2"]), (&keys["v1"], &"YWRkZWQ=".into()));
    assert_eq!(cluster.data("busbar-gateway-tls").await, certificate);
    let manifest = cluster.helm(&["get", "manifest", "busbar"]).await.ok();
    assert!(manifest.contains("--log-level=debug"), "{manifest}");
    // The first revision has one key only; a rollback must not take away the other.
    cluster.helm(&["rollback", "busbar", "1"]).await.ok();
    assert_eq!(
        (cluster.data("busbar-keys").await, cluster.data("busbar-gateway-tls").await),
        (after.clone(), certificate.clone())
    );
    assert_eq!(cluster.definitions().await, definitions, "neither an upgrade nor a rollback touches the definitions");

    // The definitions are upgraded by their own chart, which takes over those that the first chart has created.
    let crds = ["upgrade", "--install", "busbar-crds", "charts/busbar-crds", "--take-ownership", "--force-conflicts"];
    cluster.helm(&crds).await.ok();
    let policy = "{apiVersion: busbar.dev/v1alpha1, kind: BreakerPolicy, metadata: {name: kept}, spec: {}}";
    cluster.kubectl(&["-n", NAMESPACE, "apply", "-f", "-"], policy).await.ok();

    for release in ["busbar", "busbar-crds"] {
        cluster.helm(&["uninstall", release]).await.ok();
    }
    for gone in [("statefulset", "busbar"), ("serviceaccount", "busbar-operator"), ("clusterrole", "busbar-operator")] {
        assert_eq!(cluster.get(gone.0, gone.1).await, None, "{gone:?}");
    }
    let claim = cluster.get("pvc", "ledger-busbar-0").await;
    assert!(claim.is_some_and(|claim| claim["metadata"]["deletionTimestamp"].is_null()), "the ledger's volume");
    assert_eq!(cluster.data("busbar-keys").await, after);
    assert!(cluster.get("breakerpolicy", "kept").await.is_some(), "the definitions and their objects");

    // A new release of the same name continues with them.
    cluster.helm(&["install", "busbar", "charts/busbar", "--set", values]).await.ok();
    assert_eq!(cluster.data("busbar-keys").await["v1"], keys["v1"]);
    assert_eq!(cluster.data("busbar-gateway-tls").await, certificate);
}

#[tokio::test]
async fn the_api_server_adds_nothing_to_what_the_chart_renders() {
    let cluster = Cluster::new().await;
    // A warning is an error here.
    cluster.plane.apply_path(&repository("config/install.yaml")).await.unwrap();
    cluster.admitted_pod().await;
    let base = repository("config/kustomize").to_string_lossy().into_owned();
    let file = repository("config/install.yaml").to_string_lossy().into_owned();
    for source in [["-f", &file], ["-k", &base]] {
        let difference = cluster.kubectl(&[&["diff", "--server-side"][..], &source].concat(), "").await;
        assert!(difference.success, "{source:?}:\n{}{}", difference.stdout, difference.stderr);
    }
    // Everything that needs no foreign kinds.
    let more = "networkPolicy.enabled=true,gateway.enabled=true,gateway.tls.existingSecret=tls,metrics.requireToken=true,\
                podDisruptionBudget.maxUnavailable=50%,metrics.dashboards.enabled=true,operator.logLevel=debug,\
                rbac.secretsClusterWide=true,profiles.acme.title=Acme";
    let rendered = cluster.helm(&["template", "busbar", "charts/busbar", "--no-hooks", "--set", more]).await.ok();
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    cluster.kubectl(&apply, &rendered).await.ok();
    let difference = cluster.kubectl(&["diff", "--server-side", "-f", "-"], &rendered).await;
    assert!(difference.success, "{}{}", difference.stdout, difference.stderr);
    // The comparison sees a difference.
    let other = rendered.replace("--log-level=debug", "--log-level=info");
    assert!(!cluster.kubectl(&["diff", "--server-side", "-f", "-"], &other).await.success);
}

#[tokio::test]
async fn a_watched_namespace_is_bound_by_one_file_without_editing() {
    let cluster = Cluster::new().await;
    for namespace in [NAMESPACE, "payments", "treasury"] {
        cluster.restricted_namespace(namespace).await;
    }
    for file in ["clusterroles", "serviceaccount", "namespaced"] {
        cluster.plane.apply_path(&repository(&format!("config/rbac/{file}.yaml"))).await.unwrap();
    }
    let file = repository("config/rbac/watched-namespace.yaml").to_string_lossy().into_owned();
    for namespace in ["payments", "treasury"] {
        cluster.kubectl(&["-n", namespace, "apply", "-f", &file], "").await.ok();
    }
    let user = format!("system:serviceaccount:{NAMESPACE}:busbar-operator");
    let may = async |namespace: &str, verb: &str, group: &str, resource: &str| {
        cluster.plane.is_allowed(&user, namespace, verb, group, resource).await.unwrap()
    };
    for namespace in [NAMESPACE, "payments", "treasury"] {
        eventually(format!("the rights in {namespace}"), async || {
            may(namespace, "get", "", "secrets").await
                && may(namespace, "watch", "busbar.dev", "syncjobs").await
                && may(namespace, "update", "busbar.dev", "syncjobs/status").await
        })
        .await;
    }
    assert!(!may("default", "get", "", "secrets").await && !may("payments", "list", "", "secrets").await);
}

#[tokio::test]
async fn an_operator_with_roles_of_two_namespaces_works_and_is_denied_nothing() {
    let cluster = Cluster::new().await;
    for namespace in [NAMESPACE, "payments", "treasury"] {
        cluster.restricted_namespace(namespace).await;
    }
    let scope = ["--set", "watch.scope=Namespaces", "--set", "watch.namespaces={payments,treasury}"];
    cluster.helm(&[&["install", "busbar", "charts/busbar"][..], &scope].concat()).await.ok();
    cluster.admitted_pod().await;
    let check = async |timeout: &str| {
        let kubeconfig = cluster.plane.service_account_kubeconfig(NAMESPACE, "busbar-operator").await.unwrap();
        let mut command = busbar(&["check", "operator", "--timeout", timeout]);
        command.env("BUSBAR_KUBECONFIG", kubeconfig);
        run_async(command).await
    };
    let none = check("2s").await;
    assert!(!none.success() && none.stderr.contains("lease busbar-system/busbar not held"), "{}", none.stderr);

    let images = [("busbar".to_owned(), env!("CARGO_BIN_EXE_busbar").into())].into();
    let agent = NodeAgent::start_with(&cluster.plane, Some(NAMESPACE), images, Restarts::ByTest).await;
    let working = check("60s").await.ok();
    for line in ["kinds: ok (4 served)", "definitions: ok (all fields of version ", "renewed by busbar-0_"] {
        assert!(working.contains(line), "{line:?} is not in {working}");
    }
    for namespace in ["payments", "treasury"] {
        let policy = "{apiVersion: busbar.dev/v1alpha1, kind: BreakerPolicy, metadata: {name: seen}, spec: {}}";
        cluster.kubectl(&["-n", namespace, "apply", "-f", "-"], policy).await.ok();
        let wait = ["-n", namespace, "wait", "brkp/seen", "--for=condition=Ready", "--timeout=60s"];
        cluster.kubectl(&wait, "").await.ok();
    }
    let user = format!("system:serviceaccount:{NAMESPACE}:busbar-operator");
    let denied = forbidden(&cluster.plane.audit(), &user);
    assert!(denied.is_empty(), "{denied:#?}");

    agent.newest(NAMESPACE, "busbar-0").expect("its container runs").process.kill();
    let killed = check("3s").await;
    let stale = "lease busbar-system/busbar not renewed by busbar-0_";
    assert!(!killed.success() && killed.stderr.contains(stale), "{}", killed.stderr);

    // Definitions that lack a field of this version.
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/connections";
    let patch = format!(r#"[{{"op":"remove","path":"{field}"}}]"#);
    cluster.kubectl(&["patch", "crd", "breakerpolicies.busbar.dev", "--type=json", "-p", &patch], "").await.ok();
    eventually("the missing field is named", async || {
        let older = check("3s").await;
        let named = "the API server drops what they lack: BreakerPolicy: status.connections; upgrade the chart";
        if !older.success() && older.stderr.contains(named) { Ok(()) } else { Err(older.stderr) }
    })
    .await;
}
