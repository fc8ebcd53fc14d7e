//! Runs of the pool over a scripted bank and a real ledger, one case each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use super::Emitted;
use crate::clock::Clock;
use crate::controllers::syncjob;
use crate::ledger::record::TransactionFilter;
use crate::ledger::{
    self, CursorState, Lease, LeaseOutcome, Ledger, LedgerUrl, OpenMode, PageCommit, RunId, RunStart, RunTrigger,
    StoredCredential,
};
use crate::metrics::Metrics;
use crate::profile::{
    AvailableRange, Classification, CommitScope, Pagination, ResponseClass, Template, TokenSource, TokenTarget,
};
use crate::provider::call::{CallError, Response, TokenStoreError};
use crate::settings::sync_plan::SyncPlan;
use crate::sync::account_tokens::stored_key;
use crate::sync::cursor::cursor_key;
use crate::sync::tests::{NOW, ScriptedBank, plan, response};
use crate::work::pool::{JobView, LostRun, PoolOptions, RunRequest, StartOutcome, SyncPool};
use crate::work::reconcile_queue::{Kind, ReconcileQueue};

/// The lease of the job of [`plan`].
const LEASE: &str = "sync/team/books";
/// Short, so that a lost lease is noticed soon.
const TTL: Duration = Duration::from_millis(300);

/// A run of `plan` against `bank`.
struct Case {
    plan: SyncPlan,
    bank: ScriptedBank,
}

/// A bank that responds to each page with the result of `respond`, given the page's number and regular body.
fn answering(respond: impl Fn(u64, Value) -> Result<Response, CallError> + Send + Sync + 'static) -> Case {
    let bank = ScriptedBank::with(25);
    bank.configure(|config| config.override_response = Some(Box::new(respond)));
    Case { plan: plan(10), bank }
}

/// A bank that changes the body of each page.
fn changing(change: impl Fn(u64, &mut Value) + Send + Sync + 'static) -> Case {
    answering(move |page, mut body| {
        change(page, &mut body);
        Ok(response(200, &body.to_string()))
    })
}

/// A bank with regular responses, and a changed plan.
fn planned(change: impl FnOnce(&mut SyncPlan)) -> Case {
    let mut plan = plan(10);
    change(&mut plan);
    Case { plan, bank: ScriptedBank::with(25) }
}

/// A patch stream whose data is not ready: no more pages, and a blank token.
fn without_token() -> Case {
    let mut case = changing(|_, body| *body = json!({"data": [], "meta": {"more": false, "token": ""}}));
    let stream = Arc::make_mut(&mut case.plan.stream);
    (stream.window, stream.commit_scope) = (None, CommitScope::Window);
    stream.pagination = Pagination::Token {
        from: TokenSource::Body { pointers: vec!["/meta/token".into()] },
        to: TokenTarget::Query { parameter: "after".into() },
        more: Some("/meta/more".into()),
        size_parameter: None,
        size: None,
    };
    for (name, value) in [("page", "1"), ("limit", "10"), ("start", "01-09-2026"), ("end", "10-09-2026")] {
        stream.query.insert(name.into(), Template::parse(value).unwrap());
    }
    case
}

