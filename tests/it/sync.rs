//! Syncs against a simulated bank over real sockets, into a ledger file; one of them in a process that is killed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use busbar::domain::run_reason::RunReason;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{self, LedgerUrl, OpenMode, RunResult};
use busbar::provider::connection::Connection;
use busbar::settings::Auth;
use busbar::testbed::sim::{
    AccountConfig, BankConfig, BankHandle, Behaviour, Direction, FailurePoint, RequiredAuth, Script, ScriptStep, Sim,
    Transaction,
};

use crate::kit::banks::start_bank;
use crate::kit::connections::{connect, profile_draft, secret};
use crate::kit::sync_env::{SyncEnv, mono_plan};
use crate::kit::time::ManualTime;
use crate::kit::wait::eventually;

const KEY: &str = "canary-mono-key-not-real";

/// A minute apart, so that thousands fit the stream's reach.
fn account(id: &str, transactions: u64) -> AccountConfig {
    AccountConfig { spacing_seconds: 60, ..AccountConfig::new(id, transactions) }
}

/// A connection to the bank of Mono's kind there.
fn connect_mono(base_url: &str) -> Arc<Connection> {
    let mut draft = profile_draft("mono", format!("{base_url}/v2"));
    draft.auth =
        Auth::Profile { headers: vec![("mono-sec-key".to_owned(), secret(KEY))], query: vec![], body: Vec::new() };
    connect(draft)
}

async fn mono_bank(accounts: impl IntoIterator<Item = AccountConfig>) -> (Sim, BankHandle) {
    start_bank(BankConfig::mono("bank", KEY).accounts(accounts)).await
}

#[tokio::test]
async fn thousands_of_transactions_are_inserted_once_and_edits_update_them() {
    let (_sim, bank) = mono_bank([account("acc-1", 3_456), account("acc-2", 40)]).await;
    let dir = tempfile::tempdir().unwrap();
    let env = SyncEnv::open(&dir.path().join("ledger.db")).await;
    let (plan, connection) = (mono_plan(&["acc-1", "acc-2"]), connect_mono(&bank.base_url()));

    let first = env.run(&plan, &connection).await;
    assert_eq!(first.last[0].result, Some(RunResult::Succeeded), "{:?}", first.last_outcome);
    assert_eq!(
        (first.last[0].counts.inserted, first.last[0].counts.rejected, env.row_count().await),
        (3_496, 0, 3_496)
    );
    let again = env.run(&plan, &connection).await;
    assert_eq!((again.last[0].counts.inserted, again.last[0].counts.updated), (0, 0));

    let rows = env.ledger.list_transactions(&TransactionFilter::default(), 1).await.unwrap();
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
    let third = env.run(&plan, &connection).await;
    assert_eq!((third.last[0].counts.inserted, third.last[0].counts.updated), (1, 1));
    let today = TransactionFilter { partition: Some(id.to_owned()), ..TransactionFilter::default() };
    let rows = env.ledger.list_transactions(&today, 5_000).await.unwrap();
    let corrected: Vec<_> = rows.iter().filter(|row| row.record.amount.to_string() == "42.00").collect();
    assert_eq!(corrected.len(), 2);

    let arrivals = bank.arrivals();
    assert!(arrivals.entries.iter().all(|arrival| arrival.status == Some(200)), "no link was followed unchecked");
    assert!(!env.metrics.render().unwrap().contains("acc-"), "no account in a label");
}

/// `text` with its ASCII digits replaced by those of the script that begins with `zero`.
fn in_digits(zero: char, text: &str) -> String {
    let digit = |c: char| c.to_digit(10).and_then(|value| char::from_u32(u32::from(zero) + value)).unwrap_or(c);
    text.chars().map(digit).collect()
}

#[tokio::test]
async fn numbers_in_digits_of_any_script_are_masked_before_they_are_stored() {
    let (_sim, bank) = mono_bank([account("acc-1", 1)]).await;
    let dir = tempfile::tempdir().unwrap();
    let env = SyncEnv::open(&dir.path().join("ledger.db")).await;
    let (plan, connection) = (mono_plan(&["acc-1"]), connect_mono(&bank.base_url()));
    env.run(&plan, &connection).await;
    let date =
        env.ledger.list_transactions(&TransactionFilter::default(), 1).await.unwrap()[0].record.booked.at.unwrap();
    // Full-width, Arabic, Devanagari, Bengali and mathematical digits.
    let scripts = ['0', '\u{ff10}', '\u{660}', '\u{966}', '\u{9e6}', '\u{1d7ce}'];
    let sent = scripts.iter().enumerate().map(|(number, zero)| Transaction {
        id: format!("script-{number}"),
        narration: in_digits(*zero, "TRF 0131883461 of 2026-09-01 and 4000 0000 0000 0002"),
        amount: 100,
        direction: Direction::Credit,
        balance: 0,
        date,
        category: None,
    });
    assert!(bank.put_transactions("acc-1", sent.collect()));
    env.run(&plan, &connection).await;
    let rows = env.ledger.list_transactions(&TransactionFilter::default(), 100).await.unwrap();
    for (number, zero) in scripts.iter().enumerate() {
        let row = rows.iter().find(|row| row.record.key == format!("script-{number}")).unwrap();
        let want = in_digits(*zero, "TRF ****3461 of 2026-09-01 and ****0002");
        assert_eq!(row.record.narration.as_deref(), Some(want.as_str()));
    }
}

