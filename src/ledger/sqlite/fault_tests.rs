//! Faults at any step of any write: nothing of the write is visible, and the next operation works.

use std::time::Duration;

use rusqlite::ffi;
use rusqlite::types::Value;
use tokio::sync::OnceCell;

use super::database::SqliteLedger;
use super::faults::{Fault, Manner};
use super::step::Step;
use super::tests::{SqliteStore, TESTING, new_ledger};
use crate::ledger::contract::writes::{Prepared, Write, prepare};
use crate::ledger::contract::{OpenLedger as _, at, count, cursor_key, take};
use crate::ledger::error::{LedgerError, WriteFault};
use crate::ledger::health::LedgerHealth;
use crate::ledger::lease::LeaseStore as _;
use crate::ledger::record::TransactionFilter;
use crate::ledger::store::{Ledger, OpenMode};

/// Result codes, and the fault that each is reported as.
const CODES: [(i32, WriteFault); 10] = [
    (ffi::SQLITE_FULL, WriteFault::Full),
    (ffi::SQLITE_IOERR_WRITE, WriteFault::Io),
    (ffi::SQLITE_IOERR_FSYNC, WriteFault::Io),
    (ffi::SQLITE_BUSY, WriteFault::Locked),
    (ffi::SQLITE_READONLY, WriteFault::ReadOnly),
    (ffi::SQLITE_CANTOPEN, WriteFault::CannotOpen),
    (ffi::SQLITE_CORRUPT, WriteFault::Damaged),
    (ffi::SQLITE_INTERRUPT, WriteFault::Locked),
    (ffi::SQLITE_NOMEM, WriteFault::OutOfMemory),
    (ffi::SQLITE_NOTADB, WriteFault::Damaged),
];

/// Everything in the file, as another connection reads it, but for the row that pings write.
pub(super) fn dump(store: &SqliteStore) -> Vec<String> {
    let file = rusqlite::Connection::open(store.path()).unwrap();
    let mut tables = file
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'write_checks' ORDER BY name")
        .unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut lines = Vec::new();
    for table in tables.iter().filter(|table| *table != "_sqlx_migrations") {
        let mut rows = file.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|column| row.get(column).unwrap()).collect();
            lines.push(format!("{table}: {values:?}"));
        }
    }
    lines
}

/// A file that is filled once, and copied for each test.
static FILLED: OnceCell<(Vec<u8>, Prepared)> = OnceCell::const_new();

pub(super) async fn prepared() -> (SqliteStore, SqliteLedger, Prepared) {
    let make_one = async || {
        let (store, ledger) = new_ledger().await;
        let prepared = prepare(&ledger).await;
        ledger.close().await;
        (std::fs::read(store.path()).unwrap(), prepared)
    };
    let (file, filled) = FILLED.get_or_init(make_one).await;
    let store = SqliteStore::create().await;
    std::fs::write(store.path(), file).unwrap();
    let ledger = store.ledger(OpenMode::Migrate).await.unwrap();
    (store, ledger, filled.clone())
}

/// A write without faults: its steps, and the store after it.
pub(super) async fn without_faults(write: Write) -> (Vec<Step>, Vec<String>) {
    let (store, ledger, prepared) = prepared().await;
    let before = dump(&store);
    ledger.faults.clear();
    prepared.make(&ledger, write).await.unwrap();
    let (steps, after) = (ledger.faults.clear(), dump(&store));
    assert!(write == Write::Ping || before != after, "{write:?} writes something");
    (steps, after)
}

