//! What the profiles send, checked by Prism with an OpenAPI file that says what the documents of the providers allow.
//!
//! Prism rejects what violates the file and logs the reasons: its log is checked, and not only the responses, because a
//! client could take a rejection for a missing record.

use std::path::PathBuf;
use std::sync::Arc;

use busbar::ledger::RunResult;
use busbar::profile::ResponseClass;
use busbar::provider::connection::Connection;
use busbar::settings::Auth;
use busbar::sync::{Partition, SyncPlan};
use busbar::work::pool::JobView;
use tempfile::TempDir;

use super::{call_operation, operation_request, peer_draft};
use crate::cluster::control_planes::repository;
use crate::cluster::peer_server::PeerServer;
use crate::kit::connections::{connect, texts};
use crate::kit::sync_env::{SyncEnv, stream_plan};

const KEY: &str = "canary-mono-key-not-real";

async fn prism() -> PeerServer {
    let file: PathBuf = repository("tests/e2e/peers/providers.openapi.yaml");
    PeerServer::prism(&file).await
}

/// The violations that Prism found, and how many requests had none.
fn validation(peer: &PeerServer) -> (Vec<String>, usize) {
    let log = peer.whole_log();
    let violations =
        log.lines().filter(|line| line.contains("[VALIDATOR]") && line.contains("error")).map(str::to_owned);
    // The wait for Prism requests `/`, which is not in the file.
    let unrouted = |line: &&str| line.contains("NO_PATH_MATCHED") && !line.contains("get / ");
    let unrouted = log.lines().filter(unrouted).map(str::to_owned);
    (violations.chain(unrouted).collect(), log.matches("The request passed the validation rules").count())
}

fn mono(peer: &PeerServer) -> Arc<Connection> {
    connect(peer_draft("mono", format!("{}/v2", peer.base()), &[], &[("api-key", KEY)]))
}

fn finastra(peer: &PeerServer) -> Arc<Connection> {
    let secrets = [("client-id", "canary-client"), ("client-secret", "canary-secret-not-real")];
    connect(peer_draft("finastra", peer.base().to_owned(), &[("tenant", "sandbox")], &secrets))
}

async fn succeeds(connection: &Connection, operation: &str, parameters: &[(&str, &str)]) {
    let answer = call_operation(connection, operation, parameters).await.unwrap();
    assert_eq!(answer.classification.class, ResponseClass::Ok, "{operation}: {answer:?}");
}

#[tokio::test]
async fn operations_and_health_checks_send_what_the_documents_allow() {
    let peer = prism().await;
    let bank = mono(&peer);
    assert_eq!(bank.probe().await.unwrap().result.unwrap().status, 200, "{}", peer.log());
    succeeds(&bank, "accounts", &[("limit", "5")]).await;
    succeeds(&bank, "account", &[("accountId", "acc1")]).await;
    let window = [("accountId", "acc1"), ("start", "01-10-2026"), ("end", "31-10-2026"), ("limit", "100")];
    succeeds(&bank, "transactions", &window).await;

    let bank = finastra(&peer);
    assert_eq!(bank.probe().await.unwrap().result.unwrap().status, 200, "{}", peer.log());
    succeeds(&bank, "collaterals", &[]).await;
    succeeds(&bank, "collaterals", &[("top", "100"), ("startingIndex", "200")]).await;
    succeeds(&bank, "collateral", &[("id", "col-1")]).await;
    // Four of each, and the token.
    assert_eq!(validation(&peer), (vec![], 9), "{}", peer.log());
}

#[tokio::test]
async fn an_invalid_parameter_is_found() {
    let peer = prism().await;
    let bank = mono(&peer);
    let window = [("accountId", "acc1"), ("start", "2026-10-01"), ("end", "31-10-2026")];
    let refused = call_operation(&bank, "transactions", &window).await.unwrap();
    assert_eq!(refused.status, 422);
    let mut misspelt = operation_request(&finastra(&peer), "collaterals", &[]);
    misspelt.query.retain(|(name, _)| name != "pageSize");
    assert_eq!(finastra(&peer).call(misspelt.with_query("page_size", "500")).await.unwrap().status, 422);

    let (violations, _) = validation(&peer);
    let found = |word: &str| violations.iter().any(|line| line.contains(word));
    assert!(violations.len() == 2 && found("start") && found("pagesize"), "{violations:?}");
}

#[tokio::test]
async fn a_missing_credential_is_found() {
    let peer = prism().await;
    let mut without = peer_draft("mono", format!("{}/v2", peer.base()), &[], &[("api-key", KEY)]);
    without.auth = Auth::None;
    let refused = call_operation(&connect(without), "accounts", &[]).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.classification.class), (401, ResponseClass::Auth));
    assert_eq!(validation(&peer).0.len(), 1, "{}", peer.log());
}

/// Runs one stream of the connection's profile into a ledger of its own.
async fn run_stream(connection: &Arc<Connection>, stream: &str, parameters: &[(&str, &str)]) -> (JobView, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let env = SyncEnv::open(&dir.path().join("ledger.db")).await;
    let settings = connection.settings();
    let partition = Partition { name: String::new(), parameters: texts(parameters) };
    let plan = stream_plan(settings.profile(), stream, vec![partition]);
    // One rejected record fails the run.
    let plan = Arc::new(SyncPlan { dead_letter_budget_percent: 0, ..plan });
    (env.run(&plan, connection).await, dir)
}

#[tokio::test]
async fn the_finastra_stream_sends_what_the_document_allows() {
    let peer = prism().await;
    let (job, _dir) = run_stream(&finastra(&peer), "collaterals", &[]).await;
    assert_eq!(job.last[0].result, Some(RunResult::Succeeded), "{:?}\n{}", job.last_outcome, peer.log());
    assert_eq!((job.last[0].counts.inserted, job.last[0].counts.rejected), (1, 0));
    let (violations, passed) = validation(&peer);
    assert!(violations.is_empty() && passed >= 2, "the token and a page: {violations:?}, {passed}");
}

#[tokio::test]
async fn the_mono_stream_sends_what_the_document_allows() {
    let peer = prism().await;
    let (job, _dir) = run_stream(&mono(&peer), "transactions", &[("accountId", "acc1")]).await;
    assert_eq!(job.last[0].result, Some(RunResult::Succeeded), "{:?}\n{}", job.last_outcome, peer.log());
    assert_eq!((job.last[0].counts.inserted, job.last[0].counts.rejected), (2, 0));
    let (violations, passed) = validation(&peer);
    assert!(violations.is_empty() && passed >= 2, "{violations:?}, {passed}");
}
