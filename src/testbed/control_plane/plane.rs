//! Starts and stops the components, and stops, freezes and restarts them individually.

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

use crate::clock::Clock;
use crate::testbed::control_plane::audit::{self, AuditLog};
use crate::testbed::control_plane::binaries::Binaries;
use crate::testbed::control_plane::command_line;
use crate::testbed::control_plane::component::Component;
use crate::testbed::control_plane::error::ControlPlaneError;
use crate::testbed::control_plane::kubeconfig::{self, UserCredentials};
use crate::testbed::control_plane::layout::Layout;
use crate::testbed::control_plane::options::Options;
use crate::testbed::control_plane::pki::{self, Pki};
use crate::testbed::control_plane::ports::Ports;
use crate::testbed::control_plane::process::{Process, Signal};
use crate::testbed::control_plane::readiness;
use crate::testbed::control_plane::run_dir::RunDir;

/// Maximum start attempts, each with other ports, if another process binds a reserved port first.
const START_ATTEMPTS: usize = 3;

/// How long a component may take to exit on SIGTERM. Servers wait for open requests, and a watch is one, so most would
/// use any grace period in full; acknowledged writes are in etcd, and SIGKILL loses none of them.
const TERM_TIMEOUT: Duration = Duration::from_secs(1);

/// Validity of a service account token in seconds: longer than any run.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

/// A running control plane. Dropping it kills it; [`ControlPlane::stop`] shuts it down in order.
pub struct ControlPlane {
    // First, so that the processes exit before the directory is removed.
    processes: Mutex<HashMap<Component, Process>>,
    pub(crate) options: Options,
    binaries: Binaries,
    ports: Ports,
    pki: Pki,
    pub(crate) layout: Layout,
    audit: AuditLog,
    url: String,
    admin_kubeconfig: PathBuf,
    config: kube::Config,
    startup_times: Vec<(Component, Duration)>,
    run: Arc<RunDir>,
}

