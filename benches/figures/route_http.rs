//! Decisions over HTTP at saturation, beside a bare axum handler that answers the same bytes.
//!
//! Three processes share the machine: the gateway with its router, its authorization (reviews are cached, as in a
//! cluster) and a new SQLite ledger with `synchronous=FULL`; the bare handler; and this program, which generates the
//! load. Rounds of the two servers alternate, and only one of them works at a time. Every payout is another one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header;
use axum::routing::post;
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::testbed::control_plane::RunDir;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use tokio::net::TcpListener;

use crate::Figures;
use crate::bank::wait_for_json;
use crate::decision_server::{self, DECIDE, RunningDecisions, TOKEN};
use crate::load::{self, Driven, NUMBER, Template, drive};
use crate::machine::{self, Bill};
use crate::stats::{Sample, float};
use crate::webhooks;

/// Marks a run of this program as the gateway; the ledger's file and the announce file follow.
pub(crate) const GATEWAY: &str = "--decision-gateway";
/// Marks a run of this program as the bare handler; the file with its answer and the announce file follow.
pub(crate) const BARE: &str = "--bare-handler";

/// Requests in flight: as many as there are connections.
const CONNECTIONS: usize = 128;
const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_secs(2);
const ROUND: Duration = Duration::from_secs(4);

/// A server, and what its rounds came to.
pub(crate) struct Subject {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) rates: Vec<f64>,
    /// CPU of the server per request, in microseconds.
    pub(crate) cpu: Vec<f64>,
    /// CPU of the load generator per request, in microseconds.
    generator: Vec<f64>,
}

impl Subject {
    pub(crate) async fn start(run: &Arc<RunDir>, name: &str, flag: &str, argument: &Path) -> Self {
        let announce = run.path().join(format!("{name}.json"));
        let spec = ProcessSpec {
            name: name.to_owned(),
            program: std::env::current_exe().expect("the path of this program"),
            args: vec![flag.into(), argument.into(), announce.clone().into()],
            env: Vec::new(),
            log: run.path().join(format!("{name}.log")),
        };
        let process = Process::spawn(run, &spec).expect("the server starts");
        let address = wait_for_json(&announce).await;
        Self { process, address, rates: Vec::new(), cpu: Vec::new(), generator: Vec::new() }
    }

    pub(crate) async fn round(&mut self, template: &Template, numbers: &AtomicU64, time: Duration) -> Driven {
        let cpu = machine::cpu_seconds(self.process.pid());
        let driven = drive(self.address, CONNECTIONS, template, numbers, time).await;
        assert_eq!(driven.refused, 0, "every request is answered with 200:\n{}", self.process.log_tail(20));
        let requests = float(usize::try_from(driven.answered).unwrap_or(usize::MAX)).max(1.0);
        self.rates.push(driven.rate());
        self.cpu.push((machine::cpu_seconds(self.process.pid()) - cpu) * 1e6 / requests);
        self.generator.push(driven.cpu * 1e6 / requests);
        driven
    }

    pub(crate) fn forget_warm_up(&mut self) {
        self.rates.clear();
        self.cpu.clear();
        self.generator.clear();
    }

    pub(crate) fn print(&self, what: &str) {
        let sample = |values: &[f64]| Sample::new(values.to_vec());
        println!(
            "{what}: requests per second {} rounds; CPU per request, µs: {}; load generator, µs: {}",
            sample(&self.rates),
            sample(&self.cpu),
            sample(&self.generator)
        );
    }
}

/// Measures and prints; returns the ledger with the decisions, for the replay.
pub(crate) async fn run(figures: &mut Figures, run: &Arc<RunDir>) -> PathBuf {
    println!("machine: {}", machine::describe());
    let file = run.path().join("decisions.db");
    let body = decision_server::body(&format!("bench-{NUMBER}")).to_string();
    let template = Template::post(DECIDE, TOKEN, &body);
    let numbers = AtomicU64::new(1);
    let mut ours = Subject::start(run, "gateway", GATEWAY, &file).await;
    let answer = load::once(ours.address, &template, 0).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let bytes = run.path().join("answer.json");
    std::fs::write(&bytes, load::body(&answer)).expect("the answer");
    let mut bare = Subject::start(run, "bare-handler", BARE, &bytes).await;
    println!("an answer has {} bytes, its body {}", answer.len(), load::body(&answer).len());

    let bill = Bill::now();
    for subject in [&mut ours, &mut bare] {
        subject.round(&template, &numbers, WARM_UP).await;
        subject.forget_warm_up();
    }
    let (mut ratios, mut decisions) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let driven = ours.round(&template, &numbers, ROUND).await;
        let floor = bare.round(&template, &numbers, ROUND).await;
        decisions += driven.answered;
        ratios.push(driven.rate() / floor.rate());
    }
    ours.print("decide");
    bare.print("a bare axum handler with the same answer");
    println!("{decisions} decisions over {CONNECTIONS} connections; {}", bill.since());
    let median = |values: Vec<f64>| Sample::new(values).median();
    figures.figure("route.http_per_s", format_args!("{:.0}", median(ours.rates)), "1/s");
    figures.figure("route.http_cpu_us", format_args!("{:.1}", median(ours.cpu)), "µs");
    figures.figure("route.bare_axum_per_s", format_args!("{:.0}", median(bare.rates)), "1/s");
    figures.figure("route.http_ratio", format_args!("{:.3}", median(ratios)), "ratio");
    // The ledger of a killed process is whole: the replay reads every decision that was answered.
    ours.process.kill();
    file
}

/// The gateway itself; runs until it is killed.
pub(crate) fn serve(file: &Path, announce: &Path) -> ExitCode {
    // As the operator's runtime is made.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ledger = ledger::open(&LedgerUrl::Sqlite(file.to_owned()), OpenMode::Migrate).await.expect("a ledger");
        serve_over(&ledger, announce).await;
    });
    ExitCode::SUCCESS
}

/// Serves decisions and webhooks over a ledger until the process ends.
pub(crate) async fn serve_over(ledger: &Arc<dyn Ledger>, announce: &Path) {
    let service = RunningDecisions::start(ledger);
    let webhooks = webhooks::inbox(ledger, service.clock, &service.tasks);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = service.serve(ledger, listener, Some(webhooks));
    announce_at(announce, address);
    std::future::pending::<()>().await;
}

/// The bare handler itself; runs until it is killed.
pub(crate) fn serve_bare(answer: &Path, announce: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let answer = Bytes::from(std::fs::read(answer).expect("the answer"));
        let handler = move |_body: Bytes| {
            let answer = answer.clone();
            async move { ([(header::CONTENT_TYPE, "application/json")], answer) }
        };
        let app = axum::Router::new().route(DECIDE, post(handler));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        announce_at(announce, listener.local_addr().expect("an address"));
        axum::serve(listener, app).await.expect("it serves");
    });
    ExitCode::SUCCESS
}

/// Writes the address; renamed into place, so that a reader never sees a part of it.
fn announce_at(path: &Path, address: SocketAddr) {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, serde_json::to_vec(&address).expect("an address")).expect("an announcement");
    std::fs::rename(&temporary, path).expect("an announcement");
}