/// Runs that end by themselves.
fn cases() -> Vec<Case> {
    let mut cases = vec![planned(|_| {}), without_token()];
    let retry_in = Duration::from_hours(1);
    for error in [
        CallError::Timeout,
        CallError::CircuitOpen { retry_in: None },
        CallError::Suspended,
        CallError::Client("certificate".into()),
        CallError::QuotaExhausted { retry_in },
        CallError::Throttled { retry_in },
        CallError::TooLarge { limit: 1 },
        CallError::Overloaded,
        CallError::CredentialsRefused { status: 401 },
        CallError::TokenStore(TokenStoreError::Ledger),
    ] {
        cases.push(answering(move |_, _| Err(error.clone())));
    }
    for status in [503, 403, 404, 410, 400, 302] {
        cases.push(answering(move |_, _| Ok(response(status, ""))));
    }
    cases.push(answering(|_, _| {
        let class = ResponseClass::EndOfData;
        Ok(Response { classification: Classification { class, ..Classification::default() }, ..response(426, "{}") })
    }));
    for body in ["<html>", "{}", r#"{"error": {"code": "X"}}"#, r#"{"data": [], "meta": {"next": "?cursor=2"}}"#] {
        cases.push(answering(move |_, _| Ok(response(200, body))));
    }
    cases.push(changing(|page, body| {
        if page == 2 {
            body["meta"]["next"] = json!("?page=1");
        }
    }));
    cases.push(changing(|page, body| *body = json!({"data": [], "meta": {"next": page + 1}})));
    let total = AtomicU64::new(1000);
    cases.push(changing(move |_, body| body["meta"]["total"] = json!(total.fetch_sub(1, Ordering::Relaxed))));
    cases.push(changing(|_, body| body["meta"]["total"] = json!(99)));
    let mut consented = changing(|_, body| body["meta"]["first"] = json!("2026-09-01"));
    let range = AvailableRange { from: Some("/meta/first".into()), to: None };
    Arc::make_mut(&mut consented.plan.stream).window.as_mut().unwrap().available = Some(range);
    cases.push(consented);
    cases.push(changing(|_, body| {
        for n in 0..6 {
            body["data"][n]["amount"] = json!(1.5);
        }
    }));
    // One invalid record of ten is within the budget.
    cases.push(changing(|page, body| {
        if page == 1 {
            body["data"][0]["amount"] = json!(1.5);
        }
    }));
    cases.push(answering(|_, _| panic!("a fault, on purpose")));
    let unknown = planned(|_| {});
    unknown.bank.configure(|config| config.currency = Some("QQQ"));
    cases.push(unknown);
    cases.push(planned(|plan| plan.limits.max_pages = 1));
    cases.push(planned(|plan| plan.run_timeout = Duration::ZERO));
    cases.push(planned(|plan| plan.partitions[0].parameters.clear()));
    cases
}

struct Fixture {
    _dir: tempfile::TempDir,
    ledger: Arc<dyn Ledger>,
    queue: ReconcileQueue,
    clock: Clock,
    pool: SyncPool,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = LedgerUrl::Sqlite(dir.path().join("ledger.db"));
        let ledger = ledger::open(&url, OpenMode::Migrate).await.unwrap();
        let (queue, clock) = (ReconcileQueue::new(), Clock::starting_at(NOW.parse().unwrap()));
        let options = PoolOptions { lease_ttl: TTL, ..PoolOptions::new("me") };
        let pool = SyncPool::new(ledger.clone(), queue.clone(), clock, &Metrics::new(), options).unwrap();
        Self { _dir: dir, ledger, queue, clock, pool }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Starts a run for the slot [`NOW`].
    fn start(&self, case: Case) {
        let (trigger, slot) = (RunTrigger::Schedule, Some(NOW.parse().unwrap()));
        let request = RunRequest { run: RunId(Uuid::new_v4()), trigger, slot };
        assert_eq!(self.pool.start(Arc::new(case.plan), Arc::new(case.bank), request), StartOutcome::Accepted);
    }

    /// The job's state after the end of its run.
    async fn ended(&self) -> JobView {
        let mut queue = std::pin::pin!(self.queue.subscribe(Kind::SyncJob, None));
        let job = tokio::time::timeout(Duration::from_secs(20), queue.next()).await.unwrap().unwrap();
        self.pool.view(&job, 10).await.unwrap()
    }

    /// Starts a run that waits for its second page, and returns when the first is committed.
    async fn start_stalled(&self) {
        let case = planned(|_| {});
        case.bank.configure(|config| config.stall = Some((2, Arc::new(Notify::new()))));
        self.start(case);
        while self.ledger.count_transactions(&TransactionFilter::default()).await.unwrap() < 10 {
            tokio::task::yield_now().await;
        }
    }

    /// Records the start of a run, like a process that ends before the run does.
    async fn begin_run(&self) -> (Lease, RunId) {
        let (now, id) = (self.now(), RunId(Uuid::new_v4()));
        let taken = self.ledger.acquire_lease(LEASE, "me", TTL, now, None).await.unwrap();
        let LeaseOutcome::Acquired(lease) = taken else { panic!("the lease is held: {taken:?}") };
        let (job, trigger) = (plan(10).job, RunTrigger::Manual);
        let start = RunStart { id, job, trigger, slot: None, dry_run: false, events: Vec::new(), at: now };
        assert!(self.ledger.start_run(&start, &lease).await.unwrap());
        (lease, id)
    }

