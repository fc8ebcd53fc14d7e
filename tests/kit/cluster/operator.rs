//! The operator under test: the real binary, with the flags, the service account and the rights of the chart.
//!
//! Every test ends with [`Operator::finish`], which searches everything that the operator has written for the planted
//! secrets, stops it, checks every status that a [`StatusRecorder`] saw, and fails for every request that RBAC forbade.

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::process::{Process, ProcessSpec, Signal};
use busbar::testbed::control_plane::{AuditLog, AuditQuery, ControlPlane, OperatorScope};
use serde::Deserialize;

use super::chart_pod;
use super::control_planes::forbidden;
use super::namespace::TestNs;
use super::status_recorder::StatusRecorder;
use crate::kit::http::client_with_timeout;
use crate::kit::metrics;
use crate::kit::wait::{PATIENCE, eventually};

/// How long an operator may take to exit after SIGTERM: the default grace period of Kubernetes.
const GRACE: Duration = Duration::from_secs(30);

/// How many lines of its log a failure shows.
const LOG_TAIL: usize = 40;

/// Paths of the admin server whose responses `finish` searches.
const PATHS: [&str; 4] = ["/livez", "/readyz", "/readyz?verbose", "/metrics"];

/// Counters that stay 0 while an operator does no work.
const WORK_SERIES: [&str; 4] = [
    "controller_runtime_reconcile_total",
    "busbar_provider_requests_total",
    "busbar_status_writes_total",
    "busbar_sync_runs_total",
];

/// What the operator writes when its ports are bound.
#[derive(Deserialize)]
struct Announcement {
    admin: String,
    gateway: Option<String>,
}

/// A running (or killed) operator of one namespace.
pub(crate) struct Operator {
    pub(super) spec: ProcessSpec,
    /// What runs in the present Pod.
    in_pod: Option<ProcessSpec>,
    announce: PathBuf,
    process: Option<Process>,
    admin: Option<String>,
    gateway: Option<String>,
    user: String,
    namespace: String,
    plane: Arc<ControlPlane>,
    http: reqwest::Client,
    status_recorder: StatusRecorder,
    may_be_forbidden: bool,
    finished: bool,
}

impl Operator {
    /// Starts one that watches `ns` only, with further flags; does not wait for it.
    pub(crate) async fn start(ns: &TestNs, extra: &[&str]) -> Self {
        Self::start_replica(ns, "a", extra).await
    }

    /// Starts one and waits until it is ready.
    pub(crate) async fn ready(ns: &TestNs, extra: &[&str]) -> Self {
        let mut operator = Self::start(ns, extra).await;
        operator.wait_ready().await;
        operator
    }

    /// One of several replicas: the same account and lease, files of its own.
    pub(crate) async fn start_replica(ns: &TestNs, replica: &str, extra: &[&str]) -> Self {
        Self::prepare(ns, OperatorScope::Namespace, replica, extra).await.spawned()
    }

    /// One that serves every namespace. Only on a control plane of the test's own, or it would serve other tests too.
    pub(crate) async fn start_cluster_wide(ns: &TestNs, extra: &[&str]) -> Self {
        Self::prepare(ns, OperatorScope::Cluster, "a", extra).await.spawned()
    }

    /// One that is not started yet.
    pub(super) async fn prepare(ns: &TestNs, scope: OperatorScope, replica: &str, extra: &[&str]) -> Self {
        let plane = Arc::clone(ns.plane());
        let identity = chart_pod::grant(ns, scope).await;
        let directory = ns.operator_dir(replica);
        fs::create_dir_all(&directory).expect("a directory for the operator");
        for owner in [replica, "a"] {
            let ledger = ns.ledger_file(owner);
            fs::create_dir_all(ledger.parent().expect("a folder")).expect("a directory for the ledger");
        }
        let announce = directory.join("announce.json");
        let flags = [
            format!("--kubeconfig={}", identity.kubeconfig.display()),
            "--admin-address=127.0.0.1:0".to_owned(),
            "--gateway-address=127.0.0.1:0".to_owned(),
            ns.ledger_flag(replica),
            format!("--announce-file={}", announce.display()),
        ];
        let spec = chart_pod::process(ns, scope, replica, &flags, extra).await;
        Self {
            spec,
            in_pod: None,
            announce,
            process: None,
            admin: None,
            gateway: None,
            user: identity.user,
            namespace: ns.name().to_owned(),
            plane,
            http: client_with_timeout(Duration::from_secs(10)),
            status_recorder: StatusRecorder::of(ns),
            may_be_forbidden: false,
            finished: false,
        }
    }

