//! Syncs against a scripted bank, with a real ledger file.

mod account_tokens;
mod clock;
mod completeness;
mod crash;
mod faults;
mod memory;
mod offset;
mod scripted_bank;
mod sources;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use scripted_bank::{ScriptedBank, response};

use super::account_tokens::AccountTokens;
use super::cursor::source_key;
use super::metrics::SyncMetrics;
use super::{Fetch, MaskRules, Partition, PlanEndpoint, RunContext, RunLimits, RunReport, SlaLimits, SyncPlan, run};
use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::ledger::contract::fixtures::row;
use crate::ledger::record::{StoredTransaction, TransactionFilter};
use crate::ledger::{
    self, CursorKey, CursorState, Granularity, Lease, Ledger, LedgerUrl, OpenMode, RunId, RunResult, RunStart,
    RunTrigger, TransactionRecord,
};
use crate::metrics::Metrics;
use crate::profile::{CommitScope, Pagination, Profiles, Stream};

pub(crate) const NOW: &str = "2026-09-10T12:00:00Z";

/// The stream of bank transactions, with pages of `size`.
pub(crate) fn stream(size: u64) -> Stream {
    let profile = Profiles::builtin().unwrap().get("mono").unwrap();
    let mut stream = Stream::clone(&profile.streams["transactions"]);
    if let Pagination::Page { size: page_size, .. } = &mut stream.pagination {
        *page_size = size;
    }
    stream
}

pub(crate) fn record(key: &str, minor: i64) -> TransactionRecord {
    TransactionRecord { account_token: "t".into(), narration: None, ..row(key, minor) }
}

pub(crate) fn partition(name: &str, account: &str) -> Partition {
    Partition { name: name.into(), parameters: [("accountId".to_owned(), account.to_owned())].into() }
}

pub(crate) fn plan(size: u64) -> SyncPlan {
    SyncPlan {
        job: ObjectKey::new("team", "books"),
        connection: "bank-a".into(),
        provider: "mono".into(),
        environment: "Sandbox".into(),
        stream_name: "transactions".into(),
        stream: Arc::new(stream(size)),
        endpoint: PlanEndpoint { base_url: "https://bank.test/".parse().unwrap(), secret_query: Vec::new() },
        request_id_header: "x-request-id".into(),
        partitions: vec![partition("", "acc-000000001")],
        start: None,
        lookback: None,
        commit_scope: CommitScope::Page,
        run_timeout: Duration::from_hours(1),
        dead_letter_budget_percent: 10,
        mask: MaskRules::default(),
        validations: std::sync::Arc::default(),
        raw: crate::settings::sync_plan::RawRetention::default(),
        events: crate::domain::event::EventGranularity::default(),
        dry_run: false,
        sla: SlaLimits::default(),
        resync: None,
        partitions_from: None,
        limits: RunLimits::default(),
    }
}

/// The dependencies of a run: ledger, clock, bank, metrics.
pub(crate) struct SyncHarness {
    _dir: tempfile::TempDir,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) bank: ScriptedBank,
    pub(crate) clock: Clock,
    pub(crate) cancel: CancellationToken,
    pub(crate) account_tokens: AccountTokens,
    metrics: SyncMetrics,
}

impl SyncHarness {
    pub(crate) async fn new(bank: ScriptedBank) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("ledger.db")), OpenMode::Migrate).await.unwrap();
        Self {
            _dir: dir,
            ledger,
            bank,
            clock: Clock::starting_at(NOW.parse().unwrap()),
            cancel: CancellationToken::new(),
            account_tokens: AccountTokens::default(),
            metrics: SyncMetrics::register(&Metrics::new()).unwrap(),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    pub(crate) async fn lease(&self) -> Lease {
        self.ledger
            .acquire_lease("books", "me", Duration::from_secs(30), self.now(), None)
            .await
            .unwrap()
            .acquired()
            .unwrap()
    }

    pub(crate) async fn run(&self, plan: &SyncPlan) -> RunReport {
        self.run_with(&self.bank, plan).await
    }

    pub(crate) async fn run_with(&self, fetch: &dyn Fetch, plan: &SyncPlan) -> RunReport {
        let (lease, id) = (self.lease().await, RunId(Uuid::new_v4()));
        let start = RunStart {
            id,
            job: plan.job.clone(),
            trigger: RunTrigger::Manual,
            slot: None,
            dry_run: plan.dry_run,
            events: Vec::new(),
            at: self.now(),
        };
        assert!(self.ledger.start_run(&start, &lease).await.unwrap());
        let cx = RunContext {
            ledger: &*self.ledger,
            fetch,
            account_tokens: &self.account_tokens,
            lease: &lease,
            clock: self.clock,
            metrics: &self.metrics,
            run: id,
            preview: None,
            cancel: &self.cancel,
        };
        run(plan, cx).await
    }

    /// A lease that no run takes, for the conversion of account tokens outside of a run.
    pub(crate) async fn token_lease(&self) -> Lease {
        let taken = self.ledger.acquire_lease("tokens", "me", Duration::from_secs(30), self.now(), None).await;
        taken.unwrap().acquired().unwrap()
    }

    pub(crate) async fn rows(&self) -> Vec<StoredTransaction> {
        self.ledger.list_transactions(&TransactionFilter::default(), 100_000).await.unwrap()
    }

    /// Key and minor amount of each row, sorted.
    pub(crate) async fn table(&self) -> Vec<(String, i128)> {
        let mut table: Vec<_> =
            self.rows().await.into_iter().map(|row| (row.record.key, row.record.amount_minor)).collect();
        table.sort();
        table
    }

    /// The key of the cursor of the first partition.
    pub(crate) async fn cursor_key(&self, plan: &SyncPlan) -> CursorKey {
        let token_key = self.account_tokens.key(&*self.ledger, &self.token_lease().await, self.now()).await.unwrap();
        source_key(plan, &plan.partitions[0], &token_key)
    }

    pub(crate) async fn stored_cursor(&self, plan: &SyncPlan) -> Option<CursorState> {
        self.ledger.load_cursor(&self.cursor_key(plan).await).await.unwrap()
    }

    pub(crate) async fn cursor(&self, plan: &SyncPlan) -> (Option<String>, bool) {
        let state = self.stored_cursor(plan).await;
        state.map_or((None, false), |state| (state.committed_hwm, state.window.is_some()))
    }
}