#[tokio::test]
async fn a_run_after_a_failed_one_resumes_at_its_cursor() {
    let time = ManualTime::start();
    let (_sim, bank) = mono_bank([account("acc-1", 1_000)]).await;
    let dir = tempfile::tempdir().unwrap();
    let env = SyncEnv::open(&dir.path().join("ledger.db")).await;
    let (plan, connection) = (mono_plan(&["acc-1"]), connect_mono(&bank.base_url()));
    let down_after = |requests| {
        Script::sequence([
            ScriptStep::from(Behaviour::Healthy).times(requests),
            ScriptStep::from(Behaviour::status(503)),
        ])
    };
    bank.set_script(down_after(4)).await.unwrap();
    // Its retries wait for seconds.
    let view = time.run(Duration::from_millis(500), env.run(&plan, &connection)).await;
    let outcome = view.last_outcome.unwrap().report;
    assert_eq!((outcome.result, outcome.reason), (RunResult::Failed, Some(RunReason::ProviderError)));
    assert_eq!((outcome.http_status, view.failure_streak, view.last[0].counts.inserted), (Some(503), 1, 300));
    bank.recover().await;
    let view = env.run(&plan, &connection).await;
    assert_eq!((view.last[0].result, view.failure_streak), (Some(RunResult::Succeeded), 0));
    assert_eq!((view.last[0].counts.inserted, env.row_count().await), (700, 1_000));
}

/// The variable that turns the ignored test below into a process to be killed.
const CHILD: &str = "BUSBAR_TEST_SYNC_CHILD";

#[tokio::test]
#[ignore = "the process that the next test kills"]
#[expect(clippy::disallowed_methods, reason = "how the parent passes arguments to this process")]
async fn a_child_process_that_syncs_until_it_is_killed() {
    let Ok(argument) = std::env::var(CHILD) else { return };
    let (path, base_url) = argument.split_once('|').unwrap();
    SyncEnv::open(Path::new(path)).await.run(&mono_plan(&["acc-1"]), &connect_mono(base_url)).await;
}

#[tokio::test]
async fn a_process_killed_between_two_pages_loses_and_duplicates_nothing() {
    let (_sim, bank) = mono_bank([account("acc-1", 2_000)]).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    // Makes the file, so that a reader can watch it from the start.
    SyncEnv::open(&path).await.ledger.close().await;
    let watch = ledger::open(&LedgerUrl::Sqlite(path.clone()), OpenMode::ReadOnly).await.unwrap();
    let all = TransactionFilter::default();
    for target in [1, 400, 700, 1_300] {
        // A child that is not killed in time hangs after a few pages more, so that it is killed in the middle anyway.
        let committed = watch.count_transactions(&all).await.unwrap();
        let pages = ScriptStep::slow(Duration::from_millis(15)).times((target - committed) / 100 + 4);
        bank.set_script(Script::sequence([pages, Behaviour::Stall(FailurePoint::BeforeHead).into()])).await.unwrap();
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "sync::a_child_process_that_syncs_until_it_is_killed",
                "--ignored",
                "--test-threads",
                "1",
            ])
            .env(CHILD, format!("{}|{}", path.display(), bank.base_url()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("the child has written so many rows", async || {
            let rows = watch.count_transactions(&all).await.unwrap();
            if rows >= target { Ok(()) } else { Err(rows) }
        })
        .await;
        child.kill().await.unwrap();
    }
    let killed = watch.count_transactions(&all).await.unwrap();
    assert!((1_300..2_000).contains(&killed), "it was killed in the middle: {killed}");

    bank.recover().await;
    let env = SyncEnv::open(&path).await;
    let view = env.run(&mono_plan(&["acc-1"]), &connect_mono(&bank.base_url())).await;
    assert_eq!(view.last[0].result, Some(RunResult::Succeeded));
    let rows = env.ledger.list_transactions(&all, 10_000).await.unwrap();
    assert_eq!(rows.len(), 2_000);
    assert!(rows.iter().all(|row| row.revision == 1));
    let results: Vec<_> = view.last.iter().skip(1).map(|run| run.result.unwrap()).collect();
    assert_eq!(results, [RunResult::Interrupted; 4]);
    let inserted: u64 = view.last.iter().map(|run| run.counts.inserted).sum();
    assert_eq!(inserted, 2_000, "killed runs counted exactly what they committed");
}

#[tokio::test]
async fn a_run_with_rejected_credentials_stores_no_credential() {
    let (_sim, bank) = mono_bank([account("acc-1", 10)]).await;
    bank.set_auth(&RequiredAuth::mono("canary-rotated-key-not-real")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let env = SyncEnv::open(&dir.path().join("ledger.db")).await;
    let view = env.run(&mono_plan(&["acc-1"]), &connect_mono(&bank.base_url())).await;
    assert_eq!(view.last[0].reason, Some(RunReason::AuthenticationFailed));
    env.pool.close().await;
    env.ledger.close().await;
    let bytes = std::fs::read(dir.path().join("ledger.db")).unwrap();
    assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
}