    /// Stores a cursor that is no date.
    async fn store_unreadable_cursor(&self) {
        let (lease, run) = self.begin_run().await;
        let plan = plan(10);
        let partition = &plan.partitions[0];
        let state = CursorState {
            spec_hash: plan.cursor_hash(partition).unwrap().text(),
            committed_hwm: Some("yesterday".to_owned()),
            ..CursorState::default()
        };
        let page = PageCommit {
            cursor: &cursor_key(&plan, partition),
            lease: &lease,
            run,
            state: &state,
            rows: &[],
            documents: &[],
            records: &[],
            removed: &[],
            pending: None,
            scope: crate::ledger::page::CommitScope::Page,
            dead_letters: &[],
            raw: None,
            events: None,
            replayed: None,
            fetched: 0,
            conflicting: 0,
            pages: 0,
            now: self.now(),
        };
        self.ledger.commit_page(page).await.unwrap();
    }
}

async fn one_run(case: Case) -> Vec<JobView> {
    let fixture = Fixture::new().await;
    fixture.start(case);
    vec![fixture.ended().await]
}

async fn cancelled() -> Vec<JobView> {
    let fixture = Fixture::new().await;
    fixture.start_stalled().await;
    assert!(fixture.pool.cancel(&plan(10).job));
    vec![fixture.ended().await]
}

/// Another process takes the expired lease.
async fn lease_lost() -> Vec<JobView> {
    let fixture = Fixture::new().await;
    fixture.start_stalled().await;
    let later = fixture.now() + Duration::from_hours(1);
    let taken = fixture.ledger.acquire_lease(LEASE, "other", TTL, later, None).await.unwrap();
    assert!(matches!(taken, LeaseOutcome::Acquired(_)), "{taken:?}");
    vec![fixture.ended().await]
}

/// The second run finds its slot served.
async fn slot_served() -> Vec<JobView> {
    let fixture = Fixture::new().await;
    let mut views = Vec::new();
    for _ in 0..2 {
        fixture.start(planned(|_| {}));
        views.push(fixture.ended().await);
    }
    views
}

/// The process of an earlier run ended during it.
async fn interrupted() -> Vec<JobView> {
    let fixture = Fixture::new().await;
    fixture.begin_run().await;
    fixture.start(planned(|_| {}));
    vec![fixture.ended().await]
}

async fn unreadable_cursor() -> Vec<JobView> {
    let fixture = Fixture::new().await;
    fixture.store_unreadable_cursor().await;
    fixture.start(planned(|_| {}));
    vec![fixture.ended().await]
}

/// The key of account tokens was encrypted with a key that the operator no longer has.
async fn key_missing() -> Vec<JobView> {
    let fixture = Fixture::new().await;
    let foreign = StoredCredential { version: 0, secret: String::new(), ciphertext: vec![1; 64] };
    fixture.ledger.store_credential(&stored_key(), &foreign, fixture.now()).await.unwrap();
    fixture.start(planned(|_| {}));
    vec![fixture.ended().await]
}

/// The Kubernetes Job of a run ended before its run did.
async fn job_failed() -> Vec<JobView> {
    let fixture = Fixture::new().await;
    let request = RunRequest { run: RunId(Uuid::new_v4()), trigger: RunTrigger::Schedule, slot: None };
    assert!(fixture.pool.record_lost(&plan(10).job, LostRun { request, plan: None, resync: None }).await.unwrap());
    vec![fixture.pool.view(&plan(10).job, 10).await.unwrap()]
}

async fn slot_missed() -> Vec<JobView> {
    let fixture = Fixture::new().await;
    let job = plan(10).job;
    syncjob::skip(&*fixture.ledger, &job, NOW.parse().unwrap(), fixture.now()).await.unwrap();
    vec![fixture.pool.view(&job, 10).await.unwrap()]
}

/// Runs every case and returns the state of its job after it.
pub(super) async fn emit(emitted: &mut Emitted) -> Vec<JobView> {
    let mut all: Vec<BoxFuture<'_, Vec<JobView>>> = cases().into_iter().map(|case| one_run(case).boxed()).collect();
    all.extend([cancelled().boxed(), lease_lost().boxed(), slot_served().boxed(), interrupted().boxed()]);
    all.extend([unreadable_cursor().boxed(), key_missing().boxed(), slot_missed().boxed(), job_failed().boxed()]);
    let views: Vec<_> = futures::future::join_all(all).await.into_iter().flatten().collect();
    for view in &views {
        let recorded = view.last.iter().map(|run| (run.result, run.reason));
        let reported = view.last_outcome.iter().map(|outcome| (Some(outcome.report.result), outcome.report.reason));
        for (result, reason) in recorded.chain(reported) {
            emitted.results.extend(result.map(|result| result.to_string()));
            emitted.runs.extend(reason.map(|reason| reason.to_string()));
        }
    }
    views
}
