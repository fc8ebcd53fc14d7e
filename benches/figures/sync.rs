//! Rows from a bank into the SQLite ledger: pages over HTTP from a process of its own, the whole call path, transform,
//! validation, one transaction per page, in a file on the disk of the temporary directory.

use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::key::ObjectKey;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{self, LedgerUrl, OpenMode, RunId, RunResult, RunTrigger};
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft, Settings};
use busbar::sync::{MaskRules, Partition, RunLimits, SyncPlan};
use busbar::testbed::control_plane::RunDir;
use busbar::work::pool::{PoolOptions, RunRequest, StartOutcome, SyncPool};
use busbar::work::reconcile_queue::{Kind, ReconcileQueue};
use futures::StreamExt as _;
use secrecy::SecretString;
use serde_json::json;

use crate::Figures;
use crate::bank::SimBanks;
use crate::machine::{self, Bill};
use crate::stats::{Sample, float};

const ROWS: u64 = 20_000;
const RUNS: usize = 5;
const KEY: &str = "obviously-fake-mono-key";

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!("machine: {}", machine::describe());
        let directory = Arc::new(RunDir::create("busbar-bench-").expect("a directory"));
        let banks = SimBanks::start(&directory).await;
        let bank = json!({
            "name": "bank",
            "auth": { "apiKeyHeader": { "name": "mono-sec-key", "value": KEY } },
            "accounts": [{ "id": "acc-1", "transactions": ROWS, "spacingSeconds": 60 }],
            "logCapacity": 1,
        });
        let base_url = banks.bank(&bank).await.http;
        let (mut rates, bill, bank_cpu) = (Vec::new(), Bill::now(), machine::cpu_seconds(banks.pid()));
        for n in 0..RUNS {
            rates.push(rows_per_second(&directory.path().join(format!("ledger-{n}.db")), &base_url).await);
        }
        let rates = Sample::new(rates);
        let bank_cpu = (machine::cpu_seconds(banks.pid()) - bank_cpu) / float(RUNS);
        println!(
            "rows per second: {rates} runs of {ROWS} rows; the bank used {bank_cpu:.2} CPU seconds per run; {}",
            bill.since()
        );
        figures.figure("sync.sqlite_rows_per_s", format_args!("{:.0}", rates.median()), "rows/s");
    });
}

async fn rows_per_second(path: &std::path::Path, base_url: &str) -> f64 {
    let clock = Clock::system();
    let profile = Profiles::builtin().expect("profiles").get("mono").expect("the provider");
    let mut draft = Draft::new(Arc::clone(&profile), Environment::Sandbox);
    draft.base_url = format!("{base_url}/v2");
    draft.auth = Auth::Profile { headers: vec![("mono-sec-key".to_owned(), SecretString::from(KEY))], query: vec![] };
    let metrics = Metrics::new();
    let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).expect("a registry");
    let settings = Settings::resolve(draft).expect("settings");
    let live = registry.apply(&ObjectKey::new("bench", "bank"), "uid", settings, None);
    let plan = Arc::new(SyncPlan {
        job: ObjectKey::new("bench", "books"),
        connection: "bank".into(),
        provider: "mono".into(),
        environment: "Sandbox".into(),
        stream_name: "transactions".into(),
        stream: Arc::clone(&profile.streams["transactions"]),
        request_id_header: profile.correlation.clone(),
        partitions: vec![Partition {
            name: String::new(),
            parameters: [("accountId".to_owned(), "acc-1".to_owned())].into(),
        }],
        start: None,
        lookback: None,
        run_timeout: Duration::from_mins(10),
        dead_letter_budget_percent: 10,
        mask: MaskRules::default(),
        dry_run: false,
        limits: RunLimits::default(),
    });
    let ledger = ledger::open(&LedgerUrl::Sqlite(path.to_owned()), OpenMode::Migrate).await.expect("a ledger");
    let reconcile_queue = ReconcileQueue::new();
    let pool = SyncPool::new(ledger.clone(), reconcile_queue.clone(), clock, &metrics, PoolOptions::new("bench"))
        .expect("a pool");
    let mut ended = std::pin::pin!(reconcile_queue.subscribe(Kind::SyncJob, None));
    let order = RunRequest { run: RunId(uuid::Uuid::new_v4()), trigger: RunTrigger::Manual, slot: None };
    let began = clock.mono();
    assert_eq!(pool.start(Arc::clone(&plan), live, order), StartOutcome::Accepted);
    ended.next().await.expect("the run ends");
    let took = clock.mono().since(began);
    let view = pool.view(&plan.job, 1).await.expect("the run's record");
    assert_eq!(view.last[0].result, Some(RunResult::Succeeded), "{:?}", view.last_outcome);
    let rows = ledger.count_transactions(&TransactionFilter::default()).await.expect("a count");
    assert_eq!(rows, ROWS);
    ledger.close().await;
    float(usize::try_from(rows).unwrap_or(0)) / took.as_secs_f64()
}
