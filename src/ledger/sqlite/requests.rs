//! Runs and resyncs that were asked for over HTTP.

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::audit;
use super::codec::{OperationName, get, instant, instant_opt, millis, stored_enum};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::lease::assert_held;
use super::outbox::uuid;
use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::requests::{
    NewRunRequest, RequestOutcome, RequestState, RequestedRun, RunRequests, StoredRunRequest,
};
use crate::ledger::runs::RunId;

const STORE: OperationName = OperationName("storing a run request");
const LIST: OperationName = OperationName("listing run requests");
const CLOSE: OperationName = OperationName("closing a run request");
const PRUNE: OperationName = OperationName("pruning run requests");

const SELECT: &str = "SELECT id, namespace, job, kind, resync_id, from_ms, to_ms, partitions, run_id, subject, reason, \
     state, outcome, created_ms, closed_ms FROM run_requests";

/// Two resyncs with one ID, and two requests with one key, are one row.
const INSERT: &str = "INSERT INTO run_requests (id, namespace, job, kind, resync_id, from_ms, to_ms, partitions, \
     run_id, subject, reason, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
     ON CONFLICT DO NOTHING";

/// Whether a run, or another request than ?2, has the ID ?1.
const IS_USED: &str = "SELECT EXISTS (SELECT 1 FROM sync_runs WHERE run_id = ?1)
     OR EXISTS (SELECT 1 FROM run_requests WHERE run_id = ?1 AND id <> ?2)";

impl RunRequests for SqliteLedger {
    fn request_run<'a>(
        &'a self,
        request: &'a NewRunRequest,
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, RequestOutcome> {
        let (request, entry) = (request.clone(), audit.clone());
        self.write(STORE, move |tx| store(tx, &request, &entry)).boxed()
    }

    fn open_requests<'a>(&'a self, job: Option<&'a ObjectKey>) -> LedgerFuture<'a, Vec<StoredRunRequest>> {
        let job = job.cloned();
        self.read(LIST, move |tx| {
            let (namespace, name) = (job.as_ref().map(|job| &*job.namespace), job.as_ref().map(|job| &*job.name));
            tx.query_all(
                &format!(
                    "{SELECT} WHERE state = 'open' AND (?1 IS NULL OR (namespace = ?1 AND job = ?2))
                     ORDER BY created_ms, id"
                ),
                params![namespace, name],
                decode,
            )
        })
        .boxed()
    }

    fn close_request<'a>(
        &'a self,
        id: Uuid,
        state: RequestState,
        outcome: &'a str,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool> {
        let outcome = outcome.to_owned();
        self.write(CLOSE, move |tx| {
            let closed = tx.execute(
                "UPDATE run_requests SET state = ?2, outcome = ?3, closed_ms = ?4 WHERE id = ?1 AND state = 'open'",
                params![id.to_string(), state.as_str(), outcome, millis(now)],
            )?;
            Ok(closed > 0)
        })
        .boxed()
    }

    fn prune_requests<'a>(&'a self, lease: &'a Lease, before: Timestamp, limit: u32) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            assert_held(tx, &lease)?;
            tx.execute(
                "DELETE FROM run_requests WHERE id IN (SELECT id FROM run_requests
                     WHERE state <> 'open' AND resync_id IS NULL AND closed_ms < ?1 LIMIT ?2)",
                params![millis(before), limit],
            )
        })
        .boxed()
    }
}

/// The ID of the run of `request`. A correlation ID that a client sends twice is one ID: the second run would count as
/// recorded, and its job would wait for it forever.
fn run_of(tx: &Transaction<'_>, request: &NewRunRequest) -> Result<RunId, LedgerError> {
    for run in [request.run, RunId(request.id)] {
        let is_used: bool = tx.scalar(IS_USED, params![run.to_string(), request.id.to_string()])?;
        if !is_used {
            return Ok(run);
        }
    }
    // A request whose row was pruned, with the key of a run that is still in the history.
    Ok(RunId(Uuid::new_v4()))
}

fn store(tx: &Transaction<'_>, request: &NewRunRequest, entry: &AuditEntry) -> Result<RequestOutcome, LedgerError> {
    let (kind, resync_id, from, to, partitions) = match &request.requested {
        RequestedRun::Run => ("run", None, None, None, "[]".to_owned()),
        RequestedRun::Resync { id, from, to, partitions } => {
            let list = serde_json::to_string(partitions);
            let list = list.map_err(|_| LedgerError::Corrupt { column: "run_requests.partitions" })?;
            ("resync", Some(id.as_str()), Some(millis(*from)), Some(millis(*to)), list)
        }
    };
    let run = run_of(tx, request)?;
    let inserted = tx.execute(
        INSERT,
        params![
            request.id.to_string(),
            &*request.job.namespace,
            &*request.job.name,
            kind,
            resync_id,
            from,
            to,
            partitions,
            run.to_string(),
            request.subject,
            request.reason,
            millis(request.at),
        ],
    )?;
    if inserted > 0 {
        audit::append(tx, entry)?;
        return Ok(RequestOutcome::Stored(run));
    }
    let stored = tx.query_opt(&format!("{SELECT} WHERE id = ?1"), [request.id.to_string()], decode)?;
    Ok(match stored {
        Some(stored) if stored.request.job == request.job && stored.request.requested == request.requested => {
            RequestOutcome::Repeated(Box::new(stored))
        }
        _ => RequestOutcome::Conflict,
    })
}

fn decode(row: &Row<'_>) -> Result<StoredRunRequest, LedgerError> {
    let (namespace, job): (String, String) = (get(row, "namespace")?, get(row, "job")?);
    let (kind, state): (String, String) = (get(row, "kind")?, get(row, "state")?);
    let requested = if kind == "run" { RequestedRun::Run } else { resync(row)? };
    Ok(StoredRunRequest {
        request: NewRunRequest {
            id: uuid(row, "id", "run_requests.id")?,
            job: ObjectKey::new(namespace, job),
            requested,
            run: RunId(uuid(row, "run_id", "run_requests.run_id")?),
            subject: get(row, "subject")?,
            reason: get(row, "reason")?,
            at: instant(get(row, "created_ms")?, "run_requests.created_ms")?,
        },
        state: stored_enum(&RequestState::ALL, RequestState::as_str, &state, "run_requests.state")?,
        outcome: get(row, "outcome")?,
        closed: instant_opt(get(row, "closed_ms")?, "run_requests.closed_ms")?,
    })
}

fn resync(row: &Row<'_>) -> Result<RequestedRun, LedgerError> {
    let corrupt = |column| LedgerError::Corrupt { column };
    let partitions: String = get(row, "partitions")?;
    Ok(RequestedRun::Resync {
        id: get(row, "resync_id")?,
        from: instant(get(row, "from_ms")?, "run_requests.from_ms")?,
        to: instant(get(row, "to_ms")?, "run_requests.to_ms")?,
        partitions: serde_json::from_str(&partitions).map_err(|_| corrupt("run_requests.partitions"))?,
    })
}
