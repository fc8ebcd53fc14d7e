//! Ten thousand random decisions, made twice in each of two processes, one for each ledger: the same bytes, and the same
//! again for the processes that replay them.

use std::process::Stdio;
use std::sync::Arc;

use busbar::domain::decision::{Ask, DecisionRecord, NotDecided, replay};
use busbar::ledger::decisions::{ChainEntry, DecisionBatch, EncodedSnapshot, EntryOutcome, NewDecision, NewEntry};
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use tokio::process::Command;

use super::env::{Engine, audit};
use super::random_pairs::{Pair, Pairs};

/// The argument of the child process: the seed and the ledger, separated by `|`.
const CHILD: &str = "BUSBAR_TEST_RANDOM_DECISIONS";
const PAIRS: u64 = 10_000;
/// Decisions of one transaction.
const BATCH: usize = 256;
/// Records of one read.
const PAGE: u32 = 2_000;

/// The record of a pair, made twice; `None` if no bank is available.
fn decided(pair: &Pair) -> Option<NewDecision> {
    let Pair { request, snapshot, usage, now } = pair;
    let ask = Ask { request, request_id: None, snapshot, subject: "random", usage };
    let (once, again) = (DecisionRecord::decide(&ask, *now), DecisionRecord::decide(&ask, *now));
    assert_eq!(once, again);
    let record = match once {
        Ok(decided) => decided.record,
        Err(NotDecided::NoRoute(_)) => return None,
        Err(other) => panic!("{other}"),
    };
    let body = record.encode();
    assert_eq!(DecisionRecord::decode(&body).unwrap().encode(), body, "read and written again it is the same");
    replay(&record, &snapshot.snapshot).unwrap();
    Some(NewDecision {
        key: request.key(),
        request_hash: request.hash(),
        record: Arc::new(record),
        body,
        route: snapshot.snapshot.route.clone(),
        limit: None,
        snapshot: Arc::new(EncodedSnapshot { id: snapshot.id, body: snapshot.bytes.clone() }),
    })
}

#[tokio::test]
#[ignore = "the child process of the test below"]
#[expect(clippy::disallowed_methods, reason = "how the parent passes arguments to this process")]
async fn a_child_process_that_decides_random_pairs() {
    let Ok(argument) = std::env::var(CHILD) else { return };
    let (seed, url) = argument.split_once('|').unwrap();
    let mut pairs = Pairs::new(seed.parse().unwrap());
    let ledger = ledger::open(&url.parse::<LedgerUrl>().unwrap(), OpenMode::Migrate).await.unwrap();
    let mut batch = Vec::new();
    for number in 0..PAIRS {
        batch.extend(decided(&pairs.draw()).map(|new| NewEntry::Decision(Box::new(new))));
        if batch.len() >= BATCH || number + 1 == PAIRS {
            let entries = std::mem::take(&mut batch);
            let outcomes = ledger.commit_decisions(Arc::new(DecisionBatch { entries })).await.unwrap();
            assert!(outcomes.iter().all(|outcome| matches!(outcome, EntryOutcome::Stored(_))), "{outcomes:?}");
        }
    }
    ledger.close().await;
}

/// All of the chain.
async fn chain(ledger: &dyn Ledger) -> Vec<ChainEntry> {
    let mut all: Vec<ChainEntry> = Vec::new();
    loop {
        let page = ledger.chain(all.last().map_or(0, |entry| entry.seq), PAGE).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_decisions_have_the_same_bytes_in_two_processes_and_ledgers() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let mut chains = Vec::new();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let url = engine.create(folder.path()).await;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "decisions::determinism::a_child_process_that_decides_random_pairs", "--ignored"])
            .env(CHILD, format!("{seed}|{url}"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        assert!(child.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&child.stdout));
        let ledger = ledger::open(&url.parse::<LedgerUrl>().unwrap(), OpenMode::Migrate).await.unwrap();
        let (head, entries) = (ledger.chain_head().await.unwrap(), chain(&*ledger).await);
        ledger.close().await;
        assert_eq!(entries.len() as u64, head.seq, "seed {seed}");
        assert!(head.seq > PAIRS / 2, "seed {seed}: most pairs have a bank: {}", head.seq);
        let replayed = audit("replay", &url).await.ok();
        let wanted = format!("audit replayed: {} decisions from ", head.seq);
        assert!(replayed.starts_with(&wanted) && replayed.ends_with(", 0 mismatches\n"), "seed {seed}: {replayed}");
        assert!(audit("verify", &url).await.success(), "seed {seed}");
        chains.push((head, entries));
    }
    let [(one_head, one), (other_head, other)] = <[_; 2]>::try_from(chains).unwrap();
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other, "seed {seed}");
    }
    assert_eq!((one_head, one.len()), (other_head, other.len()), "seed {seed}");
}
