//! Copies between files, and between a file and a PostgreSQL server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;

use super::delivery_tests::{assert_deliveries_copied, deliver};
use super::*;
use crate::domain::key::ObjectKey;
use crate::domain::payout::{BankReport, PayoutState};
use crate::domain::record::TransactionRecord;
use crate::ledger::contract::fixtures::{books, take_named};
use crate::ledger::contract::{at, audit_entry, commit, count, cursor_key, row, run_id, state, take};
use crate::ledger::contract::{decision_fixtures, payout_fixtures, route_changes};
use crate::ledger::decisions::{NewEntry, ProposalFilter};
use crate::ledger::epoch::LedgerEpoch;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::open::{LedgerUrl, open};
use crate::ledger::payouts::{PayoutsResume, hold_open_payouts};
use crate::ledger::probes::ProbeResult;
use crate::ledger::record::TransactionFilter;
use crate::ledger::runs::{RunStart, RunTrigger};
use crate::ledger::store::{Ledger, OpenMode};
use crate::testbed::postgres::PostgresServer;

/// A folder with the files of a test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn url(&self, name: &str) -> LedgerUrl {
        LedgerUrl::Sqlite(self.path(name))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(self.0.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

async fn opened(url: &LedgerUrl) -> Arc<dyn Ledger> {
    open(url, OpenMode::Migrate).await.unwrap()
}

/// Amounts that a float would change.
fn amounts() -> Vec<TransactionRecord> {
    let amounts = ["90071992547409.93", "9007199254740993", "12345678901234567.89", "-0.00", "-0.001", "1200"];
    let record = |(n, amount): (usize, &&str)| TransactionRecord {
        amount: amount.parse::<Decimal>().unwrap(),
        amount_minor: 170_141_183_460_469_231_731_687_303_715_884_105_727,
        narration: Some("line\nbreak, \"quotes\", ünïcode \u{1f3e6}".into()),
        counterparty: None,
        ..row(&format!("money-{n}"), 0)
    };
    amounts.iter().enumerate().map(record).collect()
}

/// A run with two pages, and rows of most kinds; returns the lease that wrote them.
async fn fill(ledger: &dyn Ledger) -> Lease {
    let lease = take(ledger, "worker", at(0)).await;
    let start = RunStart {
        id: run_id(1),
        job: books(),
        trigger: RunTrigger::Schedule,
        slot: Some(at(0)),
        dry_run: false,
        events: Vec::new(),
        at: at(0),
    };
    assert!(ledger.start_run(&start, &lease).await.unwrap());
    commit(ledger, &lease, &state(0, "2"), &amounts()).await.unwrap();
    let many: Vec<_> = (0..2_500).map(|n| row(&format!("k{n}"), n)).collect();
    commit(ledger, &lease, &state(1, "3"), &many).await.unwrap();
    ledger.append_audit(&[audit_entry("a", 1), audit_entry("b", 2)]).await.unwrap();
    let probe = ProbeResult {
        connection: ObjectKey::new("team", "bank-a"),
        at: at(3),
        elapsed: Duration::from_millis(1),
        success: true,
        slow: false,
        status: Some(200),
        error: None,
    };
    ledger.record_probes(&[probe]).await.unwrap();
    ledger.raise_epoch(4).await.unwrap();
    decision_fixtures::decide(ledger, &route_changes::held_decision()).await;
    ledger.commit_decisions(route_changes::every_kind()).await.unwrap();
    ledger.put_scores(&[route_changes::score("bank-a", "1", 1)]).await.unwrap();
    pay_twice(ledger).await;
    deliver(ledger, &lease).await;
    lease
}

/// A payout whose second attempt no ledger would take now: the first one turned out to be executed after it.
async fn pay_twice(ledger: &dyn Ledger) {
    let payout = payout_fixtures::registered(ledger, "followed", 30).await;
    let payout = payout_fixtures::rejected(ledger, &payout, 1, 31).await;
    let second = decision_fixtures::attempt("followed", 2, "b", 32);
    let commit = payout_fixtures::next(&payout, &second, 32);
    let outcome = decision_fixtures::one(ledger, payout_fixtures::entry(&second, &commit)).await;
    assert!(payout_fixtures::is_committed(&outcome), "{outcome:?}");
    let payout = payout_fixtures::stored(ledger, "followed").await;
    payout_fixtures::report(ledger, &payout, 1, BankReport::Confirmation, 33).await;
}

/// What a copy must hold: the rows, the cursor, the history, and fences that no former holder has.
async fn assert_copied(copy: &dyn Ledger, original: &dyn Ledger, former: &Lease) {
    let all = TransactionFilter::default();
    let (copied, expected) =
        (copy.list_transactions(&all, 10_000).await.unwrap(), original.list_transactions(&all, 10_000).await.unwrap());
    assert_eq!(copied, expected);
    let digits = |rows: &[crate::ledger::record::StoredTransaction]| -> Vec<_> {
        rows.iter().map(|row| row.record.amount.abs().to_string()).collect()
    };
    assert_eq!(digits(&copied), digits(&expected), "digit for digit");
    let key = cursor_key("books", "");
    assert_eq!(copy.load_cursor(&key).await.unwrap(), original.load_cursor(&key).await.unwrap());
    let history = |ledger| async move { Ledger::job_history(ledger, &books(), 10, at(60)).await.unwrap() };
    assert_eq!(history(copy).await, history(original).await);
    assert_eq!(copy.list_audit(None, None, 10).await.unwrap(), original.list_audit(None, None, 10).await.unwrap());

    assert_decisions_copied(copy, original).await;
    assert_deliveries_copied(copy, original).await;

    let late = commit(copy, former, &state(2, "4"), &[row("late", 1)]).await.unwrap_err();
    assert!(matches!(late, LedgerError::Fenced { .. }), "a worker of the original: {late}");
    let next = take(copy, "next", at(0)).await;
    assert!(next.fence > former.fence + 1_000, "beyond what the original may have issued: {}", next.fence);
    commit(copy, &next, &state(2, "4"), &[row("next", 1)]).await.unwrap();
    copy.append_audit(&[audit_entry("c", 3)]).await.unwrap();
    let newest = copy.list_audit(None, None, 1).await.unwrap();
    assert!(newest[0].entry.action == "c", "a number of its own");
}

/// The chain of decisions with what is kept beside it; the copy goes on where it ends.
async fn assert_decisions_copied(copy: &dyn Ledger, original: &dyn Ledger) {
    let chain = async |ledger: &dyn Ledger| {
        let (entries, head) = (ledger.chain(0, 100).await.unwrap(), ledger.chain_head().await.unwrap());
        let snapshot = ledger.snapshot(decision_fixtures::snapshot("s").id).await.unwrap();
        let adjustments = ledger.adjustments(None, at(50)).await.unwrap();
        let proposals = ledger.proposals(&ProposalFilter::default()).await.unwrap();
        (entries, head, snapshot, adjustments, proposals, ledger.scores().await.unwrap())
    };
    let copied = chain(copy).await;
    assert_eq!((copied.0.len(), copied.3.len(), copied.4.len(), copied.5.len()), (11, 1, 1, 1));
    assert_eq!(copied, chain(original).await);
    assert_payouts_copied(copy, original).await;
    let resumed = resume(copy).await;
    copy.commit_decisions(route_changes::every_kind()).await.unwrap();
    assert_eq!(decision_fixtures::verify(copy).await, 11 + resumed, "the same batch again");
    decision_fixtures::decide(copy, &decision_fixtures::decision("later", "a", 40)).await;
    assert_eq!(decision_fixtures::verify(copy).await, 12 + resumed);
}

async fn assert_payouts_copied(copy: &dyn Ledger, original: &dyn Ledger) {
    let payout = payout_fixtures::stored(copy, "followed").await;
    assert_eq!((payout.payout.state(), payout.payout.attempts.len()), (PayoutState::Frozen, 2));
    assert_eq!(payout, payout_fixtures::stored(original, "followed").await);
    let timeline = copy.payout_timeline("pay", "followed", 0, 100).await.unwrap();
    assert_eq!(timeline, original.payout_timeline("pay", "followed", 0, 100).await.unwrap());
    assert_eq!(copy.payout_counts().await.unwrap(), original.payout_counts().await.unwrap());
}

/// Resumes payouts if the copy suspends them, as every restored one does; returns the number of entries for it.
async fn resume(copy: &dyn Ledger) -> u64 {
    if !copy.payouts_suspended().await.unwrap() {
        return 0;
    }
    assert_eq!(hold_open_payouts(copy, at(60)).await.unwrap(), 1);
    let resume = PayoutsResume { at: at(61), reason: None, request_id: None, subject: "ann".into() };
    decision_fixtures::one(copy, NewEntry::ResumePayouts(resume)).await;
    assert!(!copy.payouts_suspended().await.unwrap());
    2
}

fn quiet(_: Progress<'_>) {}

#[tokio::test]
async fn a_backup_restores_rows_cursors_fences_and_history() {
    let files = Files::new();
    let original = opened(&files.url("ledger.db")).await;
    let lease = fill(&*original).await;
    let backup = backup(&files.url("ledger.db"), &files.path("backup.db"), &mut quiet).await.unwrap();
    assert!(backup.tables.iter().any(|table| table.table == "transactions" && table.rows == 2_506), "{backup:?}");
    assert_eq!(files.names().iter().filter(|name| name.contains("backup")).count(), 1, "{:?}", files.names());
    assert_eq!(std::fs::metadata(files.path("backup.db")).unwrap().permissions().mode() & 0o777, 0o600);
    let restored = restore(&files.path("backup.db"), &files.url("new.db"), false, &mut quiet).await.unwrap();
    assert_eq!(restored.tables, backup.tables, "the same counts and hashes");
    assert_copied(&*opened(&files.url("new.db")).await, &*original, &lease).await;
}

#[tokio::test]
async fn a_backup_is_behind_at_once_and_a_restore_accepts_the_loss_only_when_told() {
    let files = Files::new();
    let original = opened(&files.url("ledger.db")).await;
    fill(&*original).await;
    original.raise_epoch(0).await.unwrap();
    let epoch = original.epoch().await.unwrap().number;
    backup(&files.url("ledger.db"), &files.path("backup.db"), &mut quiet).await.unwrap();
    for (name, accept_loss) in [("refused.db", false), ("accepted.db", true)] {
        restore(&files.path("backup.db"), &files.url(name), accept_loss, &mut quiet).await.unwrap();
        let restored = opened(&files.url(name)).await.epoch().await.unwrap();
        assert_eq!(restored, LedgerEpoch { number: epoch - 1, loss_accepted: accept_loss });
        assert_eq!(restored.admits(epoch), accept_loss);
        let suspended = opened(&files.url(name)).await.payouts_suspended().await.unwrap();
        assert!(suspended, "payouts of after the backup may be missing, whatever the lease says");
    }
    migrate(&files.url("accepted.db"), &files.url("moved.db"), at(9_000), &mut quiet).await.unwrap();
    assert!(opened(&files.url("moved.db")).await.payouts_suspended().await.unwrap(), "as its source");
}

#[tokio::test]
async fn a_backup_beside_a_writer_holds_whole_pages_with_their_cursor() {
    let files = Files::new();
    let ledger = opened(&files.url("ledger.db")).await;
    let lease = take(&*ledger, "worker", at(0)).await;
    let (url, target) = (files.url("ledger.db"), files.path("backup.db"));
    let writing = async {
        for page in 0..60_i64 {
            let rows: Vec<_> = (0..50).map(|n| row(&format!("p{page}-{n}"), n)).collect();
            commit(&*ledger, &lease, &state(page, "next"), &rows).await.unwrap();
        }
    };
    let copying = async {
        while count(&*ledger).await < 500 {
            tokio::task::yield_now().await;
        }
        backup(&url, &target, &mut quiet).await.unwrap();
    };
    futures::future::join(writing, copying).await;
    restore(&target, &files.url("new.db"), true, &mut quiet).await.unwrap();
    let restored = opened(&files.url("new.db")).await;
    let cursor = restored.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap();
    let rows = count(&*restored).await;
    assert!(
        rows >= 500 && rows == 50 * u64::try_from(cursor.version).unwrap(),
        "{rows} rows, version {}",
        cursor.version
    );
}

#[tokio::test]
async fn a_ledger_with_rows_is_not_restored_into_and_stays_as_it_is() {
    let files = Files::new();
    for name in ["ledger.db", "used.db"] {
        fill(&*opened(&files.url(name)).await).await;
    }
    backup(&files.url("ledger.db"), &files.path("backup.db"), &mut quiet).await.unwrap();
    let refused = restore(&files.path("backup.db"), &files.url("used.db"), true, &mut quiet).await.unwrap_err();
    assert!(matches!(refused, TransferError::NotEmpty { .. }) && refused.to_string().contains("new file"), "{refused}");
    let migrated = migrate(&files.url("ledger.db"), &files.url("used.db"), at(100), &mut quiet).await.unwrap_err();
    assert!(matches!(migrated, TransferError::NotEmpty { .. }), "{migrated}");
    let used = opened(&files.url("used.db")).await;
    assert!(count(&*used).await == 2_506 && !used.epoch().await.unwrap().loss_accepted);
}

#[tokio::test]
async fn a_waiting_operator_does_not_make_a_ledger_non_empty() {
    let files = Files::new();
    let lease = fill(&*opened(&files.url("ledger.db")).await).await;
    backup(&files.url("ledger.db"), &files.path("backup.db"), &mut quiet).await.unwrap();
    let waiting = opened(&files.url("new.db")).await;
    waiting.ping().await.unwrap();
    take_named(&*waiting, "pruning", "waiting", at(0)).await;
    restore(&files.path("backup.db"), &files.url("new.db"), true, &mut quiet).await.unwrap();
    assert_copied(&*waiting, &*opened(&files.url("ledger.db")).await, &lease).await;
}

#[tokio::test]
async fn a_file_is_not_overwritten_and_a_failed_backup_leaves_none() {
    let files = Files::new();
    let ledger = opened(&files.url("ledger.db")).await;
    fill(&*ledger).await;
    ledger.close().await;
    std::fs::write(files.path("backup.db"), b"precious").unwrap();
    let error = backup(&files.url("ledger.db"), &files.path("backup.db"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, TransferError::Exists(_)), "{error}");
    assert_eq!(std::fs::read(files.path("backup.db")).unwrap(), b"precious");
    let before = files.names();
    backup(&files.url("absent.db"), &files.path("other.db"), &mut quiet).await.unwrap_err();
    assert_eq!(files.names(), before, "nothing is left, and the absent ledger is not created");
}

fn flip_bytes(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4_096].fill(0xa5);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_truncated_or_foreign_file_is_refused_and_the_target_stays_empty() {
    let files = Files::new();
    fill(&*opened(&files.url("ledger.db")).await).await;
    backup(&files.url("ledger.db"), &files.path("whole.db"), &mut quiet).await.unwrap();
    let whole = std::fs::read(files.path("whole.db")).unwrap();
    std::fs::copy(files.path("whole.db"), files.path("flipped.db")).unwrap();
    flip_bytes(&files.path("flipped.db"));
    std::fs::write(files.path("cut.db"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(files.path("text.db"), "not a database at all, but long enough to be one ".repeat(100)).unwrap();
    rusqlite::Connection::open(files.path("foreign.db")).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    for name in ["flipped.db", "cut.db", "text.db", "foreign.db"] {
        let error = restore(&files.path(name), &files.url("new.db"), true, &mut quiet).await.unwrap_err();
        let expected = matches!(error, TransferError::Damaged { .. } | TransferError::NotALedger(_));
        assert!(expected, "{name}: {error}");
        assert_eq!(count(&*opened(&files.url("new.db")).await).await, 0, "{name}");
    }
    let absent = restore(&files.path("absent.db"), &files.url("new.db"), true, &mut quiet).await.unwrap_err();
    assert!(matches!(absent, TransferError::Io { .. }), "{absent}");
    restore(&files.path("whole.db"), &files.url("new.db"), true, &mut quiet).await.unwrap();
}

#[tokio::test]
async fn a_backup_of_a_newer_version_is_refused_by_name() {
    let files = Files::new();
    fill(&*opened(&files.url("ledger.db")).await).await;
    for (change, what) in [
        ("CREATE TABLE later (id INTEGER PRIMARY KEY)", "table later"),
        ("DROP TABLE later; ALTER TABLE streams ADD COLUMN later TEXT", "column streams.later"),
    ] {
        rusqlite::Connection::open(files.path("ledger.db")).unwrap().execute_batch(change).unwrap();
        let error = backup(&files.url("ledger.db"), &files.path("backup.db"), &mut quiet).await.unwrap_err();
        assert!(matches!(&error, TransferError::Newer { what: found } if found == what), "{error}");
    }
}

#[tokio::test]
async fn a_ledger_in_use_is_not_migrated_until_its_leases_have_expired() {
    let files = Files::new();
    fill(&*opened(&files.url("ledger.db")).await).await;
    let (from, to) = (files.url("ledger.db"), files.url("new.db"));
    let error = migrate(&from, &to, at(1), &mut quiet).await.unwrap_err();
    assert!(matches!(&error, TransferError::InUse { holder, .. } if holder == "worker"), "{error}");
    let same = migrate(&from, &from, at(60), &mut quiet).await.unwrap_err();
    assert!(matches!(same, TransferError::SameLedger), "{same}");
    migrate(&from, &to, at(60), &mut quiet).await.unwrap();
    assert_eq!(opened(&to).await.epoch().await.unwrap(), opened(&from).await.epoch().await.unwrap());
}

#[tokio::test]
async fn generated_numbers_continue_behind_those_that_were_deleted() {
    let files = Files::new();
    let original = opened(&files.url("ledger.db")).await;
    fill(&*original).await;
    let last = original.list_audit(None, None, 1).await.unwrap()[0].seq;
    let raw = rusqlite::Connection::open(files.path("ledger.db")).unwrap();
    raw.execute_batch("DELETE FROM audit").unwrap();
    backup(&files.url("ledger.db"), &files.path("backup.db"), &mut quiet).await.unwrap();
    restore(&files.path("backup.db"), &files.url("new.db"), true, &mut quiet).await.unwrap();
    let restored = opened(&files.url("new.db")).await;
    restored.append_audit(&[audit_entry("c", 3)]).await.unwrap();
    assert!(restored.list_audit(None, None, 1).await.unwrap()[0].seq > last);
}

#[tokio::test]
async fn a_ledger_moves_to_postgresql_and_back_without_a_changed_value() {
    let files = Files::new();
    let original = opened(&files.url("ledger.db")).await;
    let lease = fill(&*original).await;
    let database: LedgerUrl = PostgresServer::shared().await.unwrap().create_database().await.unwrap().parse().unwrap();
    let there = migrate(&files.url("ledger.db"), &database, at(60), &mut quiet).await.unwrap();
    let back = migrate(&database, &files.url("back.db"), at(60), &mut quiet).await.unwrap();
    assert_eq!(
        there.tables.iter().map(|t| (&t.table, t.rows)).collect::<std::collections::BTreeMap<_, _>>(),
        back.tables.iter().map(|t| (&t.table, t.rows)).collect()
    );
    assert_copied(&*opened(&database).await, &*original, &lease).await;
    assert_copied(&*opened(&files.url("back.db")).await, &*original, &lease).await;
}

#[tokio::test]
async fn a_backup_of_postgresql_is_a_file_that_either_engine_restores() {
    let files = Files::new();
    let server = PostgresServer::shared().await.unwrap();
    let database: LedgerUrl = server.create_database().await.unwrap().parse().unwrap();
    let original = opened(&database).await;
    let lease = fill(&*original).await;
    backup(&database, &files.path("backup.db"), &mut quiet).await.unwrap();
    let other: LedgerUrl = server.create_database().await.unwrap().parse().unwrap();
    for target in [other, files.url("new.db")] {
        restore(&files.path("backup.db"), &target, true, &mut quiet).await.unwrap();
        let refused = restore(&files.path("backup.db"), &target, true, &mut quiet).await.unwrap_err();
        assert!(matches!(refused, TransferError::NotEmpty { .. }), "{refused}");
        assert_copied(&*opened(&target).await, &*original, &lease).await;
    }
}
