//! What the profiles send, judged by Prism with an OpenAPI file that says what the providers' documents allow.
//!
//! Prism refuses what breaks the file and writes the reasons into its log: that log, not the answers alone, is the
//! verdict, for a client could take a refusal for a missing record.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::key::ObjectKey;
use busbar::ledger::{self, LedgerUrl, OpenMode, RunId, RunResult, RunTrigger};
use busbar::metrics::Metrics;
use busbar::profile::ResponseClass;
use busbar::provider::connection::Connection;
use busbar::sync::{MaskRules, Partition, RunLimits, SyncPlan};
use busbar::work::pool::{JobView, PoolOptions, RunRequest, StartOutcome, SyncPool};
use busbar::work::reconcile_queue::{Kind, ReconcileQueue};
use futures::StreamExt as _;
use tempfile::TempDir;

use super::{call, draft, live, request, texts};
use crate::support::Peer;
use crate::support::plane::repository;

const KEY: &str = "canary-mono-key-not-real";

async fn prism() -> Peer {
    let file: PathBuf = repository("tests/e2e/peers/providers.openapi.yaml");
    Peer::prism(&file).await
}

/// Prism's complaints, and how many requests it found in order.
fn verdict(peer: &Peer) -> (Vec<String>, usize) {
    let log = peer.whole_log();
    let complaints =
        log.lines().filter(|line| line.contains("[VALIDATOR]") && line.contains("error")).map(str::to_owned);
    // Whoever waits for Prism asks for `/`, which nobody knows.
    let unrouted = |line: &&str| line.contains("NO_PATH_MATCHED") && !line.contains("get / ");
    let unrouted = log.lines().filter(unrouted).map(str::to_owned);
    (complaints.chain(unrouted).collect(), log.matches("The request passed the validation rules").count())
}

fn mono(peer: &Peer) -> Arc<Connection> {
    live(draft("mono", format!("{}/v2", peer.base()), &[], &[("api-key", KEY)]))
}

fn finastra(peer: &Peer) -> Arc<Connection> {
    let secrets = [("client-id", "canary-client"), ("client-secret", "canary-secret-not-real")];
    live(draft("finastra", peer.base().to_owned(), &[("tenant", "sandbox")], &secrets))
}

async fn good(live: &Connection, operation: &str, parameters: &[(&str, &str)]) {
    let answer = call(live, operation, parameters).await.unwrap();
    assert_eq!(answer.classification.class, ResponseClass::Ok, "{operation}: {answer:?}");
}

#[tokio::test]
async fn the_operations_and_health_checks_of_mono_and_finastra_send_what_the_documents_allow() {
    let peer = prism().await;
    let bank = mono(&peer);
    assert_eq!(bank.probe().await.unwrap().result.unwrap().status, 200, "{}", peer.log());
    good(&bank, "accounts", &[("limit", "5")]).await;
    good(&bank, "account", &[("accountId", "acc1")]).await;
    let window = [("accountId", "acc1"), ("start", "01-10-2026"), ("end", "31-10-2026"), ("limit", "100")];
    good(&bank, "transactions", &window).await;

    let bank = finastra(&peer);
    assert_eq!(bank.probe().await.unwrap().result.unwrap().status, 200, "{}", peer.log());
    good(&bank, "collaterals", &[]).await;
    good(&bank, "collaterals", &[("top", "100"), ("startingIndex", "200")]).await;
    good(&bank, "collateral", &[("id", "col-1")]).await;
    // Four of each, and the token.
    assert_eq!(verdict(&peer), (vec![], 9), "{}", peer.log());
}

