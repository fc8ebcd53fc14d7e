//! What a request with a known API key costs, on a new SQLite ledger.

use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::gateway::consumers::ConsumerAccess;
use busbar::ledger::delivery::NewConsumer;
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::tasks::TaskGroup;
use busbar::testbed::control_plane::RunDir;

use crate::Figures;
use crate::machine;
use crate::stats::Sample;

const ROUNDS: usize = 5;
const LOOKS: u32 = 100_000;

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let run = RunDir::create("busbar-bench-").expect("a folder");
    println!("machine: {}", machine::describe());
    runtime.block_on(async {
        let url = LedgerUrl::Sqlite(run.path().join("consumers.db"));
        let ledger: Arc<dyn Ledger> = ledger::open(&url, OpenMode::Migrate).await.expect("a ledger");
        keys(figures, &ledger).await;
        ledger.close().await;
    });
}

async fn keys(figures: &mut Figures, ledger: &Arc<dyn Ledger>) {
    let (clock, tasks) = (Clock::system(), TaskGroup::default());
    let access = ConsumerAccess::new(Arc::clone(ledger), clock, tasks);
    let issued = access.issue().await.expect("a key");
    let consumer = NewConsumer {
        name: "bench".to_owned(),
        namespaces: None,
        event_types: Vec::new(),
        created_by: "bench".to_owned(),
        key: issued.stored,
        history_from: None,
        events: Vec::new(),
    };
    ledger.create_consumer(&consumer, clock.now().wall).await.expect("a consumer");
    let began = clock.mono();
    access.verify(&issued.text, || Ok(())).await.expect("the key is valid");
    println!("the first request with a key: {:?}", clock.mono().since(began));
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let began = clock.mono();
        for _ in 0..LOOKS {
            assert!(access.known(&issued.text).is_some(), "the key is known");
        }
        rounds.push(micros(clock.mono().since(began)) / f64::from(LOOKS));
    }
    figures.figure("consumer.auth_us", format_args!("{:.2}", Sample::new(rounds).median()), "µs");
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
