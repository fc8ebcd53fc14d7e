//! Rows that were written while the wall clock was ahead, an hour or a year, read when it is right again.

use std::time::Duration;

use uuid::Uuid;

use super::OpenLedger;
use super::audit::by_age;
use super::delivery_fixtures;
use super::fixtures::{TTL, at, books, run_id, take_named};
use crate::domain::key::ObjectKey;
use crate::domain::run_failure::RunFailure;
use crate::ledger::audit::{AuditEntry, AuditKind, UsageKey};
use crate::ledger::credentials::lock_name;
use crate::ledger::dead_requests::{DeadRequest, DeadRequestLimits, DeadRequestState, NewDeadRequest, RetryOutcome};
use crate::ledger::lease::{Lease, LeaseOutcome};
use crate::ledger::probes::ProbeResult;
use crate::ledger::runs::{RunCounts, RunEnd, RunResult, RunStart, RunTrigger};
use crate::ledger::store::{Ledger, OpenMode};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const AHEAD: [i64; 2] = [HOUR, 365 * DAY];
const LIMITS: DeadRequestLimits = DeadRequestLimits { total: 10, connection: 10 };

/// An empty store of the same engine.
async fn fresh<S: OpenLedger>(_: &S) -> S {
    S::create().await
}

fn bank() -> ObjectKey {
    ObjectKey::new("team", "bank")
}

pub(crate) async fn a_lease_taken_while_the_clock_was_ahead_expires_after_its_ttl(store: &impl OpenLedger) {
    let ttl = i64::try_from(TTL.as_secs()).unwrap();
    for ahead in AHEAD {
        for name in ["sync/team/books".to_owned(), "dead-requests".to_owned(), lock_name(&bank())] {
            let store = fresh(store).await;
            let ledger = store.writer().await;
            assert!(take(&*ledger, &name, "dead", ahead).await.is_some());
            for now in [100, 101, 100 + ttl - 1] {
                assert_eq!(take(&*ledger, &name, "me", now).await, None, "{name} is held at second {now}");
            }
            let lease = take(&*ledger, &name, "me", 100 + ttl).await;
            assert!(lease.is_some_and(|lease| lease.fence == 2), "{name}: the first attempt shortened it");
        }
    }
}

pub(crate) async fn a_live_holder_whose_clock_is_ahead_keeps_its_lease(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "job", "other", HOUR).await.unwrap();
    for now in (0..120).step_by(5) {
        assert!(ledger.renew_lease(&held, TTL, at(HOUR + now)).await.unwrap());
        let outcome = ledger.acquire_lease("job", "me", TTL, at(now + 2), None).await.unwrap();
        let LeaseOutcome::HeldBy(seen) = outcome else { panic!("it is renewed in time") };
        assert_eq!((seen.fence, seen.expires), (held.fence, at(now + 2) + TTL), "as of this process's clock");
    }
}

/// The lease, if it is free.
async fn take(ledger: &dyn Ledger, name: &str, holder: &str, now: i64) -> Option<Lease> {
    ledger.acquire_lease(name, holder, TTL, at(now), None).await.unwrap().acquired()
}

async fn run(ledger: &dyn Ledger, n: u128, now: i64, result: RunResult) -> bool {
    let lease = take(ledger, "books", "me", now).await.unwrap();
    let (id, job, slot) = (run_id(n), books(), Some(at(now)));
    let (trigger, events) = (RunTrigger::Schedule, Vec::new());
    let start = RunStart { id, job: job.clone(), trigger, slot, dry_run: false, events, at: at(now) };
    let started = ledger.start_run(&start, &lease).await.unwrap();
    let (failure, counts) = (RunFailure::default(), RunCounts::default());
    let (partitions, events) = (Vec::new(), Vec::new());
    let end = RunEnd { id, job, result, reason: None, failure, counts, partitions, resync: None, events, at: at(now) };
    ledger.finish_run(&end).await.unwrap();
    started
}