    pub(super) fn spawned(mut self) -> Self {
        self.spawn();
        self
    }

    /// Starts it in a new Pod.
    pub(crate) fn spawn(&mut self) {
        let spec = chart_pod::in_new_pod(&self.spec);
        self.start_process(&spec);
        self.in_pod = Some(spec);
    }

    fn start_process(&mut self, spec: &ProcessSpec) {
        // The announcement of the previous process names a port that is closed.
        drop(fs::remove_file(&self.announce));
        self.admin = None;
        self.process = Some(Process::spawn(self.plane.run_dir(), spec).expect("it starts"));
    }

    /// Waits until `/readyz` answers 200; fails at once, with the log, if the process exits.
    pub(crate) async fn wait_ready(&mut self) {
        self.try_wait_ready(PATIENCE).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same, for a test that expects a failure.
    pub(crate) async fn try_wait_ready(&mut self, deadline: Duration) -> Result<(), String> {
        let clock = Clock::system();
        let began = clock.mono();
        loop {
            let status = self.process.as_mut().ok_or("the operator was killed")?.exited();
            if let Some(status) = status {
                return Err(format!("the operator exited ({status}) before it was ready:\n{}", self.log_tail()));
            }
            if self.is_ready().await {
                return Ok(());
            }
            if clock.mono().since(began) > deadline {
                return Err(format!("the operator is not ready after {deadline:?}:\n{}", self.log_tail()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_ready(&mut self) -> bool {
        if self.admin.is_none() {
            // Written under another name and renamed: it is complete or absent.
            if let Ok(text) = fs::read(&self.announce) {
                let announced: Announcement = serde_json::from_slice(&text).expect("the announcement is JSON");
                (self.admin, self.gateway) = (Some(announced.admin), announced.gateway);
            }
        }
        match self.try_get("/readyz").await {
            Some((status, _)) => status == 200,
            None => false,
        }
    }

    /// Waits until the admin server listens, ready or not.
    pub(crate) async fn wait_announced(&mut self) {
        eventually("the operator announces its address", async || {
            self.is_ready().await;
            if self.admin.is_some() { Ok(()) } else { Err(self.log_tail()) }
        })
        .await;
    }

    /// Changes the log level; status and body of the response.
    pub(crate) async fn put_log_level(&self, directives: &str) -> (u16, String) {
        let url = format!("http://{}/log-level", self.admin());
        let response =
            self.http.put(url).body(directives.to_owned()).send().await.expect("a response to PUT /log-level");
        (response.status().as_u16(), response.text().await.unwrap_or_default())
    }

    /// Where the admin server listens, `127.0.0.1:<port>`.
    pub(crate) fn admin(&self) -> &str {
        self.admin.as_deref().expect("wait_ready was called")
    }

    /// Where the gateway is reached, `http://127.0.0.1:<port>`.
    pub(crate) fn gateway(&self) -> &str {
        self.gateway.as_deref().expect("it has a gateway, and wait_ready was called")
    }

    /// Status and body of a response of the admin server; `None` if there is none.
    pub(crate) async fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let response = self.http.get(format!("http://{}{path}", self.admin.as_deref()?)).send().await.ok()?;
        let status = response.status().as_u16();
        response.text().await.ok().map(|text| (status, text))
    }

    /// Status and body of a response of the admin server.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.try_get(path).await.unwrap_or_else(|| panic!("no response to GET {path}; log:\n{}", self.log_tail()))
    }

    /// One scrape.
    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await.1
    }

    /// The value of the one series with this name and these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        metrics::value(&self.metrics().await, name, labels)
    }

    /// Its stdout and stderr so far, of all its processes.
    pub(crate) fn logs(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.spec.log).unwrap_or_default()).into_owned()
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        let logs = self.logs();
        let lines: Vec<&str> = logs.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// How it exited, if it exited by itself.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.exited()
    }

    /// Its process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Its user in the audit log.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Every status of the objects in its namespace.
    pub(crate) fn status_recorder(&self) -> &StatusRecorder {
        &self.status_recorder
    }

