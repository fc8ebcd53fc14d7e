//! A real control plane on this machine: etcd, kube-apiserver and kube-controller-manager as child processes, on
//! loopback ports that the system chose, with keys made for this run.
//!
//! Tests, demo and benches run on it. It starts in a few seconds and leaves nothing behind, however its owner ends. It
//! is no cluster: there is no kubelet, so Pods are only objects. Everything here is for loopback and for one run;
//! nothing of it may be reachable from the operator's own build.
//!
//! ```no_run
//! # async fn example() -> Result<(), busbar::testbed::control_plane::Error> {
//! use busbar::testbed::control_plane::{ControlPlane, Options};
//! let plane = ControlPlane::start(Options::default()).await?;
//! let output = plane.kubectl().args(["get", "namespaces"]).output();
//! plane.stop().await;
//! # Ok(()) }
//! ```

mod audit;
mod binaries;
mod components;
mod error;
mod install;
mod kubeconfig;
mod pki;
pub mod process;
mod rundir;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Mutex;

pub use crate::testbed::control_plane::audit::{AuditLog, AuditRequest, Decision, Position, Query};
pub use crate::testbed::control_plane::binaries::Binaries;
pub use crate::testbed::control_plane::components::Component;
pub use crate::testbed::control_plane::error::Error;
pub use crate::testbed::control_plane::install::{Identity, Reach};
pub use crate::testbed::control_plane::rundir::RunDir;

use crate::clock::Clock;
use crate::testbed::control_plane::components::{Layout, Ports};
use crate::testbed::control_plane::kubeconfig::User;
use crate::testbed::control_plane::pki::Pki;
use crate::testbed::control_plane::process::{Process, Signal};

/// Starts that are tried, with other ports each time, if somebody else takes a port first.
const START_ATTEMPTS: usize = 3;

/// How long a component may take to end on SIGTERM. Servers wait for open requests, and a watch is one, so most would use
/// any time they are given; what was answered is in etcd, and SIGKILL loses nothing of it.
const TERM_PATIENCE: Duration = Duration::from_secs(1);

/// Seconds that a service account token is good for: longer than any run.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

/// How a control plane is to be. [`Options::default`] is what most tests want.
#[derive(Clone, Debug)]
pub struct Options {
    /// Further flags of etcd.
    pub etcd_args: Vec<String>,
    /// Further flags of kube-apiserver, e.g. `--max-requests-inflight=5`, `--watch-cache=false`.
    pub api_server_args: Vec<String>,
    /// Further flags of kube-controller-manager.
    pub controller_manager_args: Vec<String>,
    /// How long each component may take to become ready.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            etcd_args: Vec::new(),
            api_server_args: Vec::new(),
            controller_manager_args: Vec::new(),
            // Four seconds are usual for all three together; a minute each bears a machine that is busy compiling.
            patience: Duration::from_mins(1),
        }
    }
}

/// A running control plane. Dropping it kills it; [`ControlPlane::stop`] ends it in order.
pub struct ControlPlane {
    // First, so that the processes are gone before the directory is.
    processes: Mutex<HashMap<Component, Process>>,
    options: Options,
    binaries: Binaries,
    ports: Ports,
    pki: Pki,
    layout: Layout,
    url: String,
    admin_kubeconfig: PathBuf,
    config: kube::Config,
    timings: Vec<(Component, Duration)>,
    run: Arc<RunDir>,
}

impl ControlPlane {
    /// Starts one, and waits until it works. Builds the binaries first if this machine has none (minutes, once).
    pub async fn start(options: Options) -> Result<Self, Error> {
        // Whoever starts a control plane talks TLS next. An error says that a provider is installed already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let binaries = Binaries::locate().await?;
        let run = Arc::new(RunDir::create("busbar-control-plane-")?);
        let mut attempt = 1;
        loop {
            match Self::start_once(&options, &binaries, &run, attempt).await {
                Ok(plane) => return Ok(plane),
                Err(error) if error.is_port_clash() && attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => {
                    run.keep();
                    return Err(error);
                }
            }
        }
    }

