//! The operator as the chart installs it: its `ServiceAccount` and rights, and the flags and environment of its Pod.
//!
//! Every test's operator is started from what Helm renders, so that all of them show that the chart's rights suffice, and
//! its flags work. Only what belongs to a machine is replaced: addresses, paths and certificates. The processes are started
//! directly; `chart_install.rs` runs whole releases with the node agent.

use std::ffi::OsString;
use std::path::PathBuf;

use busbar::testbed::control_plane::process::ProcessSpec;
use busbar::testbed::control_plane::{OperatorIdentity, OperatorScope};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::control_planes::repository;
use super::namespace::TestNs;
use crate::kit::wait::eventually;

/// Takes the place of the namespace in what is rendered once for all tests.
const NAMESPACE: &str = "namespace-of-the-test";

/// The operator's `ServiceAccount`.
const ACCOUNT: &str = "busbar-operator";

/// The kinds that make up an operator's rights.
const RIGHTS: [&str; 5] = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];

/// Flags of the chart that belong to a Pod's file system and network. A test has others.
const OF_A_POD: [&str; 5] =
    ["--admin-address", "--gateway-address", "--gateway-tls-cert", "--gateway-tls-key", "--ledger"];

/// The path of Helm, which the first caller builds if it is not in the cache.
pub(crate) async fn helm_path() -> &'static PathBuf {
    static HELM: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        let output = Command::new(repository("hack/control-plane/build")).arg("helm").output().await.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        PathBuf::from(text.lines().find_map(|line| line.strip_prefix("helm=")).expect("the path of Helm"))
    };
    HELM.get_or_init(build).await
}

/// What the chart renders for an operator of a scope, with the placeholder of its namespace.
struct Rendered {
    /// The objects that make up its rights, as texts and values.
    rights: Vec<(String, Value)>,
    /// The container of its Pod.
    container: Value,
}

async fn rendered(scope: OperatorScope) -> &'static Rendered {
    static OF_NAMESPACE: OnceCell<Rendered> = OnceCell::const_new();
    static OF_CLUSTER: OnceCell<Rendered> = OnceCell::const_new();
    let cell = if scope == OperatorScope::Namespace { &OF_NAMESPACE } else { &OF_CLUSTER };
    cell.get_or_init(|| render(scope)).await
}

async fn render(scope: OperatorScope) -> Rendered {
    let watched = match scope {
        OperatorScope::Namespace => "watch.scope=Namespaces".to_owned(),
        OperatorScope::Cluster => format!("rbac.secretNamespaces={{{NAMESPACE}}}"),
    };
    let values = [
        "gateway.enabled=true,gateway.tls.existingSecret=tls",
        // Of the operator alone: users and policies are cluster-wide, and tests install them themselves.
        "rbac.userRoles=false,admissionPolicies.enabled=false",
        // The banks of the tests are on this machine.
        "operator.allowProviderAddresses={127.0.0.0/8,::1}",
        &watched,
    ];
    let mut command = Command::new(helm_path().await);
    command.args(["template", "busbar", "charts/busbar", "--no-hooks", "--skip-tests", "--namespace", NAMESPACE]);
    command.args(values.iter().flat_map(|values| ["--set", *values])).current_dir(repository(""));
    let output = command.output().await.expect("Helm runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let documents: Vec<(String, Value)> = text
        .split("\n---\n")
        .map(|part| {
            let value = Value::deserialize(serde_yaml::Deserializer::from_str(part)).expect("a YAML document");
            (part.to_owned(), value)
        })
        .collect();
    let workload = documents.iter().find(|(_, object)| object["kind"] == "StatefulSet").expect("a workload");
    let container = workload.1["spec"]["template"]["spec"]["containers"][0].clone();
    let of_rights = |object: &Value| RIGHTS.iter().any(|kind| object["kind"] == *kind);
    Rendered { container, rights: documents.into_iter().filter(|(_, object)| of_rights(object)).collect() }
}

/// The roles that the chart has for an operator of this scope.
pub(crate) async fn roles(scope: OperatorScope) -> impl Iterator<Item = &'static Value> {
    let is_role = |object: &&Value| object["kind"] == "Role" || object["kind"] == "ClusterRole";
    rendered(scope).await.rights.iter().map(|(_, object)| object).filter(is_role)
}

