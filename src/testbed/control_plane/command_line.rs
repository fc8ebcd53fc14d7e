//! The command lines of the components.

use std::ffi::OsString;
use std::path::Path;

use crate::testbed::control_plane::binaries::Binaries;
use crate::testbed::control_plane::component::Component;
use crate::testbed::control_plane::layout::Layout;
use crate::testbed::control_plane::options::Options;
use crate::testbed::control_plane::pki::Pki;
use crate::testbed::control_plane::ports::Ports;
use crate::testbed::control_plane::process::ProcessSpec;

/// The enabled controllers: only what namespaces, service accounts, workloads and the tests need, because each one
/// costs memory and requests.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
root-ca-certificate-publisher-controller,cronjob-controller,job-controller,deployment-controller,\
replicaset-controller,statefulset-controller,validatingadmissionpolicy-status-controller,\
clusterrole-aggregation-controller,disruption-controller,persistentvolumeclaim-protection-controller";

/// Go garbage collection settings of the components and of kubectl: less frequent than the default, which collects whenever the heap
/// has doubled and on two cores makes up a good part of a test's duration.
pub(crate) const GO_GC_ENV: [(&str, &str); 2] = [("GOGC", "400"), ("GOMEMLIMIT", "2GiB")];

/// The command line of a component; `None` if its binary is absent.
pub(crate) fn spec(
    component: Component,
    binaries: &Binaries,
    ports: Ports,
    layout: &Layout,
    pki: &Pki,
    options: &Options,
) -> Option<ProcessSpec> {
    let (program, args, extra) = match component {
        Component::Etcd => (binaries.etcd.clone(), etcd(ports, layout), &options.etcd_args),
        Component::ApiServer => (binaries.api_server.clone(), api_server(ports, layout, pki), &options.api_server_args),
        Component::ControllerManager => (
            binaries.controller_manager.clone()?,
            controller_manager(ports, layout, pki),
            &options.controller_manager_args,
        ),
    };
    Some(ProcessSpec {
        name: component.as_str().into(),
        program,
        // A later flag overrides an earlier one of the same name, so the caller's come last.
        args: args.into_iter().chain(extra.iter().cloned()).map(OsString::from).collect(),
        env: GO_GC_ENV.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        log: layout.file(&format!("{component}.log")),
    })
}

fn path_flag(flag: &str, path: &Path) -> String {
    format!("--{flag}={}", path.display())
}

fn etcd(ports: Ports, layout: &Layout) -> Vec<String> {
    let client = ports.etcd_url();
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        path_flag("data-dir", &layout.file("etcd")),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // Test data need not survive a power failure; SIGKILL loses nothing that was written.
        "--unsafe-no-fsync".into(),
    ]
}

fn api_server(ports: Ports, layout: &Layout, pki: &Pki) -> Vec<String> {
    vec![
        format!("--etcd-servers={}", ports.etcd_url()),
        path_flag("cert-dir", &layout.file("api-server-certs")),
        path_flag("tls-cert-file", &pki.serving_certificate()),
        path_flag("tls-private-key-file", &pki.serving_key()),
        path_flag("client-ca-file", &pki.ca_file()),
        path_flag("kubelet-client-certificate", &pki.kubelet_client_certificate()),
        path_flag("kubelet-client-key", &pki.kubelet_client_key()),
        // These two together silence a warning of the controller-manager; the first alone is rejected.
        path_flag("requestheader-client-ca-file", &pki.ca_file()),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", ports.api_server),
        "--authorization-mode=RBAC".into(),
        "--service-cluster-ip-range=10.0.0.0/16".into(),
        "--allow-privileged=true".into(),
        format!("--service-account-issuer={}", ports.api_server_url()),
        path_flag("service-account-key-file", &pki.token_public_key()),
        path_flag("service-account-signing-key-file", &pki.token_key()),
        "--endpoint-reconciler-type=none".into(),
        "--profiling=false".into(),
        "--event-ttl=10m".into(),
        path_flag("audit-policy-file", &layout.audit_policy()),
        path_flag("audit-log-path", &layout.audit_log()),
        // Megabytes; by default the log is rotated at 100, and a count would miss the rotated part.
        "--audit-log-maxsize=100000".into(),
    ]
}

fn controller_manager(ports: Ports, layout: &Layout, pki: &Pki) -> Vec<String> {
    let kubeconfig = layout.controller_manager_kubeconfig();
    vec![
        path_flag("kubeconfig", &kubeconfig),
        path_flag("authentication-kubeconfig", &kubeconfig),
        path_flag("authorization-kubeconfig", &kubeconfig),
        "--use-service-account-credentials=true".into(),
        path_flag("service-account-private-key-file", &pki.token_key()),
        path_flag("root-ca-file", &pki.ca_file()),
        "--leader-elect=false".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", ports.controller_manager),
        path_flag("cert-dir", &layout.file("controller-manager-certs")),
        format!("--controllers={CONTROLLERS}"),
    ]
}