    async fn start_once(
        options: &Options,
        binaries: &Binaries,
        run: &Arc<RunDir>,
        attempt: usize,
    ) -> Result<Self, Error> {
        let clock = Clock::system();
        let ports = Ports::reserve()?;
        let layout = Layout { directory: run.path().join(format!("plane-{attempt}")) };
        let pki = Pki::create(&layout.file("pki"), clock.now().wall)?;
        let url = ports.api_server_url();
        let admin_kubeconfig = layout.file("admin.kubeconfig");
        kubeconfig::write(&admin_kubeconfig, &url, &pki.ca_pem, "default", &User::Certificate(&pki.admin))?;
        let manager = User::Certificate(&pki.controller_manager);
        kubeconfig::write(&layout.controller_manager_kubeconfig(), &url, &pki.ca_pem, "default", &manager)?;
        pki::write_private(&layout.audit_policy(), audit::POLICY)?;
        let config = kubeconfig::read(&admin_kubeconfig).await?;
        let mut plane = Self {
            processes: Mutex::new(HashMap::new()),
            options: options.clone(),
            binaries: binaries.clone(),
            ports,
            pki,
            layout,
            url,
            admin_kubeconfig,
            config,
            timings: Vec::new(),
            run: Arc::clone(run),
        };
        for component in Component::ALL {
            let began = clock.mono();
            match plane.start_component(component).await {
                Ok(()) => plane.timings.push((component, clock.mono().since(began))),
                Err(Error::NotRunning(Component::ControllerManager)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(plane)
    }

    /// `https://127.0.0.1:<port>`; the same over restarts.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate that signed the API server's, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.pki.ca_pem
    }

    /// A kubeconfig of the group `system:masters`. Never for an operator under test.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// How long each component took until it was ready.
    pub fn timings(&self) -> &[(Component, Duration)] {
        &self.timings
    }

    /// True if there is a controller-manager; without one namespaces are never gone and nothing is garbage collected.
    pub fn has_controller_manager(&self) -> bool {
        self.binaries.controller_manager.is_some()
    }

    /// The directory of this run; removed at its end unless [`RunDir::keep`] was called.
    pub fn run_dir(&self) -> &Arc<RunDir> {
        &self.run
    }

    /// The configuration of an admin client.
    pub fn config(&self) -> kube::Config {
        self.config.clone()
    }

    /// An admin client. It belongs to the runtime it is made on, so a shared control plane makes one for each test.
    pub fn client(&self) -> Result<Client, Error> {
        Client::try_from(self.config.clone()).map_err(Error::api("make a client"))
    }

    /// `kubectl` of the server's version, as admin. A kubectl on PATH may be of any version.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.binaries.kubectl);
        command
            .arg("--kubeconfig")
            .arg(&self.admin_kubeconfig)
            .arg("--cache-dir")
            .arg(self.layout.file("kubectl-cache"))
            .env_remove("KUBECONFIG");
        command
    }

    /// Certificate and key of the admin, as PEM.
    pub fn admin_identity(&self) -> (&str, &str) {
        (&self.pki.admin.certificate, &self.pki.admin.key)
    }

    /// Where kubectl is.
    pub fn kubectl_path(&self) -> &Path {
        &self.binaries.kubectl
    }

    /// Asks for a token of an existing service account and writes a kubeconfig with it.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf, Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let issued = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .map_err(Error::api(format!("issue a token for ServiceAccount {namespace}/{name}")))?;
        let token = issued.status.map(|status| status.token).unwrap_or_default();
        let path = self.layout.file(&format!("sa-{namespace}-{name}.kubeconfig"));
        kubeconfig::write(&path, &self.url, &self.pki.ca_pem, namespace, &User::Token(&token))?;
        Ok(path)
    }

