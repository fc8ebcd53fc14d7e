//! What the tables show.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::domain::key::ObjectKey;
use crate::domain::run_failure::{FailingPartition, RunFailure};
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::contract::fixtures::row;
use crate::ledger::raw::{RawMode, RawRef};
use crate::ledger::runs::RunCounts;
use crate::ledger::{RunId, RunRecord, RunTrigger, TransactionRecord};

fn stored(minor: i64, narration: &str) -> StoredTransaction {
    StoredTransaction {
        namespace: "team".into(),
        connection: "bank-a".into(),
        partition: String::new(),
        record: TransactionRecord { narration: Some(narration.into()), ..row("k", minor) },
        revision: 1,
        run_id: "r".into(),
        created: Timestamp::UNIX_EPOCH,
        updated: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn amounts_are_right_aligned_and_nothing_controls_the_terminal() {
    let printed = transactions(&[stored(-1_250_000, "RENT"), stored(5, "a\u{1b}[2Jb\nc\u{202e}")]);
    assert_eq!(
        printed,
        "CONNECTION    BOOKED       ACCOUNT       AMOUNT   CURRENCY   STATUS   NARRATION\n\
         team/bank-a   2026-09-01   ****1234   -12500.00   NGN        booked   RENT\n\
         team/bank-a   2026-09-01   ****1234        0.05   NGN        booked   a\\u{1b}[2Jb\\nc\\u{202e}\n"
    );
}

#[test]
fn a_health_check_is_one_line_with_its_status_or_error() {
    let probe = |success, slow, status, error: Option<&str>| StoredProbe {
        connection: ObjectKey::new("team", "bank-a"),
        at: Timestamp::UNIX_EPOCH,
        elapsed: Duration::from_micros(1_002_003),
        success,
        slow,
        status,
        error: error.map(str::to_owned),
    };
    let printed = probes(&[
        probe(true, false, Some(200), None),
        probe(true, true, Some(200), None),
        probe(false, false, None, Some("credentials_refused")),
    ]);
    assert_eq!(
        printed,
        "ENDED                      RESULT   ANSWER                       TOOK\n\
         1970-01-01T00:00:00.000Z   good     200                   1002.003 ms\n\
         1970-01-01T00:00:00.000Z   slow     200                   1002.003 ms\n\
         1970-01-01T00:00:00.000Z   failed   credentials_refused   1002.003 ms\n"
    );
}

#[test]
fn a_failed_run_is_one_line_with_its_cause() {
    let run = RunRecord {
        id: RunId(Uuid::nil()),
        trigger: RunTrigger::Schedule,
        slot: None,
        dry_run: false,
        started: Timestamp::UNIX_EPOCH,
        ended: Some(Timestamp::UNIX_EPOCH + Duration::from_millis(1_500)),
        result: Some(RunResult::Failed),
        reason: Some(RunReason::BodyUnreadable),
        failure: RunFailure {
            http_status: Some(200),
            detail: Some("received text/html, 2 KiB".into()),
            failing: 2,
            partitions: vec![FailingPartition::new("acc-1", "BodyUnreadable")],
            ..RunFailure::default()
        },
        counts: RunCounts { fetched: 7, ..RunCounts::default() },
    };
    let printed = runs(&[StoredRun { job: ObjectKey::new("team", "books"), run }]);
    let line = printed.lines().nth(1).unwrap();
    let cells: Vec<_> = line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        cells,
        [
            "team/books",
            "1970-01-01T00:00:00Z",
            "1500 ms",
            "Schedule",
            "Failed",
            "BodyUnreadable",
            "200",
            "7",
            "0",
            "0",
            "0",
            "2 failed: acc-1",
            "received text/html, 2 KiB"
        ]
    );
}

#[test]
fn a_dead_letter_shows_field_reason_and_structure() {
    let letter = StoredDeadLetter {
        namespace: "team".into(),
        connection: "bank-a".into(),
        stream: "transactions".into(),
        partition: "acc-1".into(),
        reason: "TimeMissing".into(),
        path: "/date".into(),
        sample: "{id: string, amount: number}".into(),
        seen: 3,
        first: Timestamp::UNIX_EPOCH,
        last: Timestamp::UNIX_EPOCH,
        raw: None,
    };
    let stored = |mode, expires: &str| {
        let raw = Some(RawRef { id: Uuid::from_u128(1), stored: Some((mode, expires.parse().unwrap())) });
        StoredDeadLetter { raw, ..letter.clone() }
    };
    let rows = [
        letter.clone(),
        stored(RawMode::Encrypted, "2026-12-01T00:00:00Z"),
        stored(RawMode::Encrypted, "2026-10-01T00:00:00Z"),
        stored(RawMode::Masked, "2026-12-01T00:00:00Z"),
    ];
    let printed = dead_letters(&rows, "2026-11-01T00:00:00Z".parse().unwrap());
    let lines: Vec<&str> = printed.lines().collect();
    let columns: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(columns, ["CONNECTION", "STREAM", "PARTITION", "FIELD", "REASON", "SEEN", "LAST", "REPLAY", "SAMPLE"]);
    let cells: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(cells[..5], ["team/bank-a", "transactions", "acc-1", "/date", "TimeMissing"]);
    assert!(lines[1].ends_with("{id: string, amount: number}"), "{printed}");
    let replay: Vec<&str> = lines[1..].iter().map(|line| line.split_whitespace().nth(7).unwrap()).collect();
    assert_eq!(replay, ["RawNotStored", "Replayable", "RawExpired", "RawMasked"]);
}

#[test]
fn an_entry_of_the_audit_log_is_one_line() {
    let entry = AuditEntry {
        at: Timestamp::UNIX_EPOCH,
        kind: AuditKind::Call,
        action: "quote".into(),
        subject: "system:serviceaccount:team:desk".into(),
        rights_profile: None,
        allowed: false,
        namespace: "team".into(),
        connection: "fmp".into(),
        provider: Some("fmp".into()),
        purpose: Some("a\nb".into()),
        reason: Some("no_profile".into()),
        request_id: None,
        repeats: None,
    };
    let printed = audit(&[StoredAudit { seq: 1, entry }]);
    assert_eq!(printed.lines().count(), 2);
    let line = printed.lines().nth(1).unwrap();
    for part in ["1970-01-01T00:00:00Z", "call", "team/fmp", "quote", "desk", "no", "a\\nb", "no_profile", "1"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_full_list_says_how_to_see_more() {
    assert_eq!(count(1, "entry", 20), "1 entry\n");
    assert_eq!(count(0, "entry", 20), "0 entries\n");
    assert_eq!(count(20, "run", 20), "20 runs, the newest; for more set --limit\n");
}
