//! Runs and resyncs that were asked for over HTTP.

use uuid::Uuid;

use super::OpenLedger;
use super::fixtures::{at, audit_entry, books, run_id, take_named};
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
use crate::ledger::requests::{NewRunRequest, RequestOutcome, RequestState, RequestedRun};
use crate::ledger::runs::{RunId, RunStart, RunTrigger};

pub(super) fn request(n: u128, requested: RequestedRun) -> NewRunRequest {
    NewRunRequest {
        id: Uuid::from_u128(n),
        job: books(),
        requested,
        run: run_id(n),
        subject: "ann".into(),
        reason: Some("late refunds".into()),
        at: at(i64::try_from(n).unwrap()),
    }
}

fn resync(id: &str, from: i64) -> RequestedRun {
    RequestedRun::Resync { id: id.into(), from: at(from), to: at(from + 10), partitions: vec!["p 1".into()] }
}

pub(crate) async fn a_repeated_request_is_one_row_and_another_one_is_a_conflict(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (entry, run) = (audit_entry("run", 1), request(1, RequestedRun::Run));
    assert_eq!(ledger.request_run(&run, &entry).await.unwrap(), RequestOutcome::Stored(run.run));
    let again = NewRunRequest { run: run_id(99), at: at(50), ..run.clone() };
    let RequestOutcome::Repeated(stored) = ledger.request_run(&again, &entry).await.unwrap() else { panic!() };
    assert_eq!((stored.request, stored.state, stored.outcome), (run.clone(), RequestState::Open, None));
    let other = NewRunRequest { requested: resync("may", 0), ..run.clone() };
    assert_eq!(ledger.request_run(&other, &entry).await.unwrap(), RequestOutcome::Conflict);
    assert_eq!(ledger.list_audit(None, None, 10).await.unwrap().len(), 1, "one request, one entry");
}

/// A client may send one X-Request-ID twice; run IDs are unique for the whole ledger.
pub(crate) async fn a_run_id_that_is_in_use_is_replaced(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (entry, first) = (audit_entry("run", 1), request(1, RequestedRun::Run));
    assert_eq!(ledger.request_run(&first, &entry).await.unwrap(), RequestOutcome::Stored(first.run));
    let other_job =
        NewRunRequest { job: ObjectKey::new("team", "other"), run: first.run, ..request(2, RequestedRun::Run) };
    let own = RunId(other_job.id);
    assert_eq!(ledger.request_run(&other_job, &entry).await.unwrap(), RequestOutcome::Stored(own));
    let open = ledger.open_requests(Some(&other_job.job)).await.unwrap();
    assert_eq!(open.iter().map(|stored| stored.request.run).collect::<Vec<_>>(), [own]);
    let lease = take_named(&*ledger, "runs", "me", at(10)).await;
    let (id, job, trigger) = (run_id(7), books(), RunTrigger::Manual);
    let run = RunStart { id, job, trigger, slot: None, dry_run: false, events: Vec::new(), at: at(10) };
    assert!(ledger.start_run(&run, &lease).await.unwrap());
    let third = NewRunRequest { run: id, ..request(3, RequestedRun::Run) };
    assert_eq!(ledger.request_run(&third, &entry).await.unwrap(), RequestOutcome::Stored(RunId(third.id)));
    let RequestOutcome::Repeated(stored) = ledger.request_run(&third, &entry).await.unwrap() else { panic!() };
    assert_eq!(stored.request.run, RunId(third.id));
}

pub(crate) async fn the_id_of_a_resync_is_used_once_for_each_job(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let entry = audit_entry("resync", 1);
    let first = request(1, resync("may", 0));
    assert_eq!(ledger.request_run(&first, &entry).await.unwrap(), RequestOutcome::Stored(first.run));
    assert_eq!(ledger.request_run(&request(2, resync("may", 0)), &entry).await.unwrap(), RequestOutcome::Conflict);
    let june = request(3, resync("june", 0));
    assert_eq!(ledger.request_run(&june, &entry).await.unwrap(), RequestOutcome::Stored(june.run));
    let other_job = NewRunRequest { job: ObjectKey::new("team", "other"), ..request(4, resync("may", 0)) };
    assert_eq!(ledger.request_run(&other_job, &entry).await.unwrap(), RequestOutcome::Stored(other_job.run));
    let open = ledger.open_requests(Some(&books())).await.unwrap();
    assert_eq!(open.iter().map(|stored| stored.request.clone()).collect::<Vec<_>>(), [first, june]);
    assert_eq!(ledger.open_requests(None).await.unwrap().len(), 3);
}

pub(crate) async fn a_request_is_closed_once_and_survives_a_restart(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (entry, run) = (audit_entry("run", 1), request(1, RequestedRun::Run));
    ledger.request_run(&run, &entry).await.unwrap();
    ledger.close().await;
    let ledger = store.writer().await;
    assert_eq!(ledger.open_requests(Some(&books())).await.unwrap().len(), 1);
    assert!(ledger.close_request(run.id, RequestState::Done, "Succeeded", at(9)).await.unwrap());
    assert!(!ledger.close_request(run.id, RequestState::Refused, "Suspended", at(10)).await.unwrap());
    assert!(ledger.open_requests(None).await.unwrap().is_empty());
    let RequestOutcome::Repeated(stored) = ledger.request_run(&run, &entry).await.unwrap() else { panic!() };
    assert_eq!(
        (stored.state, stored.outcome.as_deref(), stored.closed),
        (RequestState::Done, Some("Succeeded"), Some(at(9)))
    );
}

pub(crate) async fn closed_runs_are_pruned_and_resyncs_are_not(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let entry = audit_entry("run", 1);
    for (n, requested) in
        [(1, RequestedRun::Run), (2, RequestedRun::Run), (3, resync("may", 0)), (4, RequestedRun::Run)]
    {
        ledger.request_run(&request(n, requested), &entry).await.unwrap();
    }
    for (n, closed) in [(1, 10), (2, 100), (3, 10)] {
        let id = Uuid::from_u128(n);
        assert!(ledger.close_request(id, RequestState::Done, "Succeeded", at(closed)).await.unwrap());
    }
    let former = take_named(&*ledger, "retention", "a", at(0)).await;
    let lease = take_named(&*ledger, "retention", "b", at(60)).await;
    let fenced = ledger.prune_requests(&former, at(50), 10).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    assert_eq!(ledger.prune_requests(&lease, at(50), 10).await.unwrap(), 1);
    let again = request(5, resync("may", 0));
    assert_eq!(ledger.request_run(&again, &entry).await.unwrap(), RequestOutcome::Conflict, "its ID stays used");
    assert_eq!(ledger.open_requests(None).await.unwrap().len(), 1);
}