#[tokio::test]
async fn what_a_profile_must_not_send_is_found() {
    let peer = prism().await;
    let bank = mono(&peer);
    let window = [("accountId", "acc1"), ("start", "2026-10-01"), ("end", "31-10-2026")];
    let refused = call(&bank, "transactions", &window).await.unwrap();
    assert_eq!(refused.status, 422);
    let mut misspelt = request(&finastra(&peer), "collaterals", &[]);
    misspelt.query.retain(|(name, _)| name != "pageSize");
    assert_eq!(finastra(&peer).call(misspelt.with_query("page_size", "500")).await.unwrap().status, 422);

    let (complaints, _) = verdict(&peer);
    let found = |word: &str| complaints.iter().any(|line| line.contains(word));
    assert!(complaints.len() == 2 && found("start") && found("pagesize"), "{complaints:?}");
}

#[tokio::test]
async fn a_credential_that_is_missing_is_found() {
    let peer = prism().await;
    let mut without = draft("mono", format!("{}/v2", peer.base()), &[], &[("api-key", KEY)]);
    without.auth = busbar::settings::Auth::None;
    let refused = call(&live(without), "accounts", &[]).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.classification.class), (401, ResponseClass::Auth));
    assert_eq!(verdict(&peer).0.len(), 1, "{}", peer.log());
}

/// Runs one stream of the connection's profile into a ledger of its own.
async fn sync(live: &Arc<Connection>, stream: &str, parameters: &[(&str, &str)]) -> (JobView, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("ledger.db")), OpenMode::Migrate).await.unwrap();
    let reconcile_queue = ReconcileQueue::new();
    let options = PoolOptions::new("the-operator");
    let pool = SyncPool::new(ledger, reconcile_queue.clone(), Clock::system(), &Metrics::new(), options).unwrap();
    let settings = live.settings();
    let plan = Arc::new(SyncPlan {
        job: ObjectKey::new("treasury", "books"),
        connection: "bank".into(),
        provider: settings.provider().into(),
        environment: "Sandbox".into(),
        stream_name: stream.into(),
        stream: settings.profile().streams[stream].clone(),
        request_id_header: settings.profile().correlation.clone(),
        partitions: vec![Partition { name: String::new(), parameters: texts(parameters) }],
        start: None,
        lookback: None,
        run_timeout: Duration::from_mins(2),
        dead_letter_budget_percent: 0,
        mask: MaskRules::default(),
        dry_run: false,
        limits: RunLimits::default(),
    });
    let order = RunRequest { run: RunId(uuid::Uuid::new_v4()), trigger: RunTrigger::Manual, slot: None };
    let mut ended = std::pin::pin!(reconcile_queue.subscribe(Kind::SyncJob, None));
    assert_eq!(pool.start(plan.clone(), live.clone(), order), StartOutcome::Accepted);
    tokio::time::timeout(Duration::from_mins(2), ended.next()).await.unwrap().unwrap();
    (pool.view(&plan.job, 100).await.unwrap(), dir)
}

#[tokio::test]
async fn the_stream_of_finastra_asks_as_the_documents_say() {
    let peer = prism().await;
    let (job, _dir) = sync(&finastra(&peer), "collaterals", &[]).await;
    assert_eq!(job.last[0].result, Some(RunResult::Succeeded), "{:?}\n{}", job.last_outcome, peer.log());
    assert_eq!((job.last[0].counts.inserted, job.last[0].counts.rejected), (1, 0));
    let (complaints, passed) = verdict(&peer);
    assert!(complaints.is_empty() && passed >= 2, "the token and a page: {complaints:?}, {passed}");
}

#[tokio::test]
async fn the_stream_of_mono_asks_as_the_documents_say() {
    let peer = prism().await;
    let (job, _dir) = sync(&mono(&peer), "transactions", &[("accountId", "acc1")]).await;
    assert_eq!(job.last[0].result, Some(RunResult::Succeeded), "{:?}\n{}", job.last_outcome, peer.log());
    assert_eq!((job.last[0].counts.inserted, job.last[0].counts.rejected), (2, 0));
    let (complaints, passed) = verdict(&peer);
    assert!(complaints.is_empty() && passed >= 2, "{complaints:?}, {passed}");
}
