//! What the call path adds to an HTTP call, and what a refused call costs.
//!
//! The client is one thread, the bank a process of its own; only the client's CPU time counts, so a neighbour or the
//! bank that keeps the client waiting changes nothing. Calls run one after the other on a kept-alive connection; rounds
//! of both subjects alternate, and the figure is the difference of their medians. Both read the whole body.

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::CallClass;
use busbar::domain::key::ObjectKey;
use busbar::domain::quota::{Limit, LimitScope, LimitUnit};
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::{CacheMode, CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{CachePolicy, Draft, Settings};
use busbar::testbed::control_plane::RunDir;
use serde_json::json;

use crate::Figures;
use crate::bank::{self, SimBanks};
use crate::machine;
use crate::stats::Sample;

const ROUNDS: usize = 15;
/// Calls of one round: some hundred milliseconds of CPU, so that coarse counters do too.
const CALLS: u32 = 3_000;
const REFUSALS: u32 = 100_000;
const KEPT: u32 = 50_000;

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!("machine: {}", machine::describe());
        let directory = Arc::new(RunDir::create("busbar-bench-").expect("a directory"));
        let banks = SimBanks::start(&directory).await;
        let place = banks.bank(&bank::config("bank", 1)).await;
        overhead(figures, &banks, &place.http).await;
        cached(figures, &place.http).await;
        refused(figures, &banks, &place.http).await;
    });
}

async fn overhead(figures: &mut Figures, banks: &SimBanks, base_url: &str) {
    let (live, bare) = (live(base_url), bank::http());
    let url = format!("{base_url}/health");
    let (mut bares, mut lives, sim) = (Vec::new(), Vec::new(), machine::cpu_seconds(banks.pid()));
    for round in 0..=ROUNDS {
        let one = per_call(CALLS, async || {
            let answer = bare.get(&url).send().await.expect("an answer");
            black_box(answer.bytes().await.expect("a body"));
        });
        let bare = one.await;
        let two = per_call(CALLS, async || {
            black_box(live.call(Request::get("bench", "/health")).await.expect("an answer"));
        });
        let through = two.await;
        // The first round opens connections and warms caches.
        if round > 0 {
            bares.push(bare);
            lives.push(through);
        }
    }
    let calls = f64::from(CALLS) * 2.0 * crate::stats::float(ROUNDS + 1);
    let sim = (machine::cpu_seconds(banks.pid()) - sim) * 1e6 / calls;
    let (bares, lives) = (Sample::new(bares), Sample::new(lives));
    println!(
        "bare reqwest: {bares} rounds, µs of CPU per call; through Connection::call: {lives}; the bank used {sim:.0} µs per call"
    );
    figures.figure("call.live_overhead_us", format_args!("{:.1}", lives.median() - bares.median()), "us");
}

/// Answers that are kept: from the entrance of the path to the answer, head and body.
async fn cached(figures: &mut Figures, base_url: &str) {
    let live = live(base_url);
    let request = || Request {
        cache: CacheMode::FreshOrStale,
        ..Request::get("bench", "/health").with_query("symbol", "AAPL").with_query("limit", "100")
    };
    assert!(!live.call(request()).await.expect("an answer").meta.cached, "the first is asked for");
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let one = per_call(KEPT, async || {
            let answer = black_box(live.call(request()).await.expect("an answer"));
            assert!(answer.meta.cached && !answer.meta.stale, "it is kept, and fresh");
        });
        let cost = one.await;
        if round > 0 {
            rounds.push(cost);
        }
    }
    let rounds = Sample::new(rounds);
    let (low, high) = (rounds.percentile(0), rounds.percentile(100));
    println!("kept answers: {low:.2} to {high:.2} µs of CPU over {ROUNDS} rounds");
    figures.figure("call.cached_us", format_args!("{:.2}", rounds.median()), "us");
}

async fn refused(figures: &mut Figures, banks: &SimBanks, base_url: &str) {
    banks.script("bank", &json!({ "rules": [{ "steps": [{ "do": { "status": { "code": 503 } } }] }] })).await;
    let live = live(base_url);
    for _ in 0..1_000 {
        if matches!(live.call(Request::get("bench", "/health")).await, Err(CallError::CircuitOpen { .. })) {
            break;
        }
    }
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let one = per_call(REFUSALS, async || {
            let request = Request { class: CallClass::Read, ..Request::get("bench", "/health") };
            let end = black_box(live.call(request).await);
            assert!(matches!(end, Err(CallError::CircuitOpen { .. })), "the circuit is open");
        });
        let cost = one.await;
        if round > 0 {
            rounds.push(cost);
        }
    }
    let rounds = Sample::new(rounds);
    let (low, high) = (rounds.percentile(0), rounds.percentile(100));
    println!("refused calls: {low:.2} to {high:.2} µs of CPU over {ROUNDS} rounds");
    figures.figure("call.open_fastfail_us", format_args!("{:.2}", rounds.median()), "us");
}

/// Microseconds of this thread's CPU time per call.
async fn per_call<F: Future<Output = ()>>(calls: u32, mut call: impl FnMut() -> F) -> f64 {
    let before = machine::own_thread_cpu();
    for _ in 0..calls {
        call().await;
    }
    (machine::own_thread_cpu() - before) * 1e6 / f64::from(calls)
}

/// A connection of the generic provider. Its circuit stays open longer than any round.
fn live(base_url: &str) -> Arc<Connection> {
    let profile = Profiles::builtin().expect("profiles").get("generic").expect("the generic provider");
    let mut draft = Draft::new(profile, Environment::Sandbox);
    base_url.clone_into(&mut draft.base_url);
    draft.health_check.path = Some("/health".to_owned());
    draft.breaker.open.base = Duration::from_hours(1);
    let hour = Duration::from_hours(1);
    draft.cache = Some(CachePolicy { ttl: hour, max_stale: hour });
    // The limits that most providers have, set where no round reaches them: what counting costs is part of the path.
    draft.limits = [("second", LimitUnit::Second), ("day", LimitUnit::Day)].map(limit).to_vec();
    // The circuit is opened by failing calls, which are not to be waited for.
    draft.retry.base = Duration::ZERO;
    draft.retry.min_pacing = Duration::ZERO;
    let registry =
        Registry::new(Clock::system(), &Metrics::new(), RegistryOptions::allowing_loopback()).expect("a registry");
    let settings = Settings::resolve(draft).expect("settings");
    registry.apply(&ObjectKey::new("bench", "bank"), "uid", settings, None)
}

fn limit((name, unit): (&str, LimitUnit)) -> Limit {
    let scope = LimitScope::Connection;
    Limit { name: name.to_owned(), scope, requests: 1_000_000, unit, burst: None, operations: Vec::new() }
}