    /// Everything that was asked of the API server.
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.layout.audit_log())
    }

    /// The audit log's file.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// Where etcd listens for clients, for a second API server or a look inside.
    pub fn etcd_url(&self) -> String {
        self.ports.etcd_url()
    }

    /// Starts a component that is not running, on its old port and data, and waits until it is ready.
    pub async fn start_component(&self, component: Component) -> Result<(), Error> {
        self.start_with(component, &[]).await
    }

    async fn start_with(&self, component: Component, args: &[&str]) -> Result<(), Error> {
        let mut spec = components::spec(component, &self.binaries, self.ports, &self.layout, &self.pki, &self.options)
            .ok_or(Error::NotRunning(component))?;
        // A later flag wins over an earlier one of the same name.
        spec.args.extend(args.iter().map(OsString::from));
        let mut processes = self.processes.lock().await;
        // The old one, if any, is killed first: two on one port would be a puzzle.
        drop(processes.remove(&component));
        let mut process = Process::spawn(&self.run, &spec)?;
        let mut config = self.config.clone();
        // Whether it answers 503 is just what we want to know.
        config.default_retry = false;
        let ready = components::wait_ready(component, &mut process, self.ports, &config, self.options.patience).await;
        processes.insert(component, process);
        ready
    }

    /// Ends a component and leaves it ended.
    pub async fn stop_component(&self, component: Component) -> Result<(), Error> {
        let mut process = self.processes.lock().await.remove(&component).ok_or(Error::NotRunning(component))?;
        process.stop(TERM_PATIENCE).await;
        Ok(())
    }

    /// Ends a component with SIGKILL and leaves it ended.
    pub async fn kill_component(&self, component: Component) -> Result<(), Error> {
        let process = self.processes.lock().await.remove(&component).ok_or(Error::NotRunning(component))?;
        drop(process);
        Ok(())
    }

    /// Ends a component and starts it again.
    pub async fn restart(&self, component: Component) -> Result<(), Error> {
        self.stop_component(component).await?;
        self.start_component(component).await
    }

    /// The same with further flags, this time only: the next start is without them.
    pub async fn restart_with(&self, component: Component, args: &[&str]) -> Result<(), Error> {
        self.stop_component(component).await?;
        self.start_with(component, args).await
    }

    /// Freezes a component: its connections stay open and nothing is answered.
    pub async fn pause(&self, component: Component) -> Result<(), Error> {
        self.signal(component, Signal::Stop).await
    }

    /// Thaws a frozen component.
    pub async fn resume(&self, component: Component) -> Result<(), Error> {
        self.signal(component, Signal::Cont).await
    }

    async fn signal(&self, component: Component, signal: Signal) -> Result<(), Error> {
        self.processes.lock().await.get(&component).ok_or(Error::NotRunning(component))?.signal(signal)
    }

    /// Makes etcd forget all old revisions, so that a watch that starts from one is told 410 Gone. Returns the revision
    /// that is the oldest now.
    pub async fn compact(&self) -> Result<i64, Error> {
        let failed = |error: reqwest::Error| Error::Compact(error.to_string());
        let http = components::plain_http().map_err(failed)?;
        let post = async |path: &str, body: String| {
            let answer =
                http.post(format!("{}{path}", self.ports.etcd_url())).body(body).send().await.map_err(failed)?;
            let status = answer.status();
            let text = answer.text().await.map_err(failed)?;
            if status.is_success() { Ok(text) } else { Err(Error::Compact(format!("{path} answers {status}"))) }
        };
        // "AA==" is the key of one zero byte; only the header of the answer matters, and it holds 64-bit numbers as text.
        let text = post("/v3/kv/range", r#"{"key":"AA=="}"#.into()).await?;
        let answer: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Error::Compact(error.to_string()))?;
        let revision: i64 = answer["header"]["revision"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::Compact("the answer has no revision".into()))?;
        post("/v3/kv/compaction", format!(r#"{{"revision":"{revision}","physical":true}}"#)).await?;
        Ok(revision)
    }

    /// Ends everything in reverse order of start.
    pub async fn stop(self) {
        for component in Component::ALL.into_iter().rev() {
            // A component that is not running needs no end.
            drop(self.stop_component(component).await);
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // In reverse order of start: a server whose store is gone would only fill its log.
        let processes = self.processes.get_mut();
        for component in Component::ALL.into_iter().rev() {
            drop(processes.remove(&component));
        }
    }
}