pub(crate) async fn a_run_of_the_future_neither_hides_later_runs_nor_blocks_their_slots(store: &impl OpenLedger) {
    for ahead in AHEAD {
        let store = fresh(store).await;
        let ledger = store.writer().await;
        for (n, now) in [(9, 0), (3, ahead), (7, ahead + 60)] {
            assert!(run(&*ledger, n, now, RunResult::Succeeded).await);
        }
        // Right again: the next run starts, although a later slot was recorded.
        assert!(run(&*ledger, 5, 120, RunResult::Failed).await);
        let history = ledger.job_history(&books(), 10, at(130)).await.unwrap();
        let order: Vec<_> = history.last.iter().map(|run| run.id).collect();
        assert_eq!(order, [5, 7, 3, 9].map(run_id), "in the order of their starts");
        assert_eq!((history.last_slot, history.last_success), (Some(at(120)), Some(at(120))));
        assert!(history.last.iter().all(|run| run.started <= at(120) && run.ended <= Some(at(120))));

        // The correction is in the file, so that it does not move with the clock.
        ledger.close().await;
        let ledger = store.open(OpenMode::ReadOnly).await.unwrap();
        let later = ledger.job_history(&books(), 10, at(9_999)).await.unwrap();
        assert_eq!((later.last_slot, later.last_success), (Some(at(120)), Some(at(120))));
    }
}

pub(crate) async fn a_history_that_cannot_be_corrected_is_read_as_of_now(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    assert!(run(&*ledger, 1, HOUR, RunResult::Succeeded).await);
    ledger.close().await;
    let ledger = store.open(OpenMode::ReadOnly).await.unwrap();
    let history = ledger.job_history(&books(), 10, at(0)).await.unwrap();
    assert_eq!((history.last_slot, history.last_success), (Some(at(0)), Some(at(0))));
    assert_eq!((history.last[0].started, history.last[0].ended), (at(0), Some(at(0))));
}

fn dead_request(fingerprint: &str, at_second: i64, next: i64) -> NewDeadRequest {
    NewDeadRequest {
        id: Uuid::new_v4(),
        connection: bank(),
        uid: "uid-1".into(),
        provider: "data".into(),
        operation: "quote".into(),
        parameters: b"{}".to_vec(),
        encrypted: false,
        fingerprint: fingerprint.into(),
        caller: "{}".into(),
        subject: "ann".into(),
        reason: "timeout".into(),
        status: None,
        request_id: None,
        at: at(at_second),
        next: at(next),
    }
}

pub(crate) async fn dead_requests_stored_while_the_clock_was_ahead_are_due_after_their_delay(store: &impl OpenLedger) {
    for ahead in AHEAD {
        let store = fresh(store).await;
        let ledger = store.writer().await;
        let stored = dead_request("a", ahead, ahead + 90);
        ledger.add_dead_request(&stored, LIMITS).await.unwrap();
        let due = async |now: i64| ledger.due_dead_requests(at(now), 10, 10).await.unwrap();
        assert!(due(0).await.is_empty(), "corrected by the first look");
        assert!(due(89).await.is_empty());
        let due: Vec<DeadRequest> = due(90).await;
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].reviewed, due[0].updated, due[0].request.next), (at(0), at(0), at(90)));
    }
}

pub(crate) async fn a_repetition_does_not_prolong_a_review_of_the_future(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let stored = dead_request("a", HOUR, HOUR + 1);
    ledger.add_dead_request(&stored, LIMITS).await.unwrap();
    let again = ledger.add_dead_request(&dead_request("a", 10, 11), LIMITS).await.unwrap();
    assert_eq!(again, Some(stored.id));
    assert_eq!(ledger.get_dead_request(stored.id).await.unwrap().unwrap().reviewed, at(10));
}

pub(crate) async fn a_retry_planned_for_the_far_future_is_due_within_a_day(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    ledger.add_dead_request(&dead_request("a", 0, 365 * DAY), LIMITS).await.unwrap();
    assert!(ledger.due_dead_requests(at(10), 10, 10).await.unwrap().is_empty());
    assert_eq!(ledger.next_dead_request(at(10)).await.unwrap(), Some(at(10 + DAY)));
}

pub(crate) async fn a_request_parked_while_the_clock_was_ahead_is_pruned_in_time(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take(&*ledger, "dead-requests", "me", 0).await.unwrap();
    let stored = dead_request("a", 0, 1);
    ledger.add_dead_request(&stored, LIMITS).await.unwrap();
    assert!(ledger.settle_dead_request(&lease, stored.id, &RetryOutcome::Done, at(365 * DAY)).await.unwrap());
    ledger.due_dead_requests(at(100), 10, 10).await.unwrap();
    assert_eq!(ledger.prune_dead_requests(&lease, at(100), at(100)).await.unwrap(), 0);
    assert_eq!(ledger.prune_dead_requests(&lease, at(101), at(101)).await.unwrap(), 1);
    assert_eq!(ledger.purge_dead_requests(&bank(), DeadRequestState::Done, &entry(0)).await.unwrap(), 0);
}

