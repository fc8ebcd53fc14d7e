//! The contract on SQLite files, and what only this engine has: its file, its schema and its failures.

mod simulated_payouts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::codec::{OperationName, get};
use super::database::SqliteLedger;
use crate::domain::key::ObjectKey;
use crate::ledger::audit::Audit as _;
use crate::ledger::contract::{
    OpenLedger, at, audit_entry, commit, count, cursor_key, ledger_contract, payout_fixtures, row, state, take,
};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::LeaseStore as _;
use crate::ledger::probes::ProbeResult;
use crate::ledger::store::{Ledger, OpenMode};

/// A file in a folder of its own.
pub(crate) struct SqliteStore {
    folder: tempfile::TempDir,
}

impl SqliteStore {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub(super) async fn ledger(&self, mode: OpenMode) -> Result<SqliteLedger, LedgerError> {
        SqliteLedger::open(&self.path(), mode).await
    }
}

impl OpenLedger for SqliteStore {
    async fn create() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, mode: OpenMode) -> Result<Arc<dyn Ledger>, LedgerError> {
        Ok(Arc::new(self.ledger(mode).await?))
    }
}

ledger_contract!(SqliteStore);

pub(super) async fn new_ledger() -> (SqliteStore, SqliteLedger) {
    let store = SqliteStore::create().await;
    let ledger = store.ledger(OpenMode::Migrate).await.unwrap();
    (store, ledger)
}

pub(super) async fn execute(ledger: &SqliteLedger, sql: &str) -> Result<(), LedgerError> {
    let sql = sql.to_owned();
    ledger.write(TESTING, move |tx| tx.execute_batch(&sql)).await
}

pub(super) const TESTING: OperationName = OperationName("testing");

#[tokio::test]
async fn a_full_disk_does_not_advance_the_cursor() {
    let (_store, ledger) = new_ledger().await;
    let held = take(&ledger, "me", at(0)).await;
    commit(&ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    execute(&ledger, "PRAGMA max_page_count = 1").await.unwrap();
    let many: Vec<_> = (0..2_000).map(|n| row(&format!("k{n}"), n)).collect();
    let error = commit(&ledger, &held, &state(1, "3"), &many).await.unwrap_err();
    assert!(matches!(error, LedgerError::Storage { .. }) && error.is_transient(), "{error}");
    // The limit was the connection's, which was replaced.
    let cursor = ledger.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap();
    assert_eq!((cursor.version, count(&ledger).await), (1, 1));
    commit(&ledger, &held, &state(1, "3"), &many).await.unwrap();
}

#[tokio::test]
async fn a_write_through_a_read_only_handle_is_a_storage_error() {
    let (store, ledger) = new_ledger().await;
    let held = take(&ledger, "me", at(0)).await;
    let reader = store.ledger(OpenMode::ReadOnly).await.unwrap();
    assert!(matches!(reader.release_lease(&held).await, Err(LedgerError::Storage { .. })));
    let acquired = reader.acquire_lease("x", "y", Duration::from_secs(15), at(0), None).await;
    assert!(matches!(acquired, Err(LedgerError::Storage { .. } | LedgerError::Query { .. })));
}

#[tokio::test]
async fn a_cursor_column_that_cannot_be_decoded_is_reported() {
    for (change, column) in [
        ("UPDATE sync_state SET total = -1", "total"),
        ("UPDATE sync_state SET total = 'seven'", "total"),
        ("UPDATE sync_state SET rows_in = -1", "rows_in"),
        ("UPDATE sync_state SET seen_tokens = '{}'", "sync_state.seen_tokens"),
    ] {
        let (_store, ledger) = new_ledger().await;
        let held = take(&ledger, "me", at(0)).await;
        commit(&ledger, &held, &state(0, "2"), &[]).await.unwrap();
        execute(&ledger, change).await.unwrap();
        let error = ledger.load_cursor(&cursor_key("books", "")).await.unwrap_err();
        assert!(matches!(error, LedgerError::Corrupt { column: reported } if reported == column), "{change}: {error}");
    }
}

#[tokio::test]
async fn a_file_without_the_schema_is_reported_as_outdated() {
    let store = SqliteStore::create().await;
    assert!(matches!(store.ledger(OpenMode::ReadOnly).await, Err(LedgerError::Open { .. })));
    std::fs::write(store.path(), b"").unwrap();
    assert!(matches!(store.ledger(OpenMode::Existing).await, Err(LedgerError::SchemaOutdated)));
}

#[tokio::test]
async fn an_older_version_opens_a_newer_schema() {
    let (store, ledger) = new_ledger().await;
    execute(
        &ledger,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99991231000000, 'from the future', 1, x'00', 0)",
    )
    .await
    .unwrap();
    ledger.close().await;
    store.writer().await.ping().await.unwrap();
}

