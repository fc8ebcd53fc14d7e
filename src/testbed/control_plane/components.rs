//! The three servers: how each is called, and when it is ready.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use crate::testbed::control_plane::pki::Pki;
use crate::testbed::control_plane::process::{Process, Spec};
use crate::testbed::control_plane::{Binaries, Error, Options};

/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long one question may take: a server that is just starting may accept a connection and not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Lines of a log that an error shows.
const LOG_TAIL: usize = 15;

/// The controllers that run: what namespaces, service accounts, workloads and our own tests need, and no more, for each
/// one costs memory and requests.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
root-ca-certificate-publisher-controller,cronjob-controller,job-controller,deployment-controller,\
replicaset-controller,statefulset-controller,validatingadmissionpolicy-status-controller,\
clusterrole-aggregation-controller,disruption-controller";

/// A part of the control plane.
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// Namespace deletion, garbage collection, service accounts, workloads.
    ControllerManager,
}

impl Component {
    /// All, in order of start.
    pub const ALL: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    /// The binary's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Ports of one control plane; they stay over restarts of its components.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ports {
    etcd_client: u16,
    etcd_peer: u16,
    api_server: u16,
    controller_manager: u16,
}

impl Ports {
    /// Lets the system choose: all are held together, so that no two are the same, and then released. Somebody else may
    /// take one before it is used; the start is then tried again with others.
    pub(crate) fn reserve() -> Result<Self, Error> {
        let reserve = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::Port);
        let held = [reserve()?, reserve()?, reserve()?, reserve()?];
        let port = |of: usize| held[of].local_addr().map(|address| address.port()).map_err(Error::Port);
        Ok(Self { etcd_client: port(0)?, etcd_peer: port(1)?, api_server: port(2)?, controller_manager: port(3)? })
    }

    pub(crate) fn etcd_url(self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_client)
    }

    pub(crate) fn api_server_url(self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }
}

/// Where a control plane keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) directory: PathBuf,
}

impl Layout {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.file("audit.log")
    }

    pub(crate) fn audit_policy(&self) -> PathBuf {
        self.file("audit-policy.yaml")
    }

    pub(crate) fn controller_manager_kubeconfig(&self) -> PathBuf {
        self.file("controller-manager.kubeconfig")
    }
}

/// How the components collect their garbage: seldom, as long as there is memory. By default each does so whenever its heap
/// has doubled, which on two cores is a good part of what everybody waits for.
const LEISURELY: [(&str, &str); 2] = [("GOGC", "400"), ("GOMEMLIMIT", "2GiB")];

/// The command line of a component; `None` if its binary is absent.
pub(crate) fn spec(
    component: Component,
    binaries: &Binaries,
    ports: Ports,
    layout: &Layout,
    pki: &Pki,
    options: &Options,
) -> Option<Spec> {
    let (program, args, extra) = match component {
        Component::Etcd => (binaries.etcd.clone(), etcd(ports, layout), &options.etcd_args),
        Component::ApiServer => (binaries.api_server.clone(), api_server(ports, layout, pki), &options.api_server_args),
        Component::ControllerManager => (
            binaries.controller_manager.clone()?,
            controller_manager(ports, layout, pki),
            &options.controller_manager_args,
        ),
    };
    Some(Spec {
        name: component.as_str().into(),
        program,
        // A later flag wins over an earlier one of the same name, so the caller's come last.
        args: args.into_iter().chain(extra.iter().cloned()).map(OsString::from).collect(),
        env: LEISURELY.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
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
        // Data of a test need not survive a power cut; SIGKILL loses nothing that was written.
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
        // These two together quiet the controller-manager; the first alone is refused.
        path_flag("requestheader-client-ca-file", &pki.ca_file()),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", ports.api_server),
        "--authorization-mode=RBAC".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        "--allow-privileged=true".into(),
        format!("--service-account-issuer={}", ports.api_server_url()),
        path_flag("service-account-key-file", &pki.token_public_key()),
        path_flag("service-account-signing-key-file", &pki.token_key()),
        "--endpoint-reconciler-type=none".into(),
        "--profiling=false".into(),
        "--event-ttl=10m".into(),
        path_flag("audit-policy-file", &layout.audit_policy()),
        path_flag("audit-log-path", &layout.audit_log()),
        // Megabytes; by default the log is rotated at 100, and a count would miss what was moved away.
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

/// Waits until the component works, or has ended, or `patience` is over.
pub(crate) async fn wait_ready(
    component: Component,
    process: &mut Process,
    ports: Ports,
    config: &kube::Config,
    patience: Duration,
) -> Result<(), Error> {
    let mut last = String::from("not asked yet");
    let watch = async {
        let client = Client::try_from(config.clone()).map_err(Error::api("make a client"))?;
        loop {
            if let Some(status) = process.exited() {
                return Err(Error::Exited {
                    component,
                    status: status.to_string(),
                    log_tail: process.log_tail(LOG_TAIL),
                });
            }
            match tokio::time::timeout(ANSWER_WITHIN, ask(component, ports, &client)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => last = why,
                Err(_) => last = format!("no answer within {ANSWER_WITHIN:?}"),
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    match tokio::time::timeout(patience, watch).await {
        Ok(result) => result,
        Err(_) => Err(Error::NotReady { component, patience, last, log_tail: process.log_tail(LOG_TAIL) }),
    }
}

/// One question; the error is what a person would like to know.
async fn ask(component: Component, ports: Ports, client: &Client) -> Result<(), String> {
    match component {
        Component::Etcd => {
            let http = plain_http().map_err(|error| error.to_string())?;
            let answer =
                http.get(format!("{}/health", ports.etcd_url())).send().await.map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(format!("/health answers {}", answer.status())) }
        }
        Component::ApiServer => {
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
            client.request_text(request).await.map(drop).map_err(|error| error.to_string())
        }
        Component::ControllerManager => {
            let http = plain_http().map_err(|error| error.to_string())?;
            let url = format!("https://127.0.0.1:{}/healthz", ports.controller_manager);
            let answer = http.get(url).send().await.map_err(|error| error.to_string())?;
            if !answer.status().is_success() {
                return Err(format!("/healthz answers {}", answer.status()));
            }
            // Healthy is not yet at work: the first thing it does for anybody is this ServiceAccount.
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
            accounts.get("default").await.map(drop).map_err(|error| error.to_string())
        }
    }
}

/// A client for health checks on loopback: no proxy, no waiting for ever. The controller-manager signs its certificate
/// itself, and nothing secret is asked or told.
pub(crate) fn plain_http() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).timeout(Duration::from_secs(10)).build()
}