fn entry(second: i64) -> AuditEntry {
    AuditEntry {
        at: at(second),
        kind: AuditKind::Call,
        action: "quote".into(),
        subject: "ann".into(),
        rights_profile: None,
        allowed: true,
        namespace: "team".into(),
        connection: "bank".into(),
        provider: None,
        purpose: None,
        reason: None,
        request_id: None,
        repeats: None,
    }
}

pub(crate) async fn an_audit_entry_of_the_future_is_pruned_with_its_successor(store: &impl OpenLedger) {
    for ahead in AHEAD {
        let store = fresh(store).await;
        let ledger = store.writer().await;
        let lease = take(&*ledger, "pruning", "me", 0).await.unwrap();
        ledger.append_audit(&[entry(0), entry(ahead), entry(20), entry(ahead), entry(40)]).await.unwrap();
        let stored = async || {
            let all = ledger.list_audit(None, None, 10).await.unwrap();
            all.into_iter().rev().map(|stored| stored.entry.at).collect::<Vec<_>>()
        };
        assert_eq!(ledger.prune_audit(&lease, by_age(at(10), at(50))).await.unwrap().expired, 1);
        assert_eq!(stored().await, [at(ahead), at(20), at(ahead), at(40)], "kept, as the clock said");
        assert_eq!(ledger.prune_audit(&lease, by_age(at(30), at(50))).await.unwrap().expired, 2);
        assert_eq!(stored().await, [at(ahead), at(40)]);
    }
}

pub(crate) async fn licence_usage_of_a_day_far_ahead_does_not_use_up_that_day(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let key = |second: i64| UsageKey {
        namespace: "team".into(),
        connection: "bank".into(),
        profile: "analysts".into(),
        day: at(second).to_zoned(jiff::tz::TimeZone::UTC).date(),
    };
    for second in [0, DAY, 365 * DAY] {
        assert_eq!(ledger.take_usage(&key(second), 3, 3).await.unwrap(), 3);
    }
    let lease = take(&*ledger, "pruning", "me", 0).await.unwrap();
    ledger.prune_audit(&lease, by_age(at(-DAY), at(0))).await.unwrap();
    // Today's is used up, and so is tomorrow's: it may have begun on another replica.
    assert_eq!(ledger.take_usage(&key(0), 1, 3).await.unwrap(), 0);
    assert_eq!(ledger.take_usage(&key(DAY), 1, 3).await.unwrap(), 0);
    assert_eq!(ledger.take_usage(&key(365 * DAY), 1, 3).await.unwrap(), 1);
}

pub(crate) async fn health_checks_of_the_future_do_not_keep_the_log_from_being_pruned(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let result = |second: i64| ProbeResult {
        connection: bank(),
        at: at(second),
        elapsed: Duration::ZERO,
        success: true,
        slow: false,
        status: Some(200),
        error: None,
    };
    let log = [0, 10, 20, 365 * DAY, 365 * DAY + 10, 30, 40].map(result);
    ledger.record_probes(&log).await.unwrap();
    let lease = take(&*ledger, "pruning", "me", 0).await.unwrap();
    let left = async || ledger.last_probes(&bank(), 99).await.unwrap().len();
    assert_eq!(ledger.prune_probes(&lease, at(5), 2, at(50)).await.unwrap(), 1);
    assert_eq!(ledger.prune_probes(&lease, at(25), 2, at(50)).await.unwrap(), 2);
    // The oldest are those of the future: whatever was written before them has expired.
    assert_eq!(ledger.prune_probes(&lease, at(25), 2, at(50)).await.unwrap(), 2);
    assert_eq!(ledger.prune_probes(&lease, at(25), 2, at(50)).await.unwrap(), 0);
    assert_eq!(left().await, 2);
    // As if last checked when the clock was right again: kept for the retention from then on, not for a year.
    assert_eq!(ledger.prune_probes(&lease, at(DAY), 9, at(DAY)).await.unwrap(), 2);
}

pub(crate) async fn a_delivery_whose_try_was_planned_by_a_clock_ahead_is_due_at_once(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "outbox", "a", at(0)).await;
    let ops = delivery_fixtures::create(&*ledger, &delivery_fixtures::new_consumer("ops")).await;
    delivery_fixtures::append(&*ledger, 1..=2, "a").await;
    let query = delivery_fixtures::query(ops.id);
    for (next_try, expected) in [(3_000, vec![]), (1_000_000, vec![1, 2])] {
        delivery_fixtures::record(&*ledger, &lease, ops.id, 1, delivery_fixtures::failed(next_try)).await;
        assert_eq!(delivery_fixtures::pending(&*ledger, &query).await, expected, "{next_try}");
    }
}
