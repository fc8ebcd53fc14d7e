//! Runs and resyncs that were asked for over HTTP.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::audit;
use super::codec::{get, instant, millis, stored_enum, text, text_opt, timestamp, timestamp_opt};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::outbox::uuid;
use super::transaction::{Transaction, lock, read_tx, write_tx};
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

const OPEN: &str = "SELECT id, namespace, job, kind, resync_id, from_ms, to_ms, partitions, run_id, subject, reason,
         state, outcome, created_ms, closed_ms
     FROM run_requests WHERE state = 'open' AND ($1::text IS NULL OR (namespace = $1 AND job = $2))
     ORDER BY created_ms, id";

const BY_ID: &str = "SELECT id, namespace, job, kind, resync_id, from_ms, to_ms, partitions, run_id, subject, reason,
         state, outcome, created_ms, closed_ms
     FROM run_requests WHERE id = $1";

/// Two resyncs with one ID, and two requests with one key, are one row.
const INSERT: &str = "INSERT INTO run_requests (id, namespace, job, kind, resync_id, from_ms, to_ms, partitions,
         run_id, subject, reason, created_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING";

/// Whether a run, or another request than $2, has the ID $1.
const IS_USED: &str = "SELECT EXISTS (SELECT 1 FROM sync_runs WHERE run_id = $1)
     OR EXISTS (SELECT 1 FROM run_requests WHERE run_id = $1 AND id <> $2)";

impl RunRequests for PostgresLedger {
    fn request_run<'a>(
        &'a self,
        request: &'a NewRunRequest,
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, RequestOutcome> {
        async move { write_tx!(self, STORE, |tx| store(tx, request, audit).await) }.boxed()
    }

    fn open_requests<'a>(&'a self, job: Option<&'a ObjectKey>) -> LedgerFuture<'a, Vec<StoredRunRequest>> {
        async move {
            read_tx!(self, LIST, |tx| {
                let (namespace, name) = (job.map(|job| &*job.namespace), job.map(|job| &*job.name));
                let rows = tx.fetch_all(sqlx::query(OPEN).bind(namespace).bind(name)).await?;
                rows.iter().map(decode).collect::<Result<Vec<_>, LedgerError>>()
            })
        }
        .boxed()
    }

    fn close_request<'a>(
        &'a self,
        id: Uuid,
        state: RequestState,
        outcome: &'a str,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool> {
        async move {
            write_tx!(self, CLOSE, |tx| {
                let statement = sqlx::query(
                    "UPDATE run_requests SET state = $2, outcome = $3, closed_ms = $4
                     WHERE id = $1 AND state = 'open'",
                );
                let statement = statement.bind(id.to_string()).bind(state.as_str());
                let closed = tx.execute(statement.bind(text(outcome).into_owned()).bind(millis(now))).await?;
                Ok(closed > 0)
            })
        }
        .boxed()
    }

    fn prune_requests<'a>(&'a self, lease: &'a Lease, before: Timestamp, limit: u32) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                let statement = sqlx::query(
                    "DELETE FROM run_requests WHERE id = ANY (ARRAY(SELECT id FROM run_requests
                         WHERE state <> 'open' AND resync_id IS NULL AND closed_ms < $1 LIMIT $2))",
                );
                tx.execute(statement.bind(millis(before)).bind(i64::from(limit))).await
            })
        }
        .boxed()
    }
}

/// The ID of the run of `request`. A correlation ID that a client sends twice is one ID: the second run would count as
/// recorded, and its job would wait for it forever.
async fn run_of(tx: &mut Transaction, request: &NewRunRequest) -> Result<RunId, LedgerError> {
    for run in [request.run, RunId(request.id)] {
        // Until the end of the transaction, so that of two requests at once the second one finds the first.
        lock(tx, &format!("run request {run}")).await?;
        let statement = sqlx::query(IS_USED).bind(run.to_string()).bind(request.id.to_string());
        let is_used: bool = tx.scalar(statement).await?;
        if !is_used {
            return Ok(run);
        }
    }
    // A request whose row was pruned, with the key of a run that is still in the history.
    Ok(RunId(Uuid::new_v4()))
}

async fn store(
    tx: &mut Transaction,
    request: &NewRunRequest,
    entry: &AuditEntry,
) -> Result<RequestOutcome, LedgerError> {
    let (kind, resync_id, from, to, partitions) = match &request.requested {
        RequestedRun::Run => ("run", None, None, None, "[]".to_owned()),
        RequestedRun::Resync { id, from, to, partitions } => {
            let list = serde_json::to_string(partitions);
            let list = list.map_err(|_| LedgerError::Corrupt { column: "run_requests.partitions" })?;
            ("resync", Some(id.as_str()), Some(millis(*from)), Some(millis(*to)), list)
        }
    };
    let run = run_of(tx, request).await?;
    let statement = sqlx::query(INSERT)
        .bind(request.id.to_string())
        .bind(&*request.job.namespace)
        .bind(&*request.job.name)
        .bind(kind)
        .bind(text_opt(resync_id).map(std::borrow::Cow::into_owned))
        .bind(from)
        .bind(to)
        .bind(partitions)
        .bind(run.to_string())
        .bind(text(&request.subject).into_owned())
        .bind(text_opt(request.reason.as_deref()).map(std::borrow::Cow::into_owned))
        .bind(millis(request.at));
    if tx.execute(statement).await? > 0 {
        audit::append(tx, entry).await?;
        return Ok(RequestOutcome::Stored(run));
    }
    let stored = tx.fetch_optional(sqlx::query(BY_ID).bind(request.id.to_string())).await?;
    Ok(match stored.as_ref().map(decode).transpose()? {
        Some(stored) if stored.request.job == request.job && stored.request.requested == request.requested => {
            RequestOutcome::Repeated(Box::new(stored))
        }
        _ => RequestOutcome::Conflict,
    })
}

fn decode(row: &PgRow) -> Result<StoredRunRequest, LedgerError> {
    let (namespace, job): (String, String) = (get(row, "namespace")?, get(row, "job")?);
    let (kind, state): (String, String) = (get(row, "kind")?, get(row, "state")?);
    let requested = if kind == "run" { RequestedRun::Run } else { resync(row)? };
    Ok(StoredRunRequest {
        request: NewRunRequest {
            id: uuid(row, "id")?,
            job: ObjectKey::new(namespace, job),
            requested,
            run: RunId(uuid(row, "run_id")?),
            subject: get(row, "subject")?,
            reason: get(row, "reason")?,
            at: timestamp(row, "created_ms")?,
        },
        state: stored_enum(&RequestState::ALL, RequestState::as_str, &state, "run_requests.state")?,
        outcome: get(row, "outcome")?,
        closed: timestamp_opt(row, "closed_ms")?,
    })
}

fn resync(row: &PgRow) -> Result<RequestedRun, LedgerError> {
    let partitions: String = get(row, "partitions")?;
    Ok(RequestedRun::Resync {
        id: get(row, "resync_id")?,
        from: instant(get(row, "from_ms")?, "run_requests.from_ms")?,
        to: instant(get(row, "to_ms")?, "run_requests.to_ms")?,
        partitions: serde_json::from_str(&partitions)
            .map_err(|_| LedgerError::Corrupt { column: "run_requests.partitions" })?,
    })
}