#[tokio::test]
async fn a_fault_at_any_step_of_any_write_leaves_nothing_behind() {
    for write in Write::ALL {
        let (steps, after) = without_faults(write).await;
        assert_eq!((steps[0], steps[steps.len() - 1]), (Step::Begin, Step::Commit), "{write:?}");
        let (store, ledger, prepared) = prepared().await;
        let (before, health) = (dump(&store), ledger.health());
        for step in 0..steps.len() {
            // With three codes at each step, others at the next. After the third fault the ROLLBACK fails too.
            for (number, manner) in [Manner::Refused, Manner::RolledBack, Manner::Refused].into_iter().enumerate() {
                let (code, fault) = CODES[(step * 3 + number) % CODES.len()];
                let last = if number == 2 { step + 2 } else { step + 1 };
                ledger.faults.inject(Fault { steps: step..last, code, manner });
                let outcome = prepared.make(&ledger, write).await;
                let reached = ledger.faults.clear();
                let what = format!("{write:?}: {code} at step {step}, {manner:?}: {outcome:?}");
                assert!(reached.len() > step, "the connection works until then: {what}");
                assert_eq!(*health.borrow(), LedgerHealth::Unwritable(fault), "{what}");
                if !write.is_optional() {
                    assert!(outcome.is_err_and(|error| error.is_transient()), "{what}");
                }
            }
            assert_eq!(dump(&store), before, "{write:?}: step {step}");
            ledger.ping().await.unwrap();
            assert_eq!(*health.borrow(), LedgerHealth::Writable);
        }
        prepared.make(&ledger, write).await.unwrap();
        assert_eq!(dump(&store), after, "{write:?} after all faults");
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_complete_or_absent() {
    for write in Write::ALL {
        let (steps, after) = without_faults(write).await;
        let (store, ledger, prepared) = prepared().await;
        let (before, commit) = (dump(&store), steps.len() - 1);
        ledger.faults.inject(Fault {
            steps: commit..commit + 1,
            code: ffi::SQLITE_IOERR_FSYNC,
            manner: Manner::AnswerLost,
        });
        let outcome = prepared.make(&ledger, write).await;
        ledger.faults.clear();
        let now = dump(&store);
        assert!(now == after || (now == before && outcome.is_err()), "{write:?}");
        if write == Write::AppendAuditBatch {
            prepared.make(&ledger, write).await.unwrap();
            assert_eq!(dump(&store), after, "appended once, although it is retried");
        }
        if matches!(write, Write::CommitPage | Write::CommitPages | Write::StartRun) {
            outcome.unwrap();
            assert_eq!(now, after, "it is read back");
        }
        ledger.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_page_whose_commit_cannot_be_read_back_is_reported_as_unknown() {
    let (steps, _) = without_faults(Write::CommitPage).await;
    let (_store, ledger, prepared) = prepared().await;
    let commit = steps.len() - 1;
    // COMMIT and the BEGIN of the read that follows.
    let fault = Fault { steps: commit..commit + 2, code: ffi::SQLITE_IOERR_FSYNC, manner: Manner::AnswerLost };
    ledger.faults.inject(fault);
    let error = prepared.make(&ledger, Write::CommitPage).await.unwrap_err();
    assert!(matches!(error, LedgerError::CommitUnknown { .. }), "{error}");
    ledger.faults.clear();
    assert_eq!(ledger.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap().version, 2);
}

#[tokio::test]
async fn a_fault_of_a_read_ends_with_its_cause() {
    let (_store, ledger, _prepared) = prepared().await;
    for (number, (code, _)) in CODES.into_iter().enumerate() {
        let step = number % 3;
        ledger.read_faults.inject(Fault { steps: step..step + 1, code, manner: Manner::Refused });
        let error = ledger.count_transactions(&TransactionFilter::default()).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        ledger.read_faults.clear();
        assert_eq!(count(&ledger).await, 2);
    }
}

#[tokio::test]
async fn a_panic_in_a_job_rolls_it_back_and_does_not_end_the_writer() {
    let (steps, after) = without_faults(Write::CommitPage).await;
    let (store, ledger, prepared) = prepared().await;
    let before = dump(&store);
    for step in 0..steps.len() {
        ledger.faults.panic_at(step);
        let error = prepared.make(&ledger, Write::CommitPage).await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        ledger.faults.clear();
        assert_eq!(dump(&store), before);
    }
    let panicked = ledger.read(TESTING, |_| -> Result<(), LedgerError> { panic!("a defect") }).await;
    assert!(panicked.is_err());
    prepared.make(&ledger, Write::CommitPage).await.unwrap();
    assert_eq!((dump(&store), count(&ledger).await), (after, 3));
}

#[tokio::test]
async fn a_transaction_left_open_by_a_job_is_rolled_back() {
    let (_store, ledger) = new_ledger().await;
    let left_open = ledger.writer.run("testing", |slot| {
        let connection = slot.connection().map_err(|e| TESTING.failed(e))?;
        connection.execute_batch("BEGIN IMMEDIATE; UPDATE write_checks SET number = 77").map_err(|e| TESTING.failed(e))
    });
    left_open.await.unwrap();
    ledger.ping().await.unwrap();
    let number = ledger.read(TESTING, |tx| tx.scalar::<i64>("SELECT number FROM write_checks", [])).await;
    assert_eq!(number.unwrap(), 1);
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_not_created_anew_and_works_when_it_is_back() {
    let (store, ledger, prepared) = prepared().await;
    let (folder, elsewhere) = (store.path().parent().unwrap().to_owned(), tempfile::tempdir().unwrap());
    // Any error: the connection that is opened next finds nothing.
    ledger.faults.inject(Fault { steps: 0..1, code: ffi::SQLITE_IOERR, manner: Manner::Refused });
    ledger.ping().await.unwrap_err();
    ledger.faults.clear();
    let moved = elsewhere.path().join("moved");
    std::fs::rename(&folder, &moved).unwrap();
    for _ in 0..2 {
        let error = prepared.make(&ledger, Write::CommitPage).await.unwrap_err();
        assert_eq!(error.write_fault(), Some(WriteFault::CannotOpen), "{error}");
        std::fs::create_dir_all(&folder).unwrap();
    }
    assert!(!store.path().exists());
    std::fs::remove_dir(&folder).unwrap();
    std::fs::rename(&moved, &folder).unwrap();
    prepared.make(&ledger, Write::CommitPage).await.unwrap();
    assert_eq!(count(&ledger).await, 3);
}

#[tokio::test]
async fn writes_to_a_locked_file_fail_as_busy_and_work_when_it_is_free() {
    let (store, ledger) = new_ledger().await;
    ledger.close().await;
    let timeout = Duration::from_millis(200);
    let ledger = SqliteLedger::open_with(&store.path(), OpenMode::Migrate, timeout).await.unwrap();
    let other = rusqlite::Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let writes = names.iter().map(|name| ledger.acquire_lease(name, "me", Duration::from_secs(15), at(0), None));
    for outcome in futures::future::join_all(writes).await {
        assert!(matches!(outcome, Err(LedgerError::Busy { .. })), "{outcome:?}");
    }
    assert_eq!(*ledger.health().borrow(), LedgerHealth::Unwritable(WriteFault::Locked));
    other.execute_batch("ROLLBACK").unwrap();
    take(&ledger, "me", at(0)).await;
    assert_eq!(*ledger.health().borrow(), LedgerHealth::Writable);
}

#[tokio::test]
async fn a_write_that_changes_nothing_does_not_end_a_fault() {
    let (_store, ledger) = new_ledger().await;
    ledger.fail_writes(ffi::SQLITE_FULL);
    ledger.ping().await.unwrap_err();
    // A full volume refuses the pages that are written, and there are none.
    ledger.recover();
    let health = ledger.health();
    let idle = ledger.write(TESTING, |tx| tx.execute("DELETE FROM write_checks WHERE number < 0", [])).await;
    assert_eq!((idle.unwrap(), *health.borrow()), (0, LedgerHealth::Unwritable(WriteFault::Full)));
    ledger.ping().await.unwrap();
    assert_eq!(*health.borrow(), LedgerHealth::Writable);
}

#[tokio::test]
async fn an_operator_starts_although_its_ledger_cannot_be_written() {
    let (store, ledger) = new_ledger().await;
    ledger.close().await;
    let other = rusqlite::Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let opened = SqliteLedger::open_with(&store.path(), OpenMode::Migrate, Duration::ZERO).await;
    assert!(opened.is_ok(), "{opened:?}");
}
