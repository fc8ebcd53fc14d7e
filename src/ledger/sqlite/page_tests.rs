//! The page transaction and the leases, on a real file.

use std::path::PathBuf;
use std::task::Poll;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ledger::{
    Booked, DeadLetter, Granularity, KeyQuality, PageCounts, RowStatus, RunId, StreamKey, TransactionRecord, Window,
    WindowKind,
};

pub(super) const TTL: Duration = Duration::from_secs(15);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(super) fn run_id(n: u128) -> RunId {
    RunId(Uuid::from_u128(n))
}

pub(super) fn job(name: &str, partition: &str) -> JobKey {
    JobKey {
        stream: StreamKey {
            namespace: "team".into(),
            connection: "bank-a".into(),
            provider: "mono".into(),
            environment: "Sandbox".into(),
            stream: "transactions".into(),
            partition: partition.into(),
        },
        job: name.into(),
    }
}

pub(super) fn row(key: &str, minor: i64) -> TransactionRecord {
    TransactionRecord {
        account_token: "t1".into(),
        key: key.into(),
        key_quality: KeyQuality::Provider,
        account: "****1234".into(),
        booked: Booked {
            on: jiff::civil::date(2026, 9, 1),
            at: None,
            text: "2026-09-01".into(),
            granularity: Granularity::Day,
        },
        amount: rust_decimal::Decimal::new(minor, 2),
        amount_minor: minor.into(),
        currency: "NGN".into(),
        status: RowStatus::Booked,
        counterparty: None,
        narration: Some("POS".into()),
        category: None,
    }
}

fn letter(fingerprint: &str) -> DeadLetter {
    DeadLetter {
        reason: "AmountMissing",
        path: "/amount".into(),
        sample: "{}".into(),
        fingerprint: fingerprint.into(),
        index: 0,
        page_no: 1,
    }
}

pub(super) async fn fresh() -> (tempfile::TempDir, PathBuf, SqliteLedger) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = SqliteLedger::open(&path).await.unwrap();
    (dir, path, ledger)
}

pub(super) async fn lease(ledger: &SqliteLedger, holder: &str, now: Timestamp) -> Lease {
    ledger.acquire_lease("job", holder, TTL, now, None).await.unwrap().unwrap()
}

fn state(version: i64, token: &str) -> CursorState {
    CursorState {
        version,
        spec_hash: "h".into(),
        committed_hwm: None,
        window: Some(Window {
            kind: WindowKind::Incremental,
            from: "2026-09-01".into(),
            to: "2026-09-02".into(),
            page_no: 1,
            page_token: Some(token.into()),
            total: Some(7),
            candidate_hwm: Some("2026-09-01".into()),
            seen_tokens: vec!["a".into(), "b".into()],
            rows_in: 3,
            rows_dead: 1,
        }),
    }
}

async fn commit(
    ledger: &SqliteLedger,
    lease: &Lease,
    state: &CursorState,
    rows: &[TransactionRecord],
) -> Result<PageOutcome, LedgerError> {
    let job = job("books", "");
    ledger
        .commit_page(PageCommit {
            job: &job,
            lease,
            run: run_id(1),
            state,
            rows,
            documents: &[],
            dead: &[],
            fetched: rows.len() as u64,
            pages: 1,
            now: at(1),
        })
        .await
}

async fn count(ledger: &SqliteLedger) -> u64 {
    ledger.count_transactions(&TransactionFilter::default()).await.unwrap()
}

#[tokio::test]
async fn rows_and_cursor_survive_reopening() {
    let (_dir, path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    let done = commit(&ledger, &held, &state(0, "2"), &[row("a", 100), row("b", -250)]).await.unwrap();
    assert_eq!((done.version, done.counts.inserted), (1, 2));
    ledger.close().await;

    let ledger = SqliteLedger::open(&path).await.unwrap();
    let kept = ledger.load_state(&job("books", "")).await.unwrap().unwrap();
    assert_eq!(kept, CursorState { version: 1, ..state(0, "2") });
    let rows = ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    assert_eq!(rows.len(), 2);
    let b = rows.iter().find(|r| r.record.key == "b").unwrap();
    assert_eq!(b.record, row("b", -250), "every field comes back as it went in");
    assert_eq!((b.revision, b.created, b.record.amount.to_string().as_str()), (1, at(1), "-2.50"));
}

#[tokio::test]
async fn a_page_read_again_writes_nothing_and_an_edit_updates_one_row() {
    let (_dir, _path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    let many: Vec<_> = (0..123).map(|n| row(&format!("k{n}"), n)).collect();
    commit(&ledger, &held, &state(0, "2"), &many).await.unwrap();
    let again = commit(&ledger, &held, &state(1, "2"), &many).await.unwrap();
    assert_eq!(again.counts, PageCounts { inserted: 0, updated: 0, unchanged: 123 });
    let mut edited = many.clone();
    edited[77].amount_minor += 1;
    let edit = commit(&ledger, &held, &state(2, "2"), &edited).await.unwrap();
    assert_eq!(edit.counts, PageCounts { inserted: 0, updated: 1, unchanged: 122 });
    let rows = ledger.list_transactions(&TransactionFilter::default(), 500).await.unwrap();
    assert_eq!(rows.iter().filter(|r| r.revision == 2).count(), 1);
}

#[tokio::test]
async fn ids_are_case_sensitive_and_the_same_id_may_live_on_two_accounts() {
    let (_dir, _path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    let other = TransactionRecord { account_token: "t2".into(), ..row("a", 1) };
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1), row("A", 1), other]).await.unwrap();
    assert_eq!(count(&ledger).await, 3);
}

