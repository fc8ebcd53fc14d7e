//! Syncs over real sockets: a simulated bank, the whole call path, the pool, a ledger file. And a process that is
//! killed in the middle.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::key::ObjectKey;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::sqlite::SqliteLedger;
use busbar::ledger::{Ledger, RunId, RunResult, RunTrigger};
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft, Settings};
use busbar::sync::{MaskRules, Partition, RunLimits, RunReason, SyncPlan};
use busbar::testbed::sim::{
    AccountConfig, BankConfig, BankHandle, Behaviour, Direction, Script, ScriptStep, Transaction,
};
use busbar::work::pool::{JobView, PoolOptions, RunRequest, StartOutcome, SyncPool};
use busbar::work::reconcile_queue::{Kind, ReconcileQueue};
use futures::StreamExt as _;
use secrecy::SecretString;

use crate::call_path::{bank, eventually};

const KEY: &str = "canary-mono-key-not-real";

/// A minute apart, so that thousands fit the stream's reach.
fn account(id: &str, transactions: u64) -> AccountConfig {
    AccountConfig { spacing_seconds: 60, ..AccountConfig::new(id, transactions) }
}

fn connection(base_url: &str) -> Arc<Connection> {
    let profile = Profiles::builtin().unwrap().get("mono").unwrap();
    let mut draft = Draft::new(profile, Environment::Sandbox);
    draft.base_url = format!("{base_url}/v2");
    draft.auth = Auth::Profile { headers: vec![("mono-sec-key".to_owned(), SecretString::from(KEY))], query: vec![] };
    let registry = Registry::new(Clock::system(), &Metrics::new(), RegistryOptions::allowing_loopback()).unwrap();
    registry.apply(&ObjectKey::new("treasury", "bank"), "uid-1", Settings::resolve(draft).unwrap(), None)
}

pub(crate) fn plan(accounts: &[&str]) -> Arc<SyncPlan> {
    let profile = Profiles::builtin().unwrap().get("mono").unwrap();
    let partition = |id: &&str| Partition {
        name: if accounts.len() == 1 { String::new() } else { (*id).to_owned() },
        parameters: [("accountId".to_owned(), (*id).to_owned())].into(),
    };
    Arc::new(SyncPlan {
        job: ObjectKey::new("treasury", "books"),
        connection: "bank".into(),
        provider: "mono".into(),
        environment: "Sandbox".into(),
        stream_name: "transactions".into(),
        stream: profile.streams["transactions"].clone(),
        request_id_header: profile.correlation.clone(),
        partitions: accounts.iter().map(partition).collect(),
        start: None,
        lookback: None,
        run_timeout: Duration::from_mins(10),
        dead_letter_budget_percent: 10,
        mask: MaskRules::default(),
        dry_run: false,
        limits: RunLimits::default(),
    })
}

struct Operator {
    ledger: Arc<SqliteLedger>,
    pool: SyncPool,
    reconcile_queue: ReconcileQueue,
    metrics: Metrics,
}

impl Operator {
    async fn on(path: &Path) -> Self {
        let ledger = Arc::new(SqliteLedger::open(path).await.unwrap());
        let (reconcile_queue, metrics) = (ReconcileQueue::new(), Metrics::new());
        let options = PoolOptions::new("the-operator");
        let pool = SyncPool::new(ledger.clone(), reconcile_queue.clone(), Clock::system(), &metrics, options).unwrap();
        Self { ledger, pool, reconcile_queue, metrics }
    }

    async fn run(&self, plan: &Arc<SyncPlan>, live: &Arc<Connection>) -> JobView {
        let order = RunRequest { run: RunId(uuid::Uuid::new_v4()), trigger: RunTrigger::Manual, slot: None };
        assert_eq!(self.pool.start(plan.clone(), live.clone(), order), StartOutcome::Accepted);
        let mut reconcile_queue = std::pin::pin!(self.reconcile_queue.subscribe(Kind::SyncJob, None));
        tokio::time::timeout(Duration::from_mins(2), reconcile_queue.next()).await.unwrap().unwrap();
        self.pool.view(&plan.job, 100).await.unwrap()
    }

    async fn count(&self) -> u64 {
        self.ledger.count_transactions(&TransactionFilter::default()).await.unwrap()
    }
}

async fn simulated(accounts: impl IntoIterator<Item = AccountConfig>) -> (busbar::testbed::sim::Sim, BankHandle) {
    bank(BankConfig::mono("bank", KEY).accounts(accounts)).await
}

fn slowly(pause: Duration) -> Script {
    Script::from(ScriptStep::slow(pause))
}