/// Creates the account and the rights of an operator in the namespace, waits until they are in force, and issues a token.
pub(crate) async fn grant(ns: &TestNs, scope: OperatorScope) -> OperatorIdentity {
    let plane = ns.plane();
    let texts: Vec<&str> = rendered(scope).await.rights.iter().map(|(text, _)| text.as_str()).collect();
    plane.apply(&texts.join("\n---\n").replace(NAMESPACE, ns.name())).await.expect("the chart's rights");
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", ns.name());
    // The authorizer learns of a binding by a watch; until then it forbids the operator's requests, which tests would
    // attribute to the chart.
    eventually("the operator's rights are in force", async || {
        for (namespace, verb, group, resource) in [
            (ns.name(), "get", "", "secrets"),
            (ns.name(), "watch", "busbar.dev", "syncjobs"),
            (ns.name(), "create", "coordination.k8s.io", "leases"),
            ("", "create", "authentication.k8s.io", "tokenreviews"),
        ] {
            if !plane.is_allowed(&user, namespace, verb, group, resource).await.map_err(|error| error.to_string())? {
                return Err(format!("{verb} {resource} is forbidden"));
            }
        }
        Ok(())
    })
    .await;
    let kubeconfig = plane.service_account_kubeconfig(ns.name(), ACCOUNT).await.expect("a token");
    OperatorIdentity { user, kubeconfig }
}

/// The process of a replica's container: the chart's flags and environment, `own` in place of those that belong to a Pod,
/// and those of the test in place of both.
pub(super) async fn process(
    ns: &TestNs,
    scope: OperatorScope,
    replica: &str,
    own: &[String],
    of_the_test: &[&str],
) -> ProcessSpec {
    let container = &rendered(scope).await.container;
    let pod = format!("busbar-{replica}");
    let in_pod = |text: &str| {
        text.replace("$(POD_NAME)", &pod).replace("$(POD_NAMESPACE)", ns.name()).replace(NAMESPACE, ns.name())
    };
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    let replaced = |flag: &str, by: &[String]| by.iter().any(|other| name(other) == name(flag));
    let of_the_test: Vec<String> = of_the_test.iter().map(|flag| (*flag).to_owned()).collect();
    let of_the_chart: Vec<String> =
        container["args"].as_array().expect("flags").iter().map(|flag| in_pod(flag.as_str().expect("text"))).collect();
    for flag in OF_A_POD {
        assert!(replaced(flag, &of_the_chart), "the chart has no {flag}, which is replaced here");
    }
    let of_the_chart = of_the_chart.iter().filter(|flag| !OF_A_POD.contains(&&*name(flag)) && !replaced(flag, own));
    let flags = of_the_chart.chain(own).filter(|flag| !replaced(flag, &of_the_test)).chain(&of_the_test);
    let variables = container["env"].as_array().expect("variables").iter().filter_map(|variable| {
        let name = variable["name"].as_str()?;
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => pod.clone(),
            Some("metadata.namespace") => ns.name().to_owned(),
            Some("metadata.uid") => UID.to_owned(),
            Some(other) => panic!("the chart refers to {other}, which has no value here"),
            // Of the commands that are run in the Pod.
            None if name == "BUSBAR_LEDGER" => return None,
            None => in_pod(variable["value"].as_str()?),
        };
        Some((name.to_owned(), OsString::from(value)))
    });
    ProcessSpec {
        name: format!("busbar of {}", ns.name()),
        program: env!("CARGO_BIN_EXE_busbar").into(),
        args: flags.map(OsString::from).collect(),
        env: variables.chain([("RUST_BACKTRACE".to_owned(), "1".into())]).collect(),
        log: ns.operator_dir(replica).join("busbar.log"),
    }
}

/// Stands for the UID of the Pod, which is known when it is created.
const UID: &str = "$(POD_UID)";

/// The same as the container of a new Pod: a rescheduled replica has another identity than its predecessor. (That a
/// container restarts in its Pod is seen with the node agent.)
pub(super) fn in_new_pod(spec: &ProcessSpec) -> ProcessSpec {
    let uid = Uuid::new_v4().to_string();
    let known = |text: &OsString| text.to_str().map_or_else(|| text.clone(), |text| text.replace(UID, &uid).into());
    ProcessSpec {
        args: spec.args.iter().map(known).collect(),
        env: spec.env.iter().map(|(name, value)| (name.clone(), known(value))).collect(),
        ..spec.clone()
    }
}
