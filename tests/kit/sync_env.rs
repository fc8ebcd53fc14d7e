//! Syncs of this process: a pool over a ledger file, and what runs in it.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use busbar::clock::Clock;
use busbar::ledger::encryption::Keyring;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode, RunId, RunTrigger};
use busbar::metrics::Metrics;
use busbar::profile::Profile;
use busbar::provider::connection::Connection;
use busbar::sync::account_tokens::AccountTokens;
use busbar::sync::{MaskRules, Partition, PlanEndpoint, RunLimits, SlaLimits, SyncPlan};
use busbar::work::pool::{JobView, PoolOptions, RunRequest, StartOutcome, SyncPool};
use busbar::work::reconcile_queue::{Kind, ReconcileQueue};
use futures::StreamExt as _;

use super::connections::{builtin_profile, key};

/// Runs that a view shows.
const RUNS: u32 = 100;

/// A pool of sync runs and the ledger that it writes.
pub(crate) struct SyncEnv {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) pool: SyncPool,
    pub(crate) metrics: Metrics,
    reconcile_queue: ReconcileQueue,
}

impl SyncEnv {
    /// With the ledger in this file, which is made if it is not there.
    pub(crate) async fn open(file: &Path) -> Self {
        Self::open_with(file, &Keyring::none()).await
    }

    /// The same with an operator that has these keys.
    pub(crate) async fn open_with(file: &Path, keys: &Keyring) -> Self {
        let ledger = ledger::open(&LedgerUrl::Sqlite(file.to_owned()), OpenMode::Migrate).await.unwrap();
        let (reconcile_queue, metrics) = (ReconcileQueue::new(), Metrics::new());
        let account_tokens = AccountTokens::new(keys.clone());
        let options = PoolOptions { account_tokens, ..PoolOptions::new("the-operator") };
        let pool = SyncPool::new(ledger.clone(), reconcile_queue.clone(), Clock::system(), &metrics, options).unwrap();
        Self { ledger, pool, metrics, reconcile_queue }
    }

    /// Starts a run.
    pub(crate) fn start(&self, plan: &Arc<SyncPlan>, connection: &Arc<Connection>) {
        let request = RunRequest { run: RunId(uuid::Uuid::new_v4()), trigger: RunTrigger::Manual, slot: None };
        assert_eq!(self.pool.start(plan.clone(), connection.clone(), request), StartOutcome::Accepted);
    }

    /// Waits for the end of the run that was started.
    pub(crate) async fn finished(&self, plan: &SyncPlan) -> JobView {
        let mut changes = pin!(self.reconcile_queue.subscribe(Kind::SyncJob, None));
        // A requested run is enqueued at its start too.
        while self.pool.active(&plan.job).is_some() {
            changes.next().await.unwrap();
        }
        self.pool.view(&plan.job, RUNS).await.unwrap()
    }

    /// Makes a whole run.
    pub(crate) async fn run(&self, plan: &Arc<SyncPlan>, connection: &Arc<Connection>) -> JobView {
        self.start(plan, connection);
        self.finished(plan).await
    }

    /// Rows in the ledger.
    pub(crate) async fn row_count(&self) -> u64 {
        self.ledger.count_transactions(&TransactionFilter::default()).await.unwrap()
    }
}

/// The plan of the job `books`, which reads a stream of the connection `bank` with one set of parameters.
pub(crate) fn stream_plan(profile: &Profile, stream: &str, partitions: Vec<Partition>) -> SyncPlan {
    SyncPlan {
        job: key("books"),
        connection: "bank".into(),
        provider: profile.id.as_str().into(),
        environment: "Sandbox".into(),
        stream_name: stream.into(),
        stream: profile.streams[stream].clone(),
        endpoint: PlanEndpoint { base_url: "https://bank.test/".parse().unwrap(), secret_query: Vec::new() },
        request_id_header: profile.correlation.clone(),
        partitions,
        start: None,
        lookback: None,
        commit_scope: profile.streams[stream].commit_scope,
        run_timeout: std::time::Duration::from_mins(10),
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

/// The plan of a job that reads the transactions of these accounts at Mono.
pub(crate) fn mono_plan(accounts: &[&str]) -> Arc<SyncPlan> {
    let partition = |id: &&str| Partition {
        name: if accounts.len() == 1 { String::new() } else { (*id).to_owned() },
        parameters: [("accountId".to_owned(), (*id).to_owned())].into(),
    };
    Arc::new(stream_plan(&builtin_profile("mono"), "transactions", accounts.iter().map(partition).collect()))
}
