//! Page transaction and lease tests on a real file.

use std::path::PathBuf;
use std::task::Poll;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::rejection_reason::RejectionReason;
use crate::ledger::{
    BookingTime, DeadLetter, Granularity, KeyQuality, PageCounts, RowStatus, RunId, StreamKey, SyncWindow,
    TransactionRecord,
};

pub(super) const TTL: Duration = Duration::from_secs(15);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(super) fn run_id(n: u128) -> RunId {
    RunId(Uuid::from_u128(n))
}

pub(super) fn cursor_key(name: &str, partition: &str) -> CursorKey {
    CursorKey {
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
        booked: BookingTime {
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
        reason: RejectionReason::AmountMissing,
        path: "/amount".into(),
        sample: "{}".into(),
        fingerprint: fingerprint.into(),
        index: 0,
        page_no: 1,
    }
}

pub(super) async fn new_ledger() -> (tempfile::TempDir, PathBuf, SqliteLedger) {
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
        window: Some(SyncWindow {
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
    let key = cursor_key("books", "");
    ledger
        .commit_page(PageCommit {
            cursor: &key,
            lease,
            run: run_id(1),
            state,
            rows,
            documents: &[],
            dead_letters: &[],
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
    let (_dir, path, ledger) = new_ledger().await;
    let held = lease(&ledger, "me", at(0)).await;
    let done = commit(&ledger, &held, &state(0, "2"), &[row("a", 100), row("b", -250)]).await.unwrap();
    assert_eq!((done.version, done.counts.inserted), (1, 2));
    ledger.close().await;

    let ledger = SqliteLedger::open(&path).await.unwrap();
    let loaded = ledger.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap();
    assert_eq!(loaded, CursorState { version: 1, ..state(0, "2") });
    let rows = ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    assert_eq!(rows.len(), 2);
    let b = rows.iter().find(|r| r.record.key == "b").unwrap();
    assert_eq!(b.record, row("b", -250), "every field is read back unchanged");
    assert_eq!((b.revision, b.created, b.record.amount.to_string().as_str()), (1, at(1), "-2.50"));
}

#[tokio::test]
async fn a_repeated_page_writes_nothing_and_an_edit_updates_one_row() {
    let (_dir, _path, ledger) = new_ledger().await;
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
async fn ids_are_case_sensitive_and_scoped_to_the_account() {
    let (_dir, _path, ledger) = new_ledger().await;
    let held = lease(&ledger, "me", at(0)).await;
    let other = TransactionRecord { account_token: "t2".into(), ..row("a", 1) };
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1), row("A", 1), other]).await.unwrap();
    assert_eq!(count(&ledger).await, 3);
}

#[tokio::test]
async fn an_old_fence_cannot_write() {
    let (_dir, _path, ledger) = new_ledger().await;
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
async fn a_stale_lease_can_be_acquired_after_the_wall_clock_went_back() {
    let (_dir, _path, ledger) = new_ledger().await;
    lease(&ledger, "one", at(3600)).await;
    let seen = ledger.acquire_lease("job", "two", TTL, at(0), None).await.unwrap().unwrap_err();
    let taken = ledger.acquire_lease("job", "two", TTL, at(20), Some(seen.clone())).await.unwrap().unwrap();
    assert_eq!(taken.fence, seen.fence + 1);
    // The observed lease is no longer the stored one.
    assert!(ledger.acquire_lease("job", "three", TTL, at(21), Some(seen)).await.unwrap().is_err());
    ledger.release_lease(&taken).await.unwrap();
    let next = ledger.acquire_lease("job", "three", TTL, at(22), None).await.unwrap().unwrap();
    assert_eq!(next.fence, taken.fence + 1, "a fence is never issued twice");
}

#[tokio::test]
async fn a_stale_cursor_version_rejects_the_page() {
    let (_dir, _path, ledger) = new_ledger().await;
    let held = lease(&ledger, "me", at(0)).await;
    for stale in [1, 7] {
        let error = commit(&ledger, &held, &state(stale, "9"), &[row("x", 1)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::VersionConflict { .. }), "no cursor yet, version {stale}: {error}");
    }
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    for stale in [0, 2] {
        let error = commit(&ledger, &held, &state(stale, "9"), &[row("x", 1)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::VersionConflict { expected } if expected == stale), "{error}");
    }
    assert_eq!(count(&ledger).await, 1);
}

#[tokio::test]
async fn the_outcome_of_an_unacknowledged_commit_is_read_back() {
    let (_dir, _path, ledger) = new_ledger().await;
    let held = lease(&ledger, "me", at(0)).await;
    let (key, state) = (cursor_key("books", ""), state(0, "2"));
    let page = PageCommit {
        cursor: &key,
        lease: &held,
        run: run_id(1),
        state: &state,
        rows: &[],
        documents: &[],
        dead_letters: &[],
        fetched: 0,
        pages: 1,
        now: at(1),
    };
    let expected = PageOutcome { version: 1, counts: PageCounts::default() };
    let connection_lost = || sqlx::Error::WorkerCrashed;
    assert!(ledger.resolve_commit(&page, expected, connection_lost()).await.is_err(), "it is not committed");
    let outcome = ledger.commit_page(page.clone()).await.unwrap();
    assert_eq!(ledger.resolve_commit(&page, outcome, connection_lost()).await.unwrap(), expected, "it is committed");
    ledger.writer.close().await;
    let error = ledger.resolve_commit(&page, outcome, connection_lost()).await.unwrap_err();
    assert!(matches!(error, LedgerError::CommitUnknown { .. }), "unknown");
}

#[tokio::test]
async fn a_full_disk_does_not_advance_the_cursor() {
    let (_dir, _path, ledger) = new_ledger().await;
    let held = lease(&ledger, "me", at(0)).await;
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1").execute(&ledger.writer).await.unwrap();
    let many: Vec<_> = (0..2_000).map(|n| row(&format!("k{n}"), n)).collect();
    let error = commit(&ledger, &held, &state(1, "3"), &many).await.unwrap_err();
    assert!(matches!(error, LedgerError::Storage { .. }) && error.is_transient(), "{error}");
    sqlx::query("PRAGMA max_page_count = 1000000").execute(&ledger.writer).await.unwrap();
    assert_eq!(
        (ledger.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap().version, count(&ledger).await),
        (1, 1)
    );
    commit(&ledger, &held, &state(1, "3"), &many).await.unwrap();
}

#[tokio::test]
async fn a_rejected_record_read_again_is_one_dead_letter() {
    let (_dir, _path, ledger) = new_ledger().await;
    let held = lease(&ledger, "me", at(0)).await;
    let (key, dead_letters) = (cursor_key("books", ""), [letter("f1"), letter("f2")]);
    for version in 0..3 {
        let page = PageCommit {
            cursor: &key,
            lease: &held,
            run: run_id(1),
            state: &state(version, "2"),
            rows: &[],
            documents: &[],
            dead_letters: &dead_letters,
            fetched: 2,
            pages: 1,
            now: at(version),
        };
        ledger.commit_page(page).await.unwrap();
    }
    assert_eq!(ledger.count_dead_letters(&TransactionFilter::default()).await.unwrap(), 2);
}

#[tokio::test]
async fn a_read_only_ledger_sees_committed_rows_and_cannot_write() {
    let (_dir, path, ledger) = new_ledger().await;
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
async fn a_file_without_the_schema_is_reported_as_outdated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.db");
    assert!(matches!(SqliteLedger::open_read_only(&path).await, Err(LedgerError::Open { .. })));
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(SqliteLedger::open_as(&path, OpenMode::Existing).await, Err(LedgerError::SchemaOutdated)));
}

#[tokio::test]
async fn an_older_version_opens_a_newer_schema() {
    let (_dir, path, ledger) = new_ledger().await;
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

    /// The commit's future is dropped after any number of steps: page and cursor are committed together or not at all.
    #[test]
    fn a_commit_dropped_at_any_step_is_complete_or_absent(polls in 1usize..40, rows in 1i64..160) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_dir, _path, ledger) = new_ledger().await;
            let held = lease(&ledger, "me", at(0)).await;
            let many: Vec<_> = (0..rows).map(|n| row(&format!("k{n}"), n)).collect();
            let first = state(0, "2");
            let mut page = Box::pin(commit(&ledger, &held, &first, &many));
            // Polled only on wake-up, so that each poll is one step.
            let mut left = polls;
            futures::future::poll_fn(|cx| {
                let ended = page.as_mut().poll(cx).is_ready();
                left = left.saturating_sub(1);
                if ended || left == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            drop(page);
            let version = ledger.load_cursor(&cursor_key("books", "")).await.unwrap().map_or(0, |s| s.version);
            // The next writer continues from the stored version.
            let resumed = commit(&ledger, &held, &state(version, "3"), &many).await.unwrap();
            assert_eq!(resumed.counts.inserted, if version == 0 { many.len() as u64 } else { 0 });
            assert_eq!(count(&ledger).await, many.len() as u64);
        });
    }
}

#[tokio::test]
async fn transactions_are_listed_newest_first_within_a_day() {
    let (_dir, _path, ledger) = new_ledger().await;
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
