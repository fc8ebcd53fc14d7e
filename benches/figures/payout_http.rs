//! Registrations of payouts over HTTP at saturation: each is a decision, a payout with its first attempt, and their entries
//! of the audit, in one transaction of a new SQLite ledger with `synchronous=FULL`.
//!
//! The gateway is a process of its own, as for decisions ([`route_http`](crate::route_http)); this program generates the
//! load. Every payout is another one.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use busbar::testbed::control_plane::RunDir;

use crate::Figures;
use crate::decision_server::{self, TOKEN};
use crate::load::{self, NUMBER, Template};
use crate::machine::{self, Bill};
use crate::route_http::{GATEWAY, Subject};
use crate::stats::Sample;

/// The path of a registration.
const REGISTER: &str = "/api/treasury/payouts";
const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_secs(2);
const ROUND: Duration = Duration::from_secs(4);

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let run = Arc::new(RunDir::create("busbar-bench-").expect("a folder"));
    runtime.block_on(measure(figures, &run));
}

async fn measure(figures: &mut Figures, run: &Arc<RunDir>) {
    println!("machine: {}", machine::describe());
    let body = decision_server::body(&format!("bench-{NUMBER}")).to_string();
    let template = Template::post(REGISTER, TOKEN, &body);
    let numbers = AtomicU64::new(1);
    let mut gateway = Subject::start(run, "payout-gateway", GATEWAY, &run.path().join("payouts.db")).await;
    let answer = load::once(gateway.address, &template, 0).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    println!("an answer has {} bytes, its body {}", answer.len(), load::body(&answer).len());
    let bill = Bill::now();
    gateway.round(&template, &numbers, WARM_UP).await;
    gateway.forget_warm_up();
    let mut registered = 0;
    for _ in 0..ROUNDS {
        registered += gateway.round(&template, &numbers, ROUND).await.answered;
    }
    gateway.print("register and decide");
    println!("{registered} payouts; {}", bill.since());
    let median = |values: Vec<f64>| Sample::new(values).median();
    figures.figure("payouts.register_per_s", format_args!("{:.0}", median(gateway.rates.clone())), "1/s");
    figures.figure("payouts.register_cpu_us", format_args!("{:.1}", median(gateway.cpu.clone())), "µs");
    gateway.process.kill();
}