impl ControlPlane {
    /// Starts a control plane and waits until it is ready. Builds the binaries first if they are missing (minutes,
    /// once).
    pub async fn start(options: Options) -> Result<Self, ControlPlaneError> {
        // The clients of a control plane use TLS. An error means that a provider is installed already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let binaries = Binaries::locate(options.controllers).await?;
        let run = Arc::new(RunDir::create("busbar-control-plane-")?);
        let mut attempt = 1;
        loop {
            match Self::start_once(&options, &binaries, &run, attempt).await {
                Ok(plane) => return Ok(plane),
                Err(error) if error.is_port_conflict() && attempt < START_ATTEMPTS => attempt += 1,
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
    ) -> Result<Self, ControlPlaneError> {
        let clock = Clock::system();
        let ports = Ports::reserve()?;
        let layout = Layout { directory: run.path().join(format!("plane-{attempt}")) };
        let pki = Pki::create(&layout.file("pki"), clock.now().wall)?;
        let url = ports.api_server_url();
        let admin_kubeconfig = layout.file("admin.kubeconfig");
        kubeconfig::write(&admin_kubeconfig, &url, &pki.ca_pem, "default", &UserCredentials::Certificate(&pki.admin))?;
        let manager = UserCredentials::Certificate(&pki.controller_manager);
        kubeconfig::write(&layout.controller_manager_kubeconfig(), &url, &pki.ca_pem, "default", &manager)?;
        pki::write_private(&layout.audit_policy(), audit::POLICY)?;
        let config = kubeconfig::read(&admin_kubeconfig).await?;
        let mut plane = Self {
            processes: Mutex::new(HashMap::new()),
            options: options.clone(),
            binaries: binaries.clone(),
            ports,
            pki,
            audit: AuditLog::new(layout.audit_log()),
            layout,
            url,
            admin_kubeconfig,
            config,
            startup_times: Vec::new(),
            run: Arc::clone(run),
        };
        for component in Component::ALL {
            let started = clock.mono();
            match plane.start_component(component).await {
                Ok(()) => plane.startup_times.push((component, clock.mono().since(started))),
                Err(ControlPlaneError::NotRunning(Component::ControllerManager)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(plane)
    }

    /// `https://127.0.0.1:<port>`; restarts do not change it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The CA certificate of the API server, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.pki.ca_pem
    }

    /// A kubeconfig of the group `system:masters`. Never for an operator under test.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// How long each component took to become ready.
    pub fn startup_times(&self) -> &[(Component, Duration)] {
        &self.startup_times
    }

    /// Whether there is a controller-manager; without one, namespaces are never removed and nothing is garbage
    /// collected.
    pub fn has_controller_manager(&self) -> bool {
        self.binaries.controller_manager.is_some()
    }

    /// The directory of this run; removed at the end unless [`RunDir::keep`] was called.
    pub fn run_dir(&self) -> &Arc<RunDir> {
        &self.run
    }

    /// The configuration of an admin client.
    pub fn config(&self) -> kube::Config {
        self.config.clone()
    }

    /// An admin client. It belongs to the runtime on which it is created, so each test of a shared control plane
    /// creates its own.
    pub fn client(&self) -> Result<Client, ControlPlaneError> {
        Client::try_from(self.config.clone()).map_err(ControlPlaneError::api("create a client"))
    }

    /// A `kubectl` command of the server's version, as admin. A kubectl on PATH may be of any version.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.binaries.kubectl);
        command
            .arg("--kubeconfig")
            .arg(&self.admin_kubeconfig)
            .arg("--cache-dir")
            .arg(self.layout.file("kubectl-cache"))
            .envs(command_line::GO_GC_ENV)
            .env_remove("KUBECONFIG");
        command
    }

    /// Certificate and key of the admin, as PEM.
    pub fn admin_identity(&self) -> (&str, &str) {
        (&self.pki.admin.certificate, &self.pki.admin.key)
    }

    /// The path of kubectl.
    pub fn kubectl_path(&self) -> &Path {
        &self.binaries.kubectl
    }

    /// Requests a token for an existing service account and writes a kubeconfig with it.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf, ControlPlaneError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let issued = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .map_err(ControlPlaneError::api(format!("issue a token for ServiceAccount {namespace}/{name}")))?;
        let token = issued.status.map(|status| status.token).unwrap_or_default();
        let path = self.layout.file(&format!("sa-{namespace}-{name}.kubeconfig"));
        kubeconfig::write(&path, &self.url, &self.pki.ca_pem, namespace, &UserCredentials::Token(&token))?;
        Ok(path)
    }

    /// All requests to the API server.
    pub fn audit(&self) -> AuditLog {
        self.audit.clone()
    }

    /// The audit log's file.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// The client URL of etcd, for a second API server or for debugging.
    pub fn etcd_url(&self) -> String {
        self.ports.etcd_url()
    }

    /// Starts a component that is not running, with the same port and data as before, and waits until it is ready.
    pub async fn start_component(&self, component: Component) -> Result<(), ControlPlaneError> {
        self.start_with(component, &[]).await
    }

    async fn start_with(&self, component: Component, args: &[&str]) -> Result<(), ControlPlaneError> {
        let mut spec =
            command_line::spec(component, &self.binaries, self.ports, &self.layout, &self.pki, &self.options)
                .ok_or(ControlPlaneError::NotRunning(component))?;
        // A later flag overrides an earlier one of the same name.
        spec.args.extend(args.iter().map(OsString::from));
        let mut processes = self.processes.lock().await;
        // The old process, if any, is killed first: two on one port would conflict.
        drop(processes.remove(&component));
        let mut process = Process::spawn(&self.run, &spec)?;
        let mut config = self.config.clone();
        // The readiness probe must see a 503, not a retry.
        config.default_retry = false;
        let ready =
            readiness::wait_ready(component, &mut process, self.ports, &config, self.options.ready_timeout).await;
        processes.insert(component, process);
        ready
    }

    /// Stops a component with SIGTERM.
    pub async fn stop_component(&self, component: Component) -> Result<(), ControlPlaneError> {
        let mut process =
            self.processes.lock().await.remove(&component).ok_or(ControlPlaneError::NotRunning(component))?;
        process.stop(TERM_TIMEOUT).await;
        Ok(())
    }

    /// Stops a component with SIGKILL.
    pub async fn kill_component(&self, component: Component) -> Result<(), ControlPlaneError> {
        let process = self.processes.lock().await.remove(&component).ok_or(ControlPlaneError::NotRunning(component))?;
        drop(process);
        Ok(())
    }

    /// Stops a component and starts it again.
    pub async fn restart(&self, component: Component) -> Result<(), ControlPlaneError> {
        self.stop_component(component).await?;
        self.start_component(component).await
    }

    /// Restarts a component with additional flags; the next start is without them.
    pub async fn restart_with(&self, component: Component, args: &[&str]) -> Result<(), ControlPlaneError> {
        self.stop_component(component).await?;
        self.start_with(component, args).await
    }

    /// Freezes a component (SIGSTOP): its connections stay open and requests hang.
    pub async fn pause(&self, component: Component) -> Result<(), ControlPlaneError> {
        self.signal(component, Signal::Stop).await
    }

    /// Resumes a frozen component.
    pub async fn resume(&self, component: Component) -> Result<(), ControlPlaneError> {
        self.signal(component, Signal::Cont).await
    }

    async fn signal(&self, component: Component, signal: Signal) -> Result<(), ControlPlaneError> {
        self.processes.lock().await.get(&component).ok_or(ControlPlaneError::NotRunning(component))?.signal(signal)
    }

    /// Compacts etcd to its current revision, so that a watch that starts from an older one receives 410 Gone. Returns
    /// that revision.
    pub async fn compact(&self) -> Result<i64, ControlPlaneError> {
        let failed = |error: reqwest::Error| ControlPlaneError::Compact(error.to_string());
        let http = readiness::plain_http().map_err(failed)?;
        let post = async |path: &str, body: String| {
            let response =
                http.post(format!("{}{path}", self.ports.etcd_url())).body(body).send().await.map_err(failed)?;
            let status = response.status();
            let text = response.text().await.map_err(failed)?;
            if status.is_success() {
                Ok(text)
            } else {
                Err(ControlPlaneError::Compact(format!("{path} returned {status}")))
            }
        };
        // "AA==" is the key of one zero byte; only the header of the response matters, which encodes 64-bit numbers as
        // text.
        let text = post("/v3/kv/range", r#"{"key":"AA=="}"#.into()).await?;
        let range: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| ControlPlaneError::Compact(error.to_string()))?;
        let revision: i64 = range["header"]["revision"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| ControlPlaneError::Compact("the response has no revision".into()))?;
        post("/v3/kv/compaction", format!(r#"{{"revision":"{revision}","physical":true}}"#)).await?;
        Ok(revision)
    }

    /// Stops all components in reverse start order.
    pub async fn stop(self) {
        for component in Component::ALL.into_iter().rev() {
            // A component that is not running needs no stop.
            drop(self.stop_component(component).await);
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // In reverse start order: a server without its store would only fill its log.
        let processes = self.processes.get_mut();
        for component in Component::ALL.into_iter().rev() {
            drop(processes.remove(&component));
        }
    }
}