#[tokio::test]
async fn an_old_fence_cannot_write_and_leaves_nothing_behind() {
    let (_dir, _path, ledger) = fresh().await;
    let frozen = lease(&ledger, "one", at(0)).await;
    let view = ledger.acquire_lease("job", "two", TTL, at(14), None).await.unwrap().unwrap_err();
    assert_eq!((view.holder.as_str(), view.fence), ("one", 1));
    let taken = lease(&ledger, "two", at(15)).await;
    assert_eq!(taken.fence, 2);
    let error = commit(&ledger, &frozen, &state(0, "2"), &[row("a", 1)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    assert!(!ledger.renew_lease(&frozen, TTL, at(16)).await.unwrap());
    ledger.release_lease(&frozen).await.unwrap();
    assert_eq!(count(&ledger).await, 0);
    commit(&ledger, &taken, &state(0, "2"), &[row("a", 1)]).await.unwrap();
}

#[tokio::test]
async fn a_lease_watched_unchanged_may_be_taken_though_the_wall_clock_went_back() {
    let (_dir, _path, ledger) = fresh().await;
    lease(&ledger, "one", at(3600)).await;
    let seen = ledger.acquire_lease("job", "two", TTL, at(0), None).await.unwrap().unwrap_err();
    let taken = ledger.acquire_lease("job", "two", TTL, at(20), Some(seen.clone())).await.unwrap().unwrap();
    assert_eq!(taken.fence, seen.fence + 1);
    // What was watched is no longer what stands there.
    assert!(ledger.acquire_lease("job", "three", TTL, at(21), Some(seen)).await.unwrap().is_err());
    ledger.release_lease(&taken).await.unwrap();
    let next = ledger.acquire_lease("job", "three", TTL, at(22), None).await.unwrap().unwrap();
    assert_eq!(next.fence, taken.fence + 1, "a fence is never given out twice");
}

#[tokio::test]
async fn a_state_that_moved_on_refuses_the_page() {
    let (_dir, _path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    for stale in [1, 7] {
        let error = commit(&ledger, &held, &state(stale, "9"), &[row("x", 1)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::StateMoved { .. }), "no state yet, version {stale}: {error}");
    }
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    for stale in [0, 2] {
        let error = commit(&ledger, &held, &state(stale, "9"), &[row("x", 1)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::StateMoved { expected } if expected == stale), "{error}");
    }
    assert_eq!(count(&ledger).await, 1);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_looked_up() {
    let (_dir, _path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    let (job, state) = (job("books", ""), state(0, "2"));
    let page = PageCommit {
        job: &job,
        lease: &held,
        run: run_id(1),
        state: &state,
        rows: &[],
        documents: &[],
        dead: &[],
        fetched: 0,
        pages: 1,
        now: at(1),
    };
    let expected = PageOutcome { version: 1, counts: PageCounts::default() };
    let lost = || sqlx::Error::WorkerCrashed;
    assert!(ledger.find_out(&page, expected, lost()).await.is_err(), "it is not in");
    let outcome = ledger.commit_page(page.clone()).await.unwrap();
    assert_eq!(ledger.find_out(&page, outcome, lost()).await.unwrap(), expected, "it is in");
    ledger.writer.close().await;
    let error = ledger.find_out(&page, outcome, lost()).await.unwrap_err();
    assert!(matches!(error, LedgerError::CommitUnknown { .. }), "nobody knows");
}

#[tokio::test]
async fn a_full_disk_moves_no_cursor() {
    let (_dir, _path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1").execute(&ledger.writer).await.unwrap();
    let many: Vec<_> = (0..2_000).map(|n| row(&format!("k{n}"), n)).collect();
    let error = commit(&ledger, &held, &state(1, "3"), &many).await.unwrap_err();
    assert!(matches!(error, LedgerError::Storage { .. }) && error.is_transient(), "{error}");
    sqlx::query("PRAGMA max_page_count = 1000000").execute(&ledger.writer).await.unwrap();
    assert_eq!((ledger.load_state(&job("books", "")).await.unwrap().unwrap().version, count(&ledger).await), (1, 1));
    commit(&ledger, &held, &state(1, "3"), &many).await.unwrap();
}

#[tokio::test]
async fn a_bad_record_seen_again_is_one_dead_letter() {
    let (_dir, _path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    let (job, dead) = (job("books", ""), [letter("f1"), letter("f2")]);
    for version in 0..3 {
        let page = PageCommit {
            job: &job,
            lease: &held,
            run: run_id(1),
            state: &state(version, "2"),
            rows: &[],
            documents: &[],
            dead: &dead,
            fetched: 2,
            pages: 1,
            now: at(version),
        };
        ledger.commit_page(page).await.unwrap();
    }
    assert_eq!(ledger.count_dead_letters(&TransactionFilter::default()).await.unwrap(), 2);
}

#[tokio::test]
async fn a_reader_of_another_process_sees_committed_rows_and_cannot_write() {
    let (_dir, path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    let reader = SqliteLedger::open_read_only(&path).await.unwrap();
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    let filter = TransactionFilter {
        namespace: Some("team".into()),
        from: Some(jiff::civil::date(2026, 9, 1)),
        to: Some(jiff::civil::date(2026, 9, 1)),
        ..TransactionFilter::default()
    };
    assert_eq!(reader.count_transactions(&filter).await.unwrap(), 1);
    let later = TransactionFilter { from: Some(jiff::civil::date(2026, 9, 2)), ..filter };
    assert_eq!(reader.count_transactions(&later).await.unwrap(), 0);
    assert!(matches!(reader.release_lease(&held).await, Err(LedgerError::Storage { .. })));
    assert!(matches!(
        reader.acquire_lease("x", "y", TTL, at(0), None).await,
        Err(LedgerError::Storage { .. } | LedgerError::Query { .. })
    ));
}

#[tokio::test]
async fn a_file_without_our_schema_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.db");
    assert!(matches!(SqliteLedger::open_read_only(&path).await, Err(LedgerError::Open { .. })));
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(SqliteLedger::open_as(&path, OpenMode::Existing).await, Err(LedgerError::SchemaBehind)));
}

#[tokio::test]
async fn an_older_program_opens_a_newer_schema() {
    let (_dir, path, ledger) = fresh().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99991231000000, 'from the future', 1, x'00', 0)",
    )
    .execute(&ledger.writer)
    .await
    .unwrap();
    ledger.close().await;
    SqliteLedger::open(&path).await.unwrap().ping().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The commit's future is dropped after any number of its steps: the page is in with its cursor, or not at all.
    #[test]
    fn a_page_abandoned_at_any_step_is_in_entirely_or_not_at_all(polls in 1usize..40, rows in 1i64..160) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_dir, _path, ledger) = fresh().await;
            let held = lease(&ledger, "me", at(0)).await;
            let many: Vec<_> = (0..rows).map(|n| row(&format!("k{n}"), n)).collect();
            let first = state(0, "2");
            let mut page = Box::pin(commit(&ledger, &held, &first, &many));
            // Polled only when something happened, so that each step is one.
            let mut left = polls;
            futures::future::poll_fn(|cx| {
                let ended = page.as_mut().poll(cx).is_ready();
                left = left.saturating_sub(1);
                if ended || left == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            drop(page);
            let version = ledger.load_state(&job("books", "")).await.unwrap().map_or(0, |s| s.version);
            // The next writer goes on from whatever is true.
            let resumed = commit(&ledger, &held, &state(version, "3"), &many).await.unwrap();
            assert_eq!(resumed.counts.inserted, if version == 0 { many.len() as u64 } else { 0 });
            assert_eq!(count(&ledger).await, many.len() as u64);
        });
    }
}

#[tokio::test]
async fn the_newest_booking_is_listed_first_also_within_a_day() {
    let (_dir, _path, ledger) = fresh().await;
    let held = lease(&ledger, "me", at(0)).await;
    let booked = |key: &str, seconds: i64| {
        let mut record = row(key, 1);
        record.booked.at = Some(at(seconds));
        record.booked.granularity = Granularity::Instant;
        record
    };
    commit(&ledger, &held, &state(0, "2"), &[booked("new", 9), booked("old", 3), booked("mid", 6)]).await.unwrap();
    let rows = ledger.list_transactions(&TransactionFilter::default(), 2).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.record.key.as_str()).collect::<Vec<_>>(), ["new", "mid"]);
}
