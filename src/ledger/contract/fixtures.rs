//! Builders that the rules share.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::cursor::{CursorKey, CursorState, StreamKey, SyncWindow, stored_stream};
use crate::domain::key::ObjectKey;
use crate::domain::record::{BookingTime, Granularity, KeyQuality, RowStatus, TransactionRecord};
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::page::{CommitScope, PageCommit, PageOutcome};
use crate::ledger::record::TransactionFilter;
use crate::ledger::runs::RunId;
use crate::ledger::store::Ledger;

pub(crate) const TTL: Duration = Duration::from_secs(15);

/// An instant of the tests' wall clock.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(crate) fn run_id(n: u128) -> RunId {
    RunId(Uuid::from_u128(n))
}

/// The job that the tests run.
pub(crate) fn books() -> ObjectKey {
    ObjectKey::new("team", "books")
}

pub(crate) fn cursor_key(job: &str, partition: &str) -> CursorKey {
    CursorKey {
        stream: StreamKey {
            namespace: "team".into(),
            connection: "bank-a".into(),
            provider: "acme".into(),
            environment: "Sandbox".into(),
            stream: "transactions".into(),
            partition: partition.into(),
        },
        job: job.into(),
    }
}

/// The cursor of `job` in a source of the stream.
pub(crate) fn of_source(job: &str, source: &str) -> CursorKey {
    let key = cursor_key(job, "");
    let stream = stored_stream(&key.stream.stream, source);
    CursorKey { stream: StreamKey { stream, ..key.stream }, ..key }
}

pub(crate) fn row(key: &str, minor: i64) -> TransactionRecord {
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
        supersedes: None,
        valued: None,
    }
}

/// A cursor in an open window whose next page has `token`.
pub(crate) fn state(version: i64, token: &str) -> CursorState {
    CursorState {
        version,
        spec_hash: "h".into(),
        committed_hwm: None,
        earliest: None,
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

/// Acquires the lease `job`, which must be free.
pub(crate) async fn take(ledger: &dyn Ledger, holder: &str, now: Timestamp) -> Lease {
    take_named(ledger, "job", holder, now).await
}

/// Acquires the lease `name`, which must be free.
pub(crate) async fn take_named(ledger: &dyn Ledger, name: &str, holder: &str, now: Timestamp) -> Lease {
    ledger.acquire_lease(name, holder, TTL, now, None).await.unwrap().acquired().expect("the lease is free")
}

/// A page of `rows`; dead letters and documents are added by the caller.
pub(crate) fn page<'a>(
    cursor: &'a CursorKey,
    lease: &'a Lease,
    state: &'a CursorState,
    rows: &'a [TransactionRecord],
) -> PageCommit<'a> {
    PageCommit {
        cursor,
        lease,
        run: run_id(1),
        state,
        rows,
        documents: &[],
        records: &[],
        removed: &[],
        pending: None,
        scope: CommitScope::Page,
        dead_letters: &[],
        raw: None,
        events: None,
        replayed: None,
        fetched: rows.len() as u64,
        conflicting: 0,
        pages: 1,
        now: at(1),
    }
}

/// Commits a page of the job `books`.
pub(crate) async fn commit(
    ledger: &dyn Ledger,
    lease: &Lease,
    state: &CursorState,
    rows: &[TransactionRecord],
) -> Result<PageOutcome, LedgerError> {
    ledger.commit_page(page(&cursor_key("books", ""), lease, state, rows)).await
}

/// The number of transactions in the store.
pub(crate) async fn count(ledger: &dyn Ledger) -> u64 {
    ledger.count_transactions(&TransactionFilter::default()).await.unwrap()
}

/// An audit entry of the operator.
pub(crate) fn audit_entry(action: &str, second: i64) -> AuditEntry {
    AuditEntry {
        at: at(second),
        kind: AuditKind::DeadRequest,
        action: action.into(),
        subject: "busbar".into(),
        rights_profile: None,
        allowed: true,
        namespace: "ns".into(),
        connection: "bank-b".into(),
        provider: Some("bank-b".into()),
        purpose: None,
        reason: Some("timeout".into()),
        request_id: None,
        repeats: None,
    }
}