#[tokio::test]
async fn thousands_of_transactions_are_paged_in_once_and_edits_are_upserted() {
    let (_sim, bank) = simulated([account("acc-1", 3_456), account("acc-2", 40)]).await;
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator::on(&dir.path().join("ledger.db")).await;
    let (plan, live) = (plan(&["acc-1", "acc-2"]), connection(&bank.base_url()));

    let first = operator.run(&plan, &live).await;
    assert_eq!(first.last[0].result, Some(RunResult::Succeeded), "{:?}", first.last_outcome);
    assert_eq!(
        (first.last[0].counts.inserted, first.last[0].counts.rejected, operator.count().await),
        (3_496, 0, 3_496)
    );
    let again = operator.run(&plan, &live).await;
    assert_eq!((again.last[0].counts.inserted, again.last[0].counts.updated), (0, 0));

    let rows = operator.ledger.list_transactions(&TransactionFilter::default(), 1).await.unwrap();
    let newest = &rows[0].record;
    let edited = Transaction {
        id: newest.key.clone(),
        narration: "corrected by the bank".into(),
        amount: 4_200,
        direction: Direction::Credit,
        balance: 0,
        date: newest.booked.at.unwrap(),
        category: None,
    };
    let fresh = Transaction { id: "late-one".into(), ..edited.clone() };
    let id = if newest.account == "****" { "acc-1" } else { rows[0].partition.as_str() };
    assert!(bank.put_transactions(id, vec![edited, fresh]));
    let third = operator.run(&plan, &live).await;
    assert_eq!((third.last[0].counts.inserted, third.last[0].counts.updated), (1, 1));
    let today = TransactionFilter { partition: Some(id.to_owned()), ..TransactionFilter::default() };
    let rows = operator.ledger.list_transactions(&today, 5_000).await.unwrap();
    let corrected: Vec<_> = rows.iter().filter(|row| row.record.amount.to_string() == "42.00").collect();
    assert_eq!(corrected.len(), 2);

    let seen = bank.arrivals();
    assert!(seen.entries.iter().all(|arrival| arrival.status == Some(200)), "no link was followed blindly");
    assert!(!operator.metrics.render().unwrap().contains("acc-"), "no account in a label");
}

#[tokio::test]
async fn a_bank_that_fails_ends_the_run_with_its_reason_and_the_next_run_goes_on() {
    let (_sim, bank) = simulated([account("acc-1", 1_000)]).await;
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator::on(&dir.path().join("ledger.db")).await;
    let (plan, live) = (plan(&["acc-1"]), connection(&bank.base_url()));
    let down_after = |requests| {
        Script::sequence([
            ScriptStep::from(Behaviour::Healthy).times(requests),
            ScriptStep::from(Behaviour::status(503)),
        ])
    };
    bank.set_script(down_after(4)).await.unwrap();
    let view = operator.run(&plan, &live).await;
    let outcome = view.last_outcome.unwrap().report;
    assert_eq!((outcome.result, outcome.reason), (RunResult::Failed, Some(RunReason::ProviderError)));
    assert_eq!((outcome.http_status, view.failure_streak, view.last[0].counts.inserted), (Some(503), 1, 300));
    bank.recover().await;
    let view = operator.run(&plan, &live).await;
    assert_eq!((view.last[0].result, view.failure_streak), (Some(RunResult::Succeeded), 0));
    assert_eq!((view.last[0].counts.inserted, operator.count().await), (700, 1_000));
}

/// The variable that turns the ignored test below into a process to be killed.
const CHILD: &str = "BUSBAR_TEST_SYNC_CHILD";

#[tokio::test]
#[ignore = "the process that the next test kills"]
#[expect(clippy::disallowed_methods, reason = "how the parent talks to this process")]
async fn a_child_that_syncs_until_it_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (path, base_url) = told.split_once('|').unwrap();
    Operator::on(Path::new(path)).await.run(&plan(&["acc-1"]), &connection(base_url)).await;
}

#[tokio::test]
async fn a_process_killed_between_any_two_pages_loses_and_doubles_nothing() {
    let (_sim, bank) = simulated([account("acc-1", 2_000)]).await;
    bank.set_script(slowly(Duration::from_millis(15))).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    // Makes the file, so that a reader can watch it from the start.
    Operator::on(&path).await.ledger.close().await;
    let watch = SqliteLedger::open_read_only(&path).await.unwrap();
    let all = TransactionFilter::default();
    for target in [1, 400, 700, 1_300] {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sync::a_child_that_syncs_until_it_is_killed", "--ignored", "--test-threads", "1"])
            .env(CHILD, format!("{}|{}", path.display(), bank.base_url()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("the child has written so many rows", || async {
            watch.count_transactions(&all).await.unwrap() >= target
        })
        .await;
        child.kill().await.unwrap();
    }
    let killed = watch.count_transactions(&all).await.unwrap();
    assert!((1_300..2_000).contains(&killed), "it was killed in the middle: {killed}");

    bank.recover().await;
    let operator = Operator::on(&path).await;
    let view = operator.run(&plan(&["acc-1"]), &connection(&bank.base_url())).await;
    assert_eq!(view.last[0].result, Some(RunResult::Succeeded));
    let rows = operator.ledger.list_transactions(&all, 10_000).await.unwrap();
    assert_eq!(rows.len(), 2_000);
    assert!(rows.iter().all(|row| row.revision == 1));
    let results: Vec<_> = view.last.iter().skip(1).map(|run| run.result.unwrap()).collect();
    assert_eq!(results, [RunResult::Interrupted; 4]);
    let inserted: u64 = view.last.iter().map(|run| run.counts.inserted).sum();
    assert_eq!(inserted, 2_000, "killed runs counted exactly what they committed");
}

#[tokio::test]
async fn rejected_credentials_end_the_run_and_no_row_or_error_shows_the_key() {
    let (_sim, bank) = simulated([account("acc-1", 10)]).await;
    bank.set_auth(&busbar::testbed::sim::RequiredAuth::mono("canary-rotated-key-not-real")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator::on(&dir.path().join("ledger.db")).await;
    let view = operator.run(&plan(&["acc-1"]), &connection(&bank.base_url())).await;
    assert_eq!(view.last[0].reason.as_deref(), Some("AuthenticationFailed"));
    operator.pool.close().await;
    operator.ledger.close().await;
    let bytes = std::fs::read(dir.path().join("ledger.db")).unwrap();
    assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
}
