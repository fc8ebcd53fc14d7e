//! A process that decides and is killed under load: every decision that was answered is in the audit, and the chain
//! verifies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use busbar::domain::canonical::hex;
use busbar::domain::decision::AttemptKey;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::env::{Engine, audit};
use crate::kit::decision_server::{DECIDE, NAMESPACE, RunningDecisions, TOKEN, body};
use crate::kit::http::client;
use crate::kit::wait::eventually;

/// The argument of the child process: the ledger and the file for its address, separated by `|`.
const CHILD: &str = "BUSBAR_TEST_DECISION_SERVER";
const KILLS: u64 = 8;
/// Callers that ask at the same time.
const CALLERS: u64 = 24;

/// What was answered: the decision's ID, its bank, its number and its hash, by payout.
type Answers = BTreeMap<String, [String; 4]>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child process of the tests below"]
#[expect(clippy::disallowed_methods, reason = "how the parent passes arguments to this process")]
async fn a_child_process_that_decides_until_it_is_killed() {
    let Ok(argument) = std::env::var(CHILD) else { return };
    let (url, announce) = argument.split_once('|').unwrap();
    let ledger = ledger::open(&url.parse::<LedgerUrl>().unwrap(), OpenMode::Migrate).await.unwrap();
    let service = RunningDecisions::start(&ledger);
    let address = service.serve(&ledger, TcpListener::bind("127.0.0.1:0").await.unwrap(), None);
    std::fs::write(format!("{announce}.tmp"), address.to_string()).unwrap();
    std::fs::rename(format!("{announce}.tmp"), announce).unwrap();
    std::future::pending::<()>().await;
}

fn start(ledger: &str, announce: &Path) -> Child {
    let _ = std::fs::remove_file(announce);
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "decisions::kill::a_child_process_that_decides_until_it_is_killed", "--ignored"])
        .env(CHILD, format!("{ledger}|{}", announce.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The facts of an answered decision.
fn facts(answer: &Value) -> [String; 4] {
    let data = &answer["data"];
    ["decision_id", "candidate", "seq", "hash"].map(|field| match &data[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

/// Asks for decisions until the server is gone; returns what was answered, and the payout whose answer is missing.
async fn ask_until_it_is_gone(
    address: SocketAddr,
    numbers: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
) -> (Answers, String) {
    let (http, mut answers) = (client(), Answers::new());
    loop {
        let payout = format!("payout-{}", numbers.fetch_add(1, Ordering::Relaxed));
        let Some(answer) = ask(&http, address, &payout).await else { return (answers, payout) };
        answers.insert(payout, facts(&answer));
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// One decision; `None` if the server was gone before the answer was whole.
async fn ask(http: &reqwest::Client, address: SocketAddr, payout: &str) -> Option<Value> {
    let url = format!("http://{address}{DECIDE}");
    let request = http.post(url).bearer_auth(TOKEN).header("content-type", "application/json");
    let answer = request.body(body(payout).to_string()).send().await.ok()?;
    let (status, text) = (answer.status(), answer.text().await.ok()?);
    assert_eq!(status.as_u16(), 200, "{text}");
    Some(serde_json::from_str(&text).unwrap())
}

async fn address(announce: &Path) -> SocketAddr {
    eventually("the server listens", async || std::fs::read_to_string(announce).ok()?.parse().ok()).await
}

#[expect(clippy::print_stdout, reason = "the seed reproduces a failure")]
async fn every_answered_decision_is_kept(engine: Engine) {
    let seed: u64 = rand::random();
    println!("{engine:?}: seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let (ledger, announce) = (engine.create(folder.path()).await, folder.path().join("address"));
    let (numbers, mut answers, mut unanswered) = (Arc::new(AtomicU64::new(0)), Answers::new(), Vec::new());
    for _ in 0..KILLS {
        let mut child = start(&ledger, &announce);
        let (address, answered) = (address(&announce).await, Arc::new(AtomicU64::new(0)));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(ask_until_it_is_gone(address, Arc::clone(&numbers), Arc::clone(&answered)));
        }
        let target = rng.random_range(1..400);
        eventually("so many decisions are answered", async || answered.load(Ordering::Relaxed) >= target).await;
        child.kill().await.unwrap();
        for (ended, missing) in callers.join_all().await {
            answers.extend(ended);
            unanswered.push(missing);
        }
    }

    // What was asked and not answered is asked again: it is decided now, or was and is answered as it was.
    let mut child = start(&ledger, &announce);
    let (address, http) = (address(&announce).await, client());
    let mut replayed = 0;
    for payout in unanswered {
        let answer = ask(&http, address, &payout).await.expect("the server runs");
        replayed += u64::from(answer["data"]["replayed"] == true);
        answers.insert(payout, facts(&answer));
    }
    child.kill().await.unwrap();
    println!(
        "{engine:?}: {} decisions, {replayed} of them stored and not answered when a process was killed",
        answers.len()
    );

    let opened = ledger::open(&ledger.parse::<LedgerUrl>().unwrap(), OpenMode::Migrate).await.unwrap();
    for (payout, [id, bank, seq, hash]) in &answers {
        let key = AttemptKey { namespace: NAMESPACE.to_owned(), payout_id: payout.clone(), attempt_no: 1 };
        let stored = opened.decision_by_key(&key).await.unwrap();
        let stored = stored.unwrap_or_else(|| panic!("seed {seed}: {payout} was answered and is not in the audit"));
        let found = [stored.id.to_string(), stored.candidate, stored.seq.to_string(), hex(&stored.hash)];
        assert_eq!(&found, &[id.clone(), bank.clone(), seq.clone(), hash.clone()], "seed {seed}: {payout}");
    }
    opened.close().await;
    let verified = audit("verify", &ledger).await.ok();
    let all = format!("audit verified: {} records, {} of them decisions; ", answers.len(), answers.len());
    assert!(verified.starts_with(&all), "seed {seed}: {verified}");
    let replay = audit("replay", &ledger).await.ok();
    assert!(replay.starts_with(&format!("audit replayed: {} decisions ", answers.len())), "seed {seed}: {replay}");
    assert!(replay.ends_with(", 0 mismatches\n"), "seed {seed}: {replay}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_answered_before_a_kill_is_in_sqlite() {
    every_answered_decision_is_kept(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_answered_before_a_kill_is_in_postgresql() {
    every_answered_decision_is_kept(Engine::Postgres).await;
}
