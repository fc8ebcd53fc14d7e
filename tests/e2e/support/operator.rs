//! The operator under test: the real binary, a service account's token, the rights of `config/rbac/`.
//!
//! Every test ends with [`Operator::finish`], which searches all that came out of the operator for the planted secrets,
//! ends it in order, checks every status that a [`StatusRecorder`] saw, and asks the audit log whether it was refused anything.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::process::{Process, ProcessSpec, Signal};
use busbar::testbed::control_plane::{AuditLog, AuditQuery, ControlPlane, OperatorScope};
use serde::Deserialize;

use super::metrics;
use super::namespace::TestNs;
use super::plane::{PATIENCE, forbidden};
use super::status_recorder::StatusRecorder;

/// How long an operator may take to end on SIGTERM: the grace that Kubernetes gives by default.
const GRACE: Duration = Duration::from_secs(30);

/// Lines of its log that a failure shows.
const LOG_TAIL: usize = 40;

/// Answers that `finish` reads and searches.
const PATHS: [&str; 4] = ["/livez", "/readyz", "/readyz?verbose", "/metrics"];

/// What the operator writes when its ports are bound.
#[derive(Deserialize)]
struct Announcement {
    admin: String,
    gateway: Option<String>,
}

/// A running (or killed) operator of one namespace.
pub(crate) struct Operator {
    spec: ProcessSpec,
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
    /// Starts one that watches `ns` only, with `extra` flags at the end; does not wait for it.
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
        Self::launch(ns, OperatorScope::Namespace, replica, extra).await
    }

    /// One that serves every namespace. Only on a control plane of the test's own, or it would serve other tests too.
    pub(crate) async fn start_cluster_wide(ns: &TestNs, extra: &[&str]) -> Self {
        Self::launch(ns, OperatorScope::Cluster, "a", extra).await
    }

    async fn launch(ns: &TestNs, reach: OperatorScope, replica: &str, extra: &[&str]) -> Self {
        let plane = Arc::clone(ns.plane());
        let identity = plane.grant_operator(ns.name(), reach).await.expect("identity and rights for the operator");
        let directory = plane.run_dir().path().join("operators").join(ns.name()).join(replica);
        fs::create_dir_all(&directory).expect("a directory for the operator");
        let announce = directory.join("announce.json");
        let watched = match reach {
            OperatorScope::Namespace => Some(format!("--watch-namespaces={}", ns.name())),
            OperatorScope::Cluster => None,
        };
        let flags = [
            "run".to_owned(),
            format!("--kubeconfig={}", identity.kubeconfig.display()),
            format!("--lease-namespace={}", ns.name()),
            "--admin-address=127.0.0.1:0".to_owned(),
            "--gateway-address=127.0.0.1:0".to_owned(),
            format!("--ledger=sqlite:{}", directory.join("busbar.db").display()),
            "--log-format=json".to_owned(),
            format!("--announce-file={}", announce.display()),
            // The banks of the tests are on this machine.
            "--allow-provider-addresses=127.0.0.0/8,::1".to_owned(),
        ];
        let spec = ProcessSpec {
            name: format!("busbar of {}", ns.name()),
            program: env!("CARGO_BIN_EXE_busbar").into(),
            args: flags
                .into_iter()
                .chain(watched)
                // A flag of the test's own takes the place of ours.
                .filter(|flag| !extra.iter().any(|own| own.split('=').next() == flag.split('=').next()))
                .chain(extra.iter().map(ToString::to_string))
                .map(OsString::from)
                .collect(),
            env: vec![("RUST_BACKTRACE".to_owned(), "1".into())],
            log: directory.join("busbar.log"),
        };
        let mut operator = Self {
            spec,
            announce,
            process: None,
            admin: None,
            gateway: None,
            user: identity.user,
            namespace: ns.name().to_owned(),
            plane,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(10))
                .build()
                .expect("an HTTP client"),
            status_recorder: StatusRecorder::of(ns),
            may_be_forbidden: false,
            finished: false,
        };
        operator.spawn();
        operator
    }

    fn spawn(&mut self) {
        // The announcement of the last incarnation would lead to a port that is gone.
        drop(fs::remove_file(&self.announce));
        self.admin = None;
        self.process = Some(Process::spawn(self.plane.run_dir(), &self.spec).expect("the operator starts"));
    }

    /// Waits until `/readyz` answers 200; fails at once, with the log, if the process ends.
    pub(crate) async fn wait_ready(&mut self) {
        if let Err(why) = self.try_wait_ready(PATIENCE).await {
            panic!("{why}");
        }
    }

    /// The same, for a test that expects a failure.
    pub(crate) async fn try_wait_ready(&mut self, patience: Duration) -> Result<(), String> {
        let clock = Clock::system();
        let began = clock.mono();
        loop {
            let status = self.process.as_mut().ok_or("the operator was killed")?.exited();
            if let Some(status) = status {
                return Err(format!("the operator ended ({status}) before it was ready:\n{}", self.log_tail()));
            }
            if self.is_ready().await {
                return Ok(());
            }
            if clock.mono().since(began) > patience {
                return Err(format!("the operator is not ready after {patience:?}:\n{}", self.log_tail()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_ready(&mut self) -> bool {
        if self.admin.is_none() {
            // Written under another name and renamed: it is whole or absent.
            let announced = fs::read(&self.announce).ok();
            if let Some(text) = announced {
                let said: Announcement = serde_json::from_slice(&text).expect("the announcement is JSON with `admin`");
                (self.admin, self.gateway) = (Some(said.admin), said.gateway);
            }
        }
        match self.try_get("/readyz").await {
            Some((status, _)) => status == 200,
            None => false,
        }
    }

    /// Waits until the admin server can be asked, ready or not.
    pub(crate) async fn wait_announced(&mut self) {
        let clock = Clock::system();
        let began = clock.mono();
        while self.admin.is_none() {
            assert!(clock.mono().since(began) < PATIENCE, "it announces no address; log:\n{}", self.log_tail());
            self.is_ready().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Changes the log level; status and body of the answer.
    pub(crate) async fn put_log_level(&self, directives: &str) -> (u16, String) {
        let url = format!("http://{}/log-level", self.admin());
        let answer = self.http.put(url).body(directives.to_owned()).send().await.expect("an answer to PUT /log-level");
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    }

    /// Where the admin server listens, `127.0.0.1:<port>`.
    pub(crate) fn admin(&self) -> &str {
        self.admin.as_deref().expect("wait_ready was called")
    }

    /// Where the gateway is reached, `http://127.0.0.1:<port>`.
    pub(crate) fn gateway(&self) -> &str {
        self.gateway.as_deref().expect("it has a gateway, and wait_ready was called")
    }

    /// Asks the admin server; `None` if there is no answer.
    pub(crate) async fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let answer = self.http.get(format!("http://{}{path}", self.admin.as_deref()?)).send().await.ok()?;
        let status = answer.status().as_u16();
        answer.text().await.ok().map(|text| (status, text))
    }

    /// Status and body of an answer of the admin server.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.try_get(path).await.unwrap_or_else(|| panic!("no answer to GET {path}; log:\n{}", self.log_tail()))
    }

    /// One scrape.
    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await.1
    }

    /// The value of the one series with this name and these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        metrics::value(&self.metrics().await, name, labels)
    }

    /// All that it has written to stdout and stderr so far, over all incarnations.
    pub(crate) fn logs(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.spec.log).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let logs = self.logs();
        let lines: Vec<&str> = logs.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// The end of what it has said.
    pub(crate) fn logs_tail(&self) -> String {
        self.log_tail()
    }

    /// How it ended, if it has ended by itself.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.exited()
    }

    /// Its process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The user that the audit log knows it by.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// What it made of the objects in its namespace.
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

    /// Freezes it: its connections stay open and its lease runs out.
    pub(crate) fn pause(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::Stop).expect("SIGSTOP");
    }

    /// Thaws it.
    pub(crate) fn resume(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::Cont).expect("SIGCONT");
    }

    /// SIGKILL: nothing of it can run any more when this returns.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
        self.admin = None;
    }

    /// SIGTERM, and its exit status; panics if it does not end within the grace of Kubernetes.
    pub(crate) async fn sigterm(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::Term).expect("SIGTERM");
        let status = process.wait(GRACE).await;
        self.admin = None;
        status.unwrap_or_else(|| panic!("still running {GRACE:?} after SIGTERM; log:\n{}", self.log_tail()))
    }

    /// Waits for an end that the operator chose itself.
    pub(crate) async fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        let status = self.process.as_mut().expect("it runs").wait(patience).await;
        let status = status.unwrap_or_else(|| panic!("still running after {patience:?}; log:\n{}", self.log_tail()));
        self.process = None;
        self.admin = None;
        status
    }

    /// Starts it again with the same flags and files, after ending it (SIGKILL) if it runs, and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.kill9();
        self.spawn();
        self.wait_ready().await;
    }

    /// Whether it says that it leads; false as well while nobody answers.
    pub(crate) async fn leads(&self) -> bool {
        let answer = self.try_get("/metrics").await;
        answer.is_some_and(|(_, text)| metrics::value(&text, "leader_election_master_status", &[]) == Some(1.0))
    }

    /// This test takes rights away: refused requests are what it is about.
    pub(crate) fn expect_forbidden(&mut self) {
        self.may_be_forbidden = true;
    }

    /// The end of every test. See the module's documentation.
    pub(crate) async fn finish(mut self, ns: &TestNs) {
        // From here on a panic is the finding itself.
        self.finished = true;
        let mut places = vec![("its objects and events".to_owned(), objects(ns).await)];
        if self.admin.is_some() {
            for path in PATHS {
                places.push((format!("the answer to GET {path}"), self.get(path).await.1));
            }
            let status = self.sigterm().await;
            assert!(status.success(), "after SIGTERM the operator ended with {status}; log:\n{}", self.log_tail());
        }
        self.kill9();
        // Last, so that what it says while it ends is searched too.
        places.push(("its log".to_owned(), self.logs()));
        let mut findings: Vec<String> =
            places.iter().flat_map(|(place, text)| ns.canaries().leaks(place, text)).collect();
        findings.extend(self.status_recorder.findings().await);
        if !self.may_be_forbidden {
            let refused = forbidden(&self.plane.audit(), &self.user).into_iter();
            findings.extend(refused.map(|request| format!("config/rbac/ does not allow {request}")));
        }
        assert!(findings.is_empty(), "found about the operator of {}:\n{}", self.namespace, findings.join("\n"));
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        assert!(
            self.finished || std::thread::panicking(),
            "a test of {} ends without `operator.finish(&ns).await`, so nobody looked for leaks and refused requests",
            self.namespace
        );
    }
}

/// Everything in the namespace that the operator may have written.
async fn objects(ns: &TestNs) -> String {
    let ours = ns.kubectl(&["api-resources", "--api-group=busbar.dev", "-o", "name"]).await.ok().unwrap_or_default();
    let kinds: Vec<&str> = ours.lines().chain(["events.events.k8s.io", "leases.coordination.k8s.io"]).collect();
    let get = ["get", &kinds.join(","), "-o", "json", "--show-managed-fields"];
    ns.kubectl(&get).await.ok().unwrap_or_else(|why| panic!("{why}"))
}
