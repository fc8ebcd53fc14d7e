//! The operator under test: the chart's release, whose Pod the node agent runs with the `ServiceAccount`, the rights, the
//! mounts and the user that the chart declares.
//!
//! Every test ends with [`Operator::finish`], which searches everything that the operator has written for the planted
//! secrets, stops it, checks every status that a [`StatusRecorder`] saw, and fails for every request that RBAC forbade.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::process::Signal;
use busbar::testbed::control_plane::{AuditLog, AuditQuery, ControlPlane, OperatorScope};

use super::chart_release;
use super::control_planes::forbidden;
use super::memory_limit::MemoryLimit;
use super::namespace::TestNs;
use super::node::process::ContainerProcess;
use super::operator_pod::OperatorPod;
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

/// The ports that the chart declares.
const ADMIN_PORT: u16 = 8081;
const GATEWAY_PORT: u16 = 8443;

/// A running (or killed) operator of one namespace.
pub(crate) struct Operator {
    pod: OperatorPod,
    /// Until it was killed or has exited.
    process: Option<ContainerProcess>,
    /// Host and port of the admin server, once that has answered.
    admin: Option<String>,
    /// The URL of the gateway, likewise.
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
        Self::prepare(ns, OperatorScope::Namespace, replica, extra).await.spawned().await
    }

    /// One that serves every namespace. Only on a control plane of the test's own, or it would serve other tests too.
    pub(crate) async fn start_cluster_wide(ns: &TestNs, extra: &[&str]) -> Self {
        Self::prepare(ns, OperatorScope::Cluster, "a", extra).await.spawned().await
    }

    /// Starts one with limited memory, and waits until it is ready.
    pub(crate) async fn ready_within(ns: &TestNs, limit: &MemoryLimit, extra: &[&str]) -> Self {
        ns.node().await.limit_memory(limit.clone());
        Self::ready(ns, extra).await
    }

    /// One that is not started yet.
    async fn prepare(ns: &TestNs, scope: OperatorScope, replica: &str, extra: &[&str]) -> Self {
        Self {
            pod: OperatorPod::prepare(ns, scope, replica, extra).await,
            process: None,
            admin: None,
            gateway: None,
            user: chart_release::user(ns),
            namespace: ns.name().to_owned(),
            plane: Arc::clone(ns.plane()),
            http: client_with_timeout(Duration::from_secs(10)),
            status_recorder: StatusRecorder::of(ns),
            may_be_forbidden: false,
            finished: false,
        }
    }

    async fn spawned(mut self) -> Self {
        self.spawn().await;
        self
    }

    /// Starts it in a new Pod.
    pub(crate) async fn spawn(&mut self) {
        self.kill9();
        self.pod.start_new().await;
        self.process = self.pod.process();
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
            let status = self.process.as_ref().ok_or("the operator was killed")?.exited();
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
        let Some(ip) = self.pod.ip() else { return false };
        let admin = format!("{ip}:{ADMIN_PORT}");
        let answer = self.get_from(&admin, "/readyz").await;
        if answer.is_some() {
            self.gateway = Some(format!("https://{ip}:{GATEWAY_PORT}"));
            self.admin = Some(admin);
        }
        answer.is_some_and(|(status, _)| status == 200)
    }

    /// Waits until the admin server listens, ready or not.
    pub(crate) async fn wait_listening(&mut self) {
        eventually("the admin server listens", async || {
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

    /// Where the admin server listens: the Pod's address and the chart's port.
    pub(crate) fn admin(&self) -> &str {
        self.admin.as_deref().expect("wait_ready was called")
    }

    /// Where the gateway is reached, `https://<the Pod's address>:<the chart's port>`. Its certificate is of no authority.
    pub(crate) fn gateway(&self) -> &str {
        self.gateway.as_deref().expect("wait_ready was called")
    }

    /// Status and body of a response of the admin server; `None` if there is none.
    pub(crate) async fn try_get(&self, path: &str) -> Option<(u16, String)> {
        self.get_from(self.admin.as_deref()?, path).await
    }

    async fn get_from(&self, admin: &str, path: &str) -> Option<(u16, String)> {
        let response = self.http.get(format!("http://{admin}{path}")).send().await.ok()?;
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

    /// Its stdout and stderr so far, of all its Pods.
    pub(crate) fn logs(&self) -> String {
        self.pod.logs()
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        let logs = self.logs();
        let lines: Vec<&str> = logs.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// How it exited, if it exited by itself.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        self.process.as_ref()?.exited()
    }

    /// Its process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ContainerProcess::pid)
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
        self.process.as_ref().expect("it runs").signal(Signal::Stop);
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::Cont);
    }

    /// SIGKILL; the process is gone when this returns, and does not come back by itself.
    pub(crate) fn kill9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.admin = None;
    }

    /// SIGTERM; returns when it says so in its log. [`Self::wait_exit`] waits for its end.
    pub(crate) async fn begin_sigterm(&self) {
        let begun = || self.logs().matches("shutting down: signal received").count();
        let before = begun();
        self.process.as_ref().expect("it runs").signal(Signal::Term);
        let begun = async || begun() > before;
        eventually("the operator begins to shut down", begun).await;
    }

    /// SIGTERM, and its exit status; panics if it does not exit within the grace period.
    pub(crate) async fn sigterm(&mut self) -> ExitStatus {
        let process = self.process.take().expect("it runs");
        process.signal(Signal::Term);
        let status = process.wait(GRACE).await;
        self.admin = None;
        status.unwrap_or_else(|| panic!("still running {GRACE:?} after SIGTERM; log:\n{}", self.log_tail()))
    }

    /// Waits until the operator exits by itself.
    pub(crate) async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let status = self.process.as_ref().expect("it runs").wait(deadline).await;
        let status = status.unwrap_or_else(|| panic!("still running after {deadline:?}; log:\n{}", self.log_tail()));
        self.process = None;
        self.admin = None;
        status
    }

    /// Starts it again in the same Pod, as the kubelet does with a container that was killed, and waits until it is ready:
    /// it has the identity of its predecessor, and its leases.
    pub(crate) async fn restart_in_pod(&mut self) {
        self.kill9();
        self.pod.restart_container().await;
        self.process = self.pod.process();
        self.wait_ready().await;
    }

    /// Starts it again in a new Pod, with the same flags and files, after SIGKILL if it runs, and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.spawn().await;
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
