//! Which refusals share a row, and how many rows there are.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::ledger::audit::AuditKind;

const DAY: u32 = 24 * 3_600;

fn wall(second: u32) -> Timestamp {
    "2026-11-29T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second.into())
}

fn mono(second: u32) -> Mono {
    Mono::ZERO + Duration::from_secs(second.into())
}

fn refusal(subject: &str, action: &str, second: u32) -> AuditEntry {
    AuditEntry {
        at: wall(second),
        kind: AuditKind::Call,
        action: action.into(),
        subject: subject.into(),
        rights_profile: None,
        allowed: false,
        namespace: "treasury".into(),
        connection: "fmp".into(),
        provider: Some("fmp".into()),
        purpose: None,
        reason: Some("rbac".into()),
        request_id: None,
        repeats: None,
    }
}

fn robot(namespace: usize, name: usize) -> String {
    format!("system:serviceaccount:team-{namespace}:robot-{name}")
}

/// Rows that are written while `record` is called every second, and the refusals that they count.
fn rows(seconds: u32, mut record: impl FnMut(&mut RefusalLog, u32)) -> (usize, u64) {
    let mut log = RefusalLog::default();
    let (mut rows, mut refusals) = (0, 0);
    let mut count = |written: Vec<AuditEntry>| {
        rows += written.len();
        refusals += written.iter().map(|row| row.repeats.map_or(1, |repeats| repeats.count)).sum::<u64>();
    };
    for second in 0..seconds {
        record(&mut log, second);
        count(log.take_due(mono(second)));
    }
    count(log.take_all());
    (rows, refusals)
}

#[test]
fn equal_refusals_of_a_window_are_one_row_with_their_number_and_times() {
    let mut log = RefusalLog::default();
    let first = refusal("ann", "quote", 10);
    for second in [10, 10, 10] {
        assert_eq!(log.record(refusal("ann", "quote", second), mono(10)), Ok(()));
    }
    let others = [
        refusal("bob", "quote", 11),
        refusal("ann", "earnings", 12),
        AuditEntry { reason: Some("no_profile".into()), ..refusal("ann", "quote", 13) },
        AuditEntry { connection: "polygon".into(), ..refusal("ann", "quote", 14) },
    ];
    for other in &others {
        assert_eq!(log.record(other.clone(), mono(10)), Ok(()));
    }
    assert_eq!(log.next_due(), Some(mono(11)));
    assert_eq!(log.take_due(mono(10)), []);
    let rows = log.take_due(mono(11));
    assert_eq!(rows[0], AuditEntry { repeats: Some(Repeats { count: 3, last: wall(10) }), ..first });
    assert_eq!(rows[1..], others);
    assert_eq!(log.next_due(), None);
}

#[test]
fn windows_double_while_refusals_go_on_and_start_anew_after_a_pause() {
    let mut log = RefusalLog::default();
    let mut written = Vec::new();
    for second in 0..100 {
        log.record(refusal("ann", "quote", second), mono(second)).unwrap();
        written.extend(log.take_due(mono(second)).into_iter().map(|_| second));
    }
    assert_eq!(written, [1, 3, 7, 15, 31, 63]);
    assert_eq!(log.take_due(mono(1_000)).len(), 1);
    assert_eq!(log.take_due(mono(5_000)), [], "no refusal in this window");
    log.record(refusal("ann", "quote", 5_000), mono(5_000)).unwrap();
    assert_eq!(log.next_due(), Some(mono(5_001)));
}

#[test]
fn a_day_of_refusals_of_one_caller_is_few_rows_and_none_is_lost() {
    let (rows, refusals) = rows(DAY, |log, second| {
        log.record(refusal("ann", "quote", second), mono(second)).unwrap();
    });
    assert!(rows < 200, "{rows}");
    assert_eq!(refusals, u64::from(DAY));
}

#[test]
fn a_caller_that_is_refused_in_ever_new_ways_has_a_limited_number_of_rows() {
    let mut omitted = 0;
    let (rows, refusals) = rows(DAY, |log, second| {
        let result = log.record(refusal("ann", &format!("purpose-{second}"), second), mono(second));
        omitted += usize::from(result == Err(RowLimit::Caller));
    });
    assert!((1_400..1_800).contains(&rows), "one a minute: {rows}");
    assert!(omitted > 80_000, "{omitted}");
    assert_eq!(refusals, u64::from(DAY), "the others are counted in rows of their own kind");
}

#[test]
fn many_accounts_of_a_namespace_and_many_namespaces_are_limited_too() {
    let (rows, refusals) = rows(3_600, |log, second| {
        for name in 0..5 {
            let subject = robot(1, usize::try_from(second).unwrap() * 5 + name);
            let _ = log.record(refusal(&subject, "quote", second), mono(second));
        }
    });
    assert!((300..600).contains(&rows), "a burst of 240, then four a minute: {rows}");
    assert_eq!(refusals, 3_600 * 5);
    let mut omitted = 0;
    let (rows, _) = self::rows(3_600, |log, second| {
        for namespace in 0..5 {
            let subject = robot(usize::try_from(second).unwrap() * 5 + namespace, 1);
            let result = log.record(refusal(&subject, "quote", second), mono(second));
            omitted += usize::from(result == Err(RowLimit::Total));
        }
    });
    assert!((5_000..6_000).contains(&rows), "a burst of 2000, then one a second: {rows}");
    assert_eq!(omitted, 3_600 * 5 - rows);
}

#[test]
fn a_flood_of_one_caller_takes_no_rows_of_others() {
    let mut log = RefusalLog::default();
    for n in 0..100_000 {
        let _ = log.record(refusal("system:serviceaccount:default:default", &format!("purpose-{n}"), 1), mono(1));
    }
    assert_eq!(log.record(refusal(&robot(1, 1), "quote", 1), mono(1)), Ok(()));
    assert_eq!(log.record(refusal("ann", "quote", 1), mono(1)), Ok(()));
    assert!(log.windows.len() < 100, "{}", log.windows.len());
}
