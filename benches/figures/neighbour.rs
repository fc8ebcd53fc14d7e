//! What a bank that hangs under load costs another bank's callers: the p99 of theirs beside it, over alone.
//!
//! Both banks are called through the call path of one process, as the gateway's callers are; the simulated banks are
//! another process. Rounds alone and rounds beside the hung bank alternate. Four times as many callers call the hung bank,
//! leave early, and come back; once its bulkhead is full of what they left, they are rejected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::key::ObjectKey;
use busbar::domain::rights::Caller;
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Draft, Settings};
use busbar::testbed::control_plane::RunDir;
use futures::future::join_all;
use serde_json::json;

use crate::Figures;
use crate::bank::{self, SimBanks};
use crate::machine;
use crate::stats::Sample;

const ROUNDS: usize = 9;
/// Callers of the good bank, and calls of each in a round.
const CALLERS: usize = 16;
const CALLS: usize = 200;
/// Callers of the hung bank: four times as many.
const FLOOD: usize = 4 * CALLERS;
/// How long they wait for an answer, and before they come back.
const HASTE: Duration = Duration::from_millis(100);
const RETURN: Duration = Duration::from_millis(20);

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!("machine: {}", machine::describe());
        let directory = Arc::new(RunDir::create("busbar-bench-").expect("a directory"));
        let banks = SimBanks::start(&directory).await;
        let (good, hung) = (banks.bank(&bank::config("good", 1)).await, banks.bank(&bank::config("hung", 1)).await);
        banks.script("hung", &json!({ "rules": [{ "steps": [{ "do": { "stall": "beforeHead" } }] }] })).await;
        let registry =
            Registry::new(Clock::system(), &Metrics::new(), RegistryOptions::allowing_loopback()).expect("a registry");
        let (good, hung) = (connect(&registry, "good", &good.http), connect(&registry, "hung", &hung.http));
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let undisturbed = p99(&good).await;
            let disturbed = beside_flood(&good, &hung).await;
            // The first round opens connections, and fills the bulkhead of the hung bank.
            if round > 0 {
                alone.push(undisturbed);
                beside.push(disturbed);
            }
        }
        let (alone, beside) = (Sample::new(alone), Sample::new(beside));
        println!("p99 of a call, µs: alone {alone}; beside the hung bank {beside}");
        figures.figure("trust.neighbour_p99_ratio", format_args!("{:.2}", beside.median() / alone.median()), "ratio");
    });
}

/// The p99 of the good bank's calls while others call the hung one.
async fn beside_flood(good: &Arc<Connection>, hung: &Arc<Connection>) -> f64 {
    let (over, rejected) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let flood: Vec<_> = (0..FLOOD)
        .map(|n| {
            let (hung, over, rejected) = (Arc::clone(hung), Arc::clone(&over), Arc::clone(&rejected));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let request = Request { timeout: Some(HASTE), ..read(&format!("flood-{n}")) };
                    if hung.call(request).await.is_err_and(|error| error == CallError::BulkheadFull) {
                        rejected.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(RETURN).await;
                }
            })
        })
        .collect();
    let p99 = p99(good).await;
    over.store(true, Ordering::Relaxed);
    join_all(flood).await;
    println!("{} calls of the hung bank were rejected meanwhile", rejected.load(Ordering::Relaxed));
    p99
}

/// The p99 of one round of calls, in microseconds. Every call is answered.
async fn p99(good: &Arc<Connection>) -> f64 {
    let clock = Clock::system();
    let callers = (0..CALLERS).map(|n| {
        let good = Arc::clone(good);
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let began = clock.mono();
                good.call(read(&format!("caller-{n}"))).await.expect("an answer of the good bank");
                times.push(clock.mono().since(began).as_secs_f64() * 1e6);
            }
            times
        })
    });
    let times = join_all(callers).await.into_iter().flat_map(|times| times.expect("a caller")).collect();
    Sample::new(times).percentile(99)
}

fn read(user: &str) -> Request {
    let caller = Caller { user: user.to_owned(), groups: vec![], profile: None, purpose: None, request_id: None };
    Request { caller: Some(Arc::new(caller)), ..Request::get("bench", "/health") }
}

/// A connection of the generic provider without a circuit, so that the hung bank is called to the end.
fn connect(registry: &Registry, name: &str, base_url: &str) -> Arc<Connection> {
    let profile = Profiles::builtin().expect("profiles").get("generic").expect("the generic provider");
    let mut draft = Draft::new(profile, Environment::Sandbox);
    base_url.clone_into(&mut draft.base_url);
    draft.breaker.consecutive_failures = 0;
    draft.cache = None;
    draft.limits.clear();
    let settings = Settings::resolve(draft).expect("settings");
    registry.apply(&ObjectKey::new("bench", name), &format!("uid-{name}"), settings, None)
}