#[tokio::test]
async fn a_rerun_changes_nothing_and_edits_are_upserted() {
    let harness = SyncHarness::new(ScriptedBank::with(95)).await;
    let plan = plan(10);
    let first = harness.run(&plan).await;
    assert_eq!((first.result, first.reason), (RunResult::Succeeded, None));
    assert_eq!((first.counts.fetched, first.counts.inserted, first.counts.pages), (95, 95, 10));
    assert_eq!(harness.table().await, harness.bank.table());
    assert_eq!(harness.cursor(&plan).await, (Some("2026-09-10".into()), false));

    let again = harness.run(&plan).await;
    assert_eq!((again.result, again.counts.inserted, again.counts.updated), (RunResult::Succeeded, 0, 0));
    assert!(again.counts.fetched < 95, "only the lookback is read again: {}", again.counts.fetched);

    harness.bank.edit(|rows| rows[0].minor = 123_456);
    harness.bank.add(3);
    let edited = harness.run(&plan).await;
    assert_eq!((edited.counts.inserted, edited.counts.updated), (3, 1));
    assert_eq!(harness.table().await, harness.bank.table());
}

#[tokio::test]
async fn rows_are_canonical_exact_and_masked() {
    let bank = ScriptedBank::with(0);
    bank.push("x1", 1_234_567_890_123_456, "debit", "2026-09-09T00:00:00.000Z", "TRF TO 0131883461");
    bank.push("x2", 5, "credit", "2026-09-08", "");
    let harness = SyncHarness::new(bank).await;
    assert_eq!(harness.run(&plan(10)).await.counts.inserted, 2);
    let rows = harness.rows().await;
    let (x1, x2) = (&rows[0].record, &rows[1].record);
    assert_eq!((x1.amount.to_string().as_str(), x1.amount_minor), ("-12345678901234.56", -1_234_567_890_123_456));
    assert_eq!((x1.currency.as_str(), x1.account.as_str()), ("NGN", "****3461"));
    assert_eq!(x1.narration.as_deref(), Some("TRF TO ****3461"));
    assert_eq!((x1.booked.on, x1.booked.granularity), (jiff::civil::date(2026, 9, 9), Granularity::Day));
    assert_eq!(x1.booked.at, Some("2026-09-09T00:00:00Z".parse().unwrap()));
    assert_eq!((x2.amount.to_string().as_str(), x2.booked.at, x2.narration.as_deref()), ("0.05", None, None));
}

#[tokio::test]
async fn nested_bodies_are_read_and_yen_have_no_minor_unit() {
    let bank = ScriptedBank::with(25);
    bank.configure(|config| {
        config.nested = true;
        config.currency = Some("JPY");
    });
    let harness = SyncHarness::new(bank).await;
    assert_eq!(harness.run(&plan(10)).await.counts.inserted, 25);
    let rows = harness.rows().await;
    assert!(rows.iter().all(|row| row.record.amount.to_string() == row.record.amount_minor.to_string()));
}

#[tokio::test]
async fn a_failed_partition_does_not_stop_the_others() {
    let harness = SyncHarness::new(ScriptedBank::with(12)).await;
    let mut plan = plan(5);
    plan.partitions = vec![partition("gone", "missing"), partition("main", "acc-000000001")];
    let report = harness.run(&plan).await;
    assert_eq!((report.result, report.reason.unwrap().as_str()), (RunResult::Failed, "NotFound"));
    assert_eq!((report.partitions, report.failing, report.counts.inserted, report.http_status), (2, 1, 12, Some(404)));
    let history = harness.ledger.job_history(&plan.job, 5, harness.now()).await.unwrap();
    assert_eq!(history.cursors.len(), 1);
    assert_eq!(history.cursors[0].0.partition, "main");
}

#[tokio::test]
async fn a_dry_run_reads_one_page_and_writes_nothing() {
    let harness = SyncHarness::new(ScriptedBank::with(30)).await;
    let mut plan = plan(10);
    plan.dry_run = true;
    let report = harness.run(&plan).await;
    assert_eq!((report.result, report.counts.fetched, report.counts.inserted), (RunResult::Succeeded, 10, 0));
    assert_eq!(harness.bank.pages_served(), 1);
    assert!(harness.rows().await.is_empty());
    assert_eq!(harness.cursor(&plan).await, (None, false));
}

#[tokio::test]
async fn a_changed_account_starts_from_the_beginning() {
    let harness = SyncHarness::new(ScriptedBank::with(20)).await;
    let mut plan = plan(10);
    harness.run(&plan).await;
    plan.partitions = vec![partition("", "acc-000000002")];
    let report = harness.run(&plan).await;
    assert_eq!((report.counts.fetched, report.counts.inserted), (20, 20), "the other account's rows are its own");
    // A changed page size invalidates the page position, not the cursor.
    plan.stream = Arc::new(stream(7));
    assert!(harness.run(&plan).await.counts.fetched < 20);
}
