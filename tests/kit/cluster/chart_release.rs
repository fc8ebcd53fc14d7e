//! The chart's release in the namespace of a test: a real `helm install` of the operator's `ServiceAccount`, its rights and
//! its workload.
//!
//! On a control plane that tests share, what belongs to a whole cluster (roles for users, admission policies, definitions)
//! is left out: tests install that themselves. The workload has no replica at first, because the API server learns of the
//! rights by a watch; [`super::operator_pod`] scales it up.

use std::ffi::OsStr;
use std::path::PathBuf;

use busbar::testbed::control_plane::{ControlPlane, OperatorScope};
use k8s_openapi::api::apps::v1::StatefulSet;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::control_planes::repository;
use super::namespace::TestNs;
use crate::kit::binary::{Finished, run_async};
use crate::kit::wait::eventually;

/// Takes the place of the namespace in what is rendered once for all tests.
const NAMESPACE: &str = "namespace-of-the-test";

/// The operator's `ServiceAccount`.
const ACCOUNT: &str = "busbar-operator";

/// The Secret with the gateway's certificate, as the values name it.
const CERTIFICATE: &str = "gateway-certificate";

/// The kinds that make up an operator's rights.
const RIGHTS: [&str; 5] = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];

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

/// Runs Helm as admin of a control plane, without any setting of the user.
pub(crate) async fn helm(plane: &ControlPlane, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    let home = plane.run_dir().path().join("helm");
    let mut command = std::process::Command::new(helm_path().await);
    command.args(args).current_dir(repository("")).env_clear();
    for variable in ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(variable, &home);
    }
    // A short-lived process need not collect its garbage as often as Go's default has it.
    command.env("KUBECONFIG", plane.admin_kubeconfig()).env("GOGC", "400");
    run_async(command).await
}

/// The user of the operator in the audit log.
pub(super) fn user(ns: &TestNs) -> String {
    format!("system:serviceaccount:{}:{ACCOUNT}", ns.name())
}

/// The arguments of Helm for an operator of this scope in a namespace.
fn arguments(scope: OperatorScope, namespace: &str) -> Vec<String> {
    let watched = match scope {
        OperatorScope::Namespace => "watch.scope=Namespaces".to_owned(),
        OperatorScope::Cluster => format!("rbac.secretNamespaces={{{namespace}}}"),
    };
    let values = [
        format!("gateway.enabled=true,gateway.tls.existingSecret={CERTIFICATE}"),
        // Of the operator alone: users and policies are cluster-wide, and tests install them themselves.
        "rbac.userRoles=false,admissionPolicies.enabled=false".to_owned(),
        // The banks of the tests are on this machine.
        "operator.allowProviderAddresses={127.0.0.0/8,::1}".to_owned(),
        "replicaCount=0".to_owned(),
        watched,
    ];
    let sets = values.into_iter().flat_map(|values| ["--set".to_owned(), values]);
    ["busbar", "charts/busbar", "--namespace", namespace].map(str::to_owned).into_iter().chain(sets).collect()
}

/// The objects that make up the rights of an operator of this scope, as Helm renders them.
async fn rights(scope: OperatorScope) -> &'static [(String, Value)] {
    static OF_NAMESPACE: OnceCell<Vec<(String, Value)>> = OnceCell::const_new();
    static OF_CLUSTER: OnceCell<Vec<(String, Value)>> = OnceCell::const_new();
    let cell = if scope == OperatorScope::Namespace { &OF_NAMESPACE } else { &OF_CLUSTER };
    let render = async || {
        let mut command = std::process::Command::new(helm_path().await);
        command.args(["template", "--no-hooks", "--skip-tests"]).args(arguments(scope, NAMESPACE));
        command.current_dir(repository(""));
        let text = run_async(command).await.ok();
        let documents = text.split("\n---\n").map(|part| {
            let value = Value::deserialize(serde_yaml::Deserializer::from_str(part)).expect("a YAML document");
            (part.to_owned(), value)
        });
        documents.filter(|(_, object)| RIGHTS.iter().any(|kind| object["kind"] == *kind)).collect()
    };
    cell.get_or_init(render).await
}

/// The roles that the chart has for an operator of this scope.
pub(crate) async fn roles(scope: OperatorScope) -> impl Iterator<Item = &'static Value> {
    let is_role = |object: &&Value| object["kind"] == "Role" || object["kind"] == "ClusterRole";
    rights(scope).await.iter().map(|(_, object)| object).filter(is_role)
}

/// Creates the account and the rights of the release again, which a test has deleted, and waits until they are in force.
pub(crate) async fn grant(ns: &TestNs, scope: OperatorScope) {
    let texts: Vec<&str> = rights(scope).await.iter().map(|(text, _)| text.as_str()).collect();
    ns.plane().apply(&texts.join("\n---\n").replace(NAMESPACE, ns.name())).await.expect("the chart's rights");
    until_in_force(ns).await;
}

/// The authorizer learns of a binding by a watch; until then it forbids the operator's requests, which tests would attribute
/// to the chart.
async fn until_in_force(ns: &TestNs) {
    let (plane, user) = (ns.plane(), user(ns));
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
}

/// A certificate for the gateways of all tests, and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["busbar-gateway".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// The workload of the namespace's release, without a replica. The first caller installs the release.
pub(super) async fn installed(ns: &TestNs, scope: OperatorScope) -> &Value {
    ns.workload.get_or_init(|| install(ns, scope)).await
}

async fn install(ns: &TestNs, scope: OperatorScope) -> Value {
    assert!(ns.plane().has_controller_manager(), "no kube-controller-manager: nothing creates the Pods of the release");
    let (certificate, key) = certificate();
    ns.secret(CERTIFICATE, &[("tls.crt", certificate.as_bytes()), ("tls.key", key.as_bytes())]).await;
    // The cluster roles of a cluster-wide operator are there already, on every control plane of the tests.
    let flags = ["install", "--skip-crds", "--take-ownership"].map(str::to_owned);
    helm(ns.plane(), flags.into_iter().chain(arguments(scope, ns.name()))).await.ok();
    until_in_force(ns).await;
    let workload = ns.api::<StatefulSet>().get("busbar").await.expect("the workload of the release");
    json!(workload)
}