    /// A query for its requests.
    pub(crate) fn requests(&self) -> AuditQuery<'_> {
        AuditQuery { user: Some(&self.user), ..AuditQuery::default() }
    }

    /// The audit log of its control plane.
    pub(crate) fn audit(&self) -> AuditLog {
        self.plane.audit()
    }

    /// SIGSTOP: its connections stay open and its lease expires.
    pub(crate) fn pause(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::Stop).expect("SIGSTOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::Cont).expect("SIGCONT");
    }

    /// SIGKILL; the process is gone when this returns.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
        self.admin = None;
    }

    /// SIGTERM; returns when it says so in its log. [`Self::wait_exit`] waits for its end.
    pub(crate) async fn begin_sigterm(&self) {
        let begun = || self.logs().matches("shutting down: signal received").count();
        let before = begun();
        self.process.as_ref().expect("it runs").signal(Signal::Term).expect("SIGTERM");
        let begun = async || begun() > before;
        eventually("the operator begins to shut down", begun).await;
    }

    /// SIGTERM, and its exit status; panics if it does not exit within the grace period.
    pub(crate) async fn sigterm(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::Term).expect("SIGTERM");
        let status = process.wait(GRACE).await;
        self.admin = None;
        status.unwrap_or_else(|| panic!("still running {GRACE:?} after SIGTERM; log:\n{}", self.log_tail()))
    }

    /// Waits until the operator exits by itself.
    pub(crate) async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let status = self.process.as_mut().expect("it runs").wait(deadline).await;
        let status = status.unwrap_or_else(|| panic!("still running after {deadline:?}; log:\n{}", self.log_tail()));
        self.process = None;
        self.admin = None;
        status
    }

    /// Starts it again in the same Pod, as the kubelet does with a container that was killed, and waits until it is ready:
    /// it has the identity of its predecessor, and its leases.
    pub(crate) async fn restart_in_pod(&mut self) {
        self.kill9();
        let spec = self.in_pod.clone().expect("it was started");
        self.start_process(&spec);
        self.wait_ready().await;
    }

    /// Starts it again in a new Pod, with the same flags and files, after SIGKILL if it runs, and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.kill9();
        self.spawn();
        self.wait_ready().await;
    }

    /// Whether its metrics say that it leads; false as well while it does not answer.
    pub(crate) async fn leads(&self) -> bool {
        let response = self.try_get("/metrics").await;
        response.is_some_and(|(_, text)| metrics::value(&text, "leader_election_master_status", &[]) == Some(1.0))
    }

    /// Waits until it leads.
    pub(crate) async fn wait_leading(&self) {
        eventually("the operator leads", async || self.leads().await).await;
    }

    /// Asserts that it is ready and does nothing but watch.
    pub(crate) async fn assert_standby(&self) {
        let scrape = self.metrics().await;
        assert_eq!(metrics::value(&scrape, "leader_election_master_status", &[]), Some(0.0));
        for series in WORK_SERIES {
            let found = metrics::find(&scrape, series, &[]);
            assert!(found.iter().all(|sample| sample.value == 0.0), "a standby works: {found:?}");
        }
        let (status, gates) = self.get("/readyz").await;
        assert!(status == 200 && gates.contains("[ ] leading"), "a standby is not ready: {status} {gates}");
    }

    /// Forbidden requests are no failure: this test takes rights away.
    pub(crate) fn expect_forbidden(&mut self) {
        self.may_be_forbidden = true;
    }

    /// The end of every test. See the module's documentation.
    pub(crate) async fn finish(mut self, ns: &TestNs) {
        // From here on a panic is the finding itself.
        self.finished = true;
        let mut outputs = vec![("its objects and events".to_owned(), ns.written_objects().await)];
        if self.admin.is_some() {
            for path in PATHS {
                outputs.push((format!("the response to GET {path}"), self.get(path).await.1));
            }
            let status = self.sigterm().await;
            assert!(status.success(), "after SIGTERM the operator exited with {status}; log:\n{}", self.log_tail());
        }
        self.kill9();
        // Last, so that what it logs while it exits is searched too.
        outputs.push(("its log".to_owned(), self.logs()));
        let mut findings: Vec<String> =
            outputs.iter().flat_map(|(source, text)| ns.canaries().leaks(source, text)).collect();
        findings.extend(self.status_recorder.findings().await);
        if !self.may_be_forbidden {
            let forbidden = forbidden(&self.plane.audit(), &self.user).into_iter();
            findings.extend(forbidden.map(|request| format!("the chart does not allow {request}")));
        }
        assert!(findings.is_empty(), "the operator of {}:\n{}", self.namespace, findings.join("\n"));
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        assert!(
            self.finished || std::thread::panicking(),
            "a test of {} ends without `operator.finish(&ns).await`, which looks for leaks and forbidden requests",
            self.namespace
        );
    }
}
