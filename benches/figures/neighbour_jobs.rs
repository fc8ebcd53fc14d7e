//! What a bank that hangs costs the sync jobs of another: how late their runs start beside its jobs, over alone.
//!
//! Both banks have four times as many jobs as the pool has slots, all due at once. A run has started when its first
//! request is sent. Rounds alone and rounds beside the hung bank alternate, each with a pool and a ledger of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::key::ObjectKey;
use busbar::domain::time::Mono;
use busbar::ledger::{self, LedgerUrl, OpenMode, RunId, RunTrigger};
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profile, Profiles};
use busbar::provider::call::{CallError, Request, Response};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft, Settings};
use busbar::sync::{Fetch, MaskRules, Partition, PlanEndpoint, RunLimits, SlaLimits, SyncPlan};
use busbar::testbed::control_plane::RunDir;
use busbar::testbed::sim::ScriptStep;
use busbar::work::pool::{PoolOptions, RunRequest, StartOutcome, SyncPool};
use busbar::work::reconcile_queue::{Kind, ReconcileQueue};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::json;

use crate::Figures;
use crate::bank::SimBanks;
use crate::stats::Sample;

const ROUNDS: usize = 7;
/// The pool's slots, as by default, and the jobs of each bank.
const SLOTS: usize = 8;
const JOBS: usize = 4 * SLOTS;
/// What the good bank needs for an answer.
const ANSWER: Duration = Duration::from_millis(50);
const KEY: &str = "obviously-fake-mono-key";

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let directory = Arc::new(RunDir::create("busbar-bench-").expect("a directory"));
        let banks = SimBanks::start(&directory).await;
        let registry =
            Registry::new(Clock::system(), &Metrics::new(), RegistryOptions::allowing_loopback()).expect("a registry");
        let profile = Profiles::builtin().expect("profiles").get("mono").expect("the provider");
        let mut connections = Vec::new();
        for (name, step) in
            [("good", json!(ScriptStep::slow(ANSWER))), ("hung", json!({ "do": { "stall": "beforeHead" } }))]
        {
            let bank = json!({
                "name": name,
                "auth": { "apiKeyHeader": { "name": "mono-sec-key", "value": KEY } },
                "accounts": [{ "id": "acc-1", "transactions": 20, "spacingSeconds": 60 }],
                "logCapacity": 1,
            });
            let base_url = banks.bank(&bank).await.http;
            banks.script(name, &json!({ "rules": [{ "steps": [step] }] })).await;
            connections.push(connect(&registry, &profile, name, &base_url));
        }
        let (good, hung) = (&connections[0], &connections[1]);
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let path = |kind: &str| directory.path().join(format!("ledger-{kind}-{round}.db"));
            let undisturbed = lateness(&path("alone"), &profile, good, None).await;
            let disturbed = lateness(&path("beside"), &profile, good, Some(hung)).await;
            // The first round opens connections.
            if round > 0 {
                alone.push(undisturbed);
                beside.push(disturbed);
            }
        }
        let (alone, beside) = (Sample::new(alone), Sample::new(beside));
        println!("p99 of the lateness of {JOBS} runs, ms: alone {alone}; beside the hung bank's {JOBS} {beside}");
        figures.figure("trust.neighbour_late_ratio", format_args!("{:.2}", beside.median() / alone.median()), "ratio");
    });
}

/// Calls the bank and keeps when the first request was sent.
struct TimedFetch {
    connection: Arc<Connection>,
    clock: Clock,
    first: OnceLock<Mono>,
}

impl Fetch for TimedFetch {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        self.first.get_or_init(|| self.clock.mono());
        self.connection.fetch(request)
    }
}

/// The p99 of how late the good bank's runs start, in milliseconds. All of them end.
async fn lateness(
    path: &std::path::Path,
    profile: &Arc<Profile>,
    good: &Arc<Connection>,
    hung: Option<&Arc<Connection>>,
) -> f64 {
    let (clock, queue) = (Clock::system(), ReconcileQueue::new());
    let ledger = ledger::open(&LedgerUrl::Sqlite(path.to_owned()), OpenMode::Migrate).await.expect("a ledger");
    let options = PoolOptions { concurrency: SLOTS, ..PoolOptions::new("bench") };
    let pool = SyncPool::new(ledger.clone(), queue.clone(), clock, &Metrics::new(), options).expect("a pool");
    let start = |connection: &Arc<Connection>, n: usize| {
        let fetch = TimedFetch { connection: Arc::clone(connection), clock, first: OnceLock::new() };
        let (plan, fetch) = (Arc::new(plan(profile, &connection.key().name, n)), Arc::new(fetch));
        let request = RunRequest { run: RunId(uuid::Uuid::new_v4()), trigger: RunTrigger::Manual, slot: None };
        assert_eq!(pool.start(plan, Arc::clone(&fetch) as Arc<dyn Fetch>, request), StartOutcome::Accepted);
        fetch
    };
    let mut ended = std::pin::pin!(queue.subscribe(Kind::SyncJob, None));
    let asked = clock.mono();
    if let Some(hung) = hung {
        (0..JOBS).for_each(|n| drop(start(hung, n)));
    }
    let runs: Vec<_> = (0..JOBS).map(|n| start(good, n)).collect();
    let mut left = JOBS;
    while left > 0 {
        let job = ended.next().await.expect("runs end");
        left -= usize::from(job.name.starts_with("good"));
    }
    let late = runs.iter().map(|run| run.first.get().expect("it has started").since(asked).as_secs_f64() * 1e3);
    let late = Sample::new(late.collect());
    pool.close().await;
    ledger.close().await;
    late.percentile(99)
}

fn plan(profile: &Profile, connection: &str, n: usize) -> SyncPlan {
    SyncPlan {
        job: ObjectKey::new("bench", format!("{connection}-{n}")),
        connection: connection.to_owned(),
        provider: "mono".into(),
        environment: "Sandbox".into(),
        stream_name: "transactions".into(),
        stream: Arc::clone(&profile.streams["transactions"]),
        endpoint: PlanEndpoint { base_url: "https://bank.test/".parse().expect("a URL"), secret_query: Vec::new() },
        request_id_header: profile.correlation.clone(),
        partitions: vec![Partition {
            name: String::new(),
            parameters: [("accountId".to_owned(), "acc-1".to_owned())].into(),
        }],
        start: None,
        lookback: None,
        commit_scope: profile.streams["transactions"].commit_scope,
        run_timeout: Duration::from_mins(10),
        dead_letter_budget_percent: 10,
        mask: MaskRules::default(),
        validations: std::sync::Arc::default(),
        raw: busbar::settings::sync_plan::RawRetention::default(),
        events: busbar::domain::event::EventGranularity::default(),
        dry_run: false,
        limits: RunLimits::default(),
        sla: SlaLimits::default(),
        resync: None,
        partitions_from: None,
    }
}

/// A connection without a circuit and without limits, so that the hung bank is called to the end.
fn connect(registry: &Registry, profile: &Arc<Profile>, name: &str, base_url: &str) -> Arc<Connection> {
    let mut draft = Draft::new(Arc::clone(profile), Environment::Sandbox);
    draft.base_url = format!("{base_url}/v2");
    draft.auth = Auth::Profile {
        headers: vec![("mono-sec-key".to_owned(), SecretString::from(KEY))],
        query: vec![],
        body: Vec::new(),
    };
    draft.breaker.consecutive_failures = 0;
    draft.limits.clear();
    let settings = Settings::resolve(draft).expect("settings");
    registry.apply(&ObjectKey::new("bench", name), &format!("uid-{name}"), settings, None)
}
