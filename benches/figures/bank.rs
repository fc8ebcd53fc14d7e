//! The simulated bank, as a process of its own: what it costs is its own bill, and it is never in the caller's way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::RunDir;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use busbar::testbed::sim::process::Announcement;
use busbar::testbed::sim::{Arrivals, BankEndpoints, CounterSnapshot};
use serde_json::{Value, json};

/// How long it may take to start on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// `busbar-sim` with whatever banks were added.
pub(crate) struct SimBanks {
    process: Process,
    control: String,
    ca_pem: String,
    http: reqwest::Client,
}

impl SimBanks {
    /// Starts it without a bank.
    pub(crate) async fn start(run: &Arc<RunDir>) -> Self {
        let (announce, ca) = (run.path().join("sim.json"), run.path().join("sim-ca.pem"));
        let spec = ProcessSpec {
            name: "busbar-sim".to_owned(),
            program: env!("CARGO_BIN_EXE_busbar-sim").into(),
            args: vec![
                "--banks=0".into(),
                format!("--announce-file={}", announce.display()).into(),
                format!("--ca-file={}", ca.display()).into(),
            ],
            env: Vec::new(),
            log: run.path().join("busbar-sim.log"),
        };
        let process = Process::spawn(run, &spec).expect("busbar-sim starts");
        let announced: Announcement = wait_for_json(&announce).await;
        let http = http();
        let ca_pem = std::fs::read_to_string(&ca).expect("the CA of busbar-sim");
        Self { process, control: announced.control, ca_pem, http }
    }

    /// Adds a bank; `config` as the control API takes it.
    pub(crate) async fn bank(&self, config: &Value) -> BankEndpoints {
        let answer = self.ask(http::Method::POST, "/banks", Some(config)).await;
        serde_json::from_value(answer).expect("a bank's addresses")
    }

    /// Plays a script at a bank; in force when this returns.
    pub(crate) async fn script(&self, bank: &str, script: &Value) {
        self.ask(http::Method::PUT, &format!("/banks/{bank}/script"), Some(script)).await;
    }

    /// The arrivals from number `since` on.
    pub(crate) async fn arrivals(&self, bank: &str, since: u64) -> Arrivals {
        let answer = self.ask(http::Method::GET, &format!("/banks/{bank}/arrivals?since={since}"), None).await;
        serde_json::from_value(answer).expect("an arrival log")
    }

    /// Connections that were opened and requests that arrived so far.
    pub(crate) async fn counts(&self, bank: &str) -> (u64, u64) {
        let answer = self.ask(http::Method::GET, &format!("/banks/{bank}/counters"), None).await;
        let counts: CounterSnapshot = serde_json::from_value(answer).expect("counters");
        (counts.connections, counts.requests)
    }

    /// What the bank's arrival log will call an instant of `clock`: add this many nanoseconds to `clock.mono()`. From the
    /// fastest of many requests, so good to about half the time of a request on loopback.
    pub(crate) async fn offset_nanos(&self, bank: &BankEndpoints, clock: Clock) -> i128 {
        let mut best: Option<(u64, i128)> = None;
        for _ in 0..50 {
            let since = self.arrivals(&bank.name, u64::MAX).await.next;
            let sent = clock.mono().nanos();
            self.http.get(format!("{}/health", bank.http)).send().await.expect("the bank answers");
            let answered = clock.mono().nanos();
            let arrived = self.arrivals(&bank.name, since).await.entries;
            // Others may call the same bank: the path without a label is ours alone.
            let Some(ours) = arrived.iter().find(|arrival| arrival.path == "/health") else { continue };
            let (took, middle) = (answered - sent, i128::from(sent + answered) / 2);
            if best.is_none_or(|(least, _)| took < least) {
                best = Some((took, i128::from(ours.at_ns) - middle));
            }
        }
        best.expect("the bank logs arrivals").1
    }

    /// The certificate that its banks' were signed with.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    async fn ask(&self, method: http::Method, path: &str, body: Option<&Value>) -> Value {
        let mut request = self.http.request(method, format!("{}{path}", self.control));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.expect("busbar-sim answers");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "busbar-sim {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

/// A bank called `name` whose log holds `arrivals`.
pub(crate) fn config(name: &str, arrivals: usize) -> Value {
    json!({ "name": name, "logCapacity": arrivals })
}

/// A client that speaks to loopback only, and with no time-out: a bench waits for what it started.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("an HTTP client")
}

/// Waits for a file that is renamed into place.
pub(crate) async fn wait_for_json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let clock = Clock::system();
    loop {
        if let Ok(text) = std::fs::read(path) {
            return serde_json::from_slice(&text).expect("an announcement is JSON");
        }
        assert!(
            clock.mono().nanos() < u64::try_from(TIMEOUT.as_nanos()).unwrap_or(u64::MAX),
            "{} is not there",
            path.display()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