#[tokio::test]
async fn the_audit_log_is_append_only() {
    let (_store, ledger) = new_ledger().await;
    ledger.append_audit(&[audit_entry("a", 1)]).await.unwrap();
    let changed = execute(&ledger, "UPDATE audit SET allowed = 0").await.unwrap_err();
    assert!(changed.to_string().contains("append-only"), "{changed}");
}

#[tokio::test]
async fn a_connection_without_recent_health_checks_is_deleted() {
    let (_store, ledger) = new_ledger().await;
    let result = |name: &str, seconds: i64| ProbeResult {
        connection: ObjectKey::new("team", name),
        at: at(seconds),
        elapsed: Duration::from_millis(1),
        success: true,
        slow: false,
        status: Some(200),
        error: None,
    };
    ledger.record_probes(&[result("idle", 0), result("a", 24 * 3600)]).await.unwrap();
    let lease = take(&ledger, "me", at(0)).await;
    ledger.prune_probes(&lease, at(23 * 3600), 100, at(25 * 3600)).await.unwrap();
    let names = ledger
        .read(TESTING, |tx| tx.query_all("SELECT name FROM probed_connections", [], |row| get::<String>(row, "name")))
        .await;
    assert_eq!(names.unwrap(), ["a"]);
}

#[tokio::test]
async fn an_attempt_beside_an_open_one_is_refused_by_the_schema() {
    let (_store, ledger) = new_ledger().await;
    payout_fixtures::registered(&ledger, "p1", 1).await;
    for state in ["unknown", "submitted", "manual_review", "confirmed", "recalling"] {
        let change = format!("UPDATE payout_attempts SET state = '{state}'; {}", payout_fixtures::SECOND_ATTEMPT);
        let refused = execute(&ledger, &change).await.unwrap_err();
        assert!(refused.to_string().contains("needs proof"), "{state}: {refused}");
    }
    let frozen = format!(
        "UPDATE payout_attempts SET state = 'rejected'; UPDATE payouts SET frozen = 1; {}",
        payout_fixtures::SECOND_ATTEMPT
    );
    assert!(execute(&ledger, &frozen).await.unwrap_err().to_string().contains("needs proof"));
    // The risk that people accept is that of an attempt whose fate is unknown, never that of one that was executed.
    let executed = format!(
        "UPDATE payout_attempts SET state = 'confirmed', accepted_for = 2; {}",
        payout_fixtures::SECOND_ATTEMPT
    );
    assert!(execute(&ledger, &executed).await.unwrap_err().to_string().contains("needs proof"));
    for proof in ["state = 'rejected'", "state = 'recalled'", "state = 'unknown', accepted_for = 2"] {
        let allowed = format!(
            "UPDATE payout_attempts SET {proof}; {}; DELETE FROM payout_attempts WHERE attempt_no = 2",
            payout_fixtures::SECOND_ATTEMPT
        );
        execute(&ledger, &allowed).await.unwrap();
    }
    let rewritten = execute(&ledger, "UPDATE payout_timeline SET subject = 'eve'").await.unwrap_err();
    assert!(rewritten.to_string().contains("append-only"), "{rewritten}");
}
