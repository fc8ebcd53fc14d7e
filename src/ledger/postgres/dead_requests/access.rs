//! The engine behind [`DeadRequests`], and its queries.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::{removal, settling, storing};
use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::dead_requests::{
    DeadRequest, DeadRequestCounts, DeadRequestFilter, DeadRequestLimits, DeadRequestOwner, DeadRequestState,
    DeadRequests, NewDeadRequest, RetryOutcome,
};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::postgres::clock_skew::{correct_dead_requests, dead_requests_are_ahead};
use crate::ledger::postgres::codec::{
    count, get, instant_opt, millis, small, small_opt, stored_enum, timestamp, timestamp_opt, uuid_opt,
};
use crate::ledger::postgres::database::PostgresLedger;
use crate::ledger::postgres::failure::OperationName;
use crate::ledger::postgres::transaction::{Transaction, read_tx, write_tx};

const ADD: OperationName = OperationName("storing a dead request");
const READ: OperationName = OperationName("reading dead requests");
const SETTLE: OperationName = OperationName("recording the outcome of a retry");
const REPLAY: OperationName = OperationName("replaying a dead request");
const CORRECT: OperationName = OperationName("correcting the times of dead requests");
const DISCARD: OperationName = OperationName("deleting a dead request");
const PURGE: OperationName = OperationName("deleting a connection's dead requests");
const PRUNE: OperationName = OperationName("pruning dead requests");

const COLUMNS: &str = "seq, id, namespace, connection, provider, operation, parameters, sealed, fingerprint, caller,
    subject, state, reason, status, tries, seen, request_id, created_ms, updated_ms, next_ms, uid, reviewed_ms";

impl DeadRequests for PostgresLedger {
    fn add_dead_request<'a>(
        &'a self,
        request: &'a NewDeadRequest,
        limits: DeadRequestLimits,
    ) -> LedgerFuture<'a, Option<Uuid>> {
        async move { write_tx!(self, ADD, |tx| storing::add(tx, request, limits).await) }.boxed()
    }

    fn due_dead_requests(&self, now: Timestamp, limit: u32, per_connection: u32) -> LedgerFuture<'_, Vec<DeadRequest>> {
        async move {
            if read_tx!(self, READ, |tx| dead_requests_are_ahead(tx, now).await)? {
                tracing::warn!(
                    "times of dead requests are ahead of the clock, which was wrong when they were written; treated as now"
                );
                write_tx!(self, CORRECT, |tx| correct_dead_requests(tx, now).await)?;
            }
            read_tx!(self, READ, |tx| due(tx, now, limit, per_connection).await)
        }
        .boxed()
    }

    fn next_dead_request(&self, after: Timestamp) -> LedgerFuture<'_, Option<Timestamp>> {
        async move {
            let next: Option<i64> = read_tx!(self, READ, |tx| {
                let statement =
                    query("SELECT min(next_ms) FROM dead_requests WHERE state = 'pending' AND next_ms > $1");
                tx.scalar(statement.bind(millis(after))).await
            })?;
            instant_opt(next, "dead_requests.next_ms")
        }
        .boxed()
    }

    fn settle_dead_request<'a>(
        &'a self,
        lease: &'a Lease,
        id: Uuid,
        outcome: &'a RetryOutcome,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool> {
        async move { write_tx!(self, SETTLE, |tx| settling::settle(tx, lease, id, outcome, now).await) }.boxed()
    }

    fn replay_dead_request<'a>(
        &'a self,
        id: Uuid,
        caller: &'a str,
        audit: &'a AuditEntry,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool> {
        async move { write_tx!(self, REPLAY, |tx| settling::replay(tx, id, caller, audit, now).await) }.boxed()
    }

    fn discard_dead_request<'a>(&'a self, id: Uuid, audit: &'a AuditEntry) -> LedgerFuture<'a, bool> {
        async move { write_tx!(self, DISCARD, |tx| removal::discard(tx, id, audit).await) }.boxed()
    }

    fn purge_dead_requests<'a>(
        &'a self,
        connection: &'a ObjectKey,
        state: DeadRequestState,
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64> {
        async move { write_tx!(self, PURGE, |tx| removal::purge(tx, connection, state, audit).await) }.boxed()
    }

    fn dead_request_owners(&self) -> LedgerFuture<'_, Vec<DeadRequestOwner>> {
        async move {
            let rows = read_tx!(self, READ, |tx| {
                tx.fetch_all(query("SELECT DISTINCT namespace, connection, uid FROM dead_requests")).await
            })?;
            rows.iter().map(owner).collect()
        }
        .boxed()
    }

    fn delete_orphaned_dead_requests<'a>(
        &'a self,
        lease: &'a Lease,
        owner: &'a DeadRequestOwner,
        before: Timestamp,
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64> {
        async move { write_tx!(self, PURGE, |tx| removal::delete_orphaned(tx, lease, owner, before, audit).await) }
            .boxed()
    }

    fn get_dead_request(&self, id: Uuid) -> LedgerFuture<'_, Option<DeadRequest>> {
        async move {
            let sql = format!("SELECT {COLUMNS} FROM dead_requests WHERE id = $1");
            let row = read_tx!(self, READ, |tx| {
                tx.fetch_optional(query(AssertSqlSafe(sql.clone())).bind(id.to_string())).await
            })?;
            row.map(|row| decode(&row)).transpose()
        }
        .boxed()
    }

    fn list_dead_requests<'a>(
        &'a self,
        filter: &'a DeadRequestFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<DeadRequest>> {
        async move {
            let sql = format!(
                "SELECT {COLUMNS} FROM dead_requests WHERE ($1 IS NULL OR namespace = $1)
                     AND ($2 IS NULL OR connection = $2) AND ($3 IS NULL OR state = $3) AND ($4 IS NULL OR seq < $4)
                 ORDER BY seq DESC LIMIT $5"
            );
            let rows = read_tx!(self, READ, |tx| {
                let statement = query(AssertSqlSafe(sql.clone())).bind(&filter.namespace).bind(&filter.connection);
                let statement = statement.bind(filter.state.map(DeadRequestState::as_str)).bind(filter.before);
                tx.fetch_all(statement.bind(i64::from(limit))).await
            })?;
            rows.iter().map(decode).collect()
        }
        .boxed()
    }

    fn count_dead_requests(&self) -> LedgerFuture<'_, DeadRequestCounts> {
        async move {
            let row = read_tx!(self, READ, |tx| {
                let statement = query(
                    "SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
                            count(*) FILTER (WHERE state = 'parked') AS parked
                     FROM dead_requests WHERE state IN ('pending', 'parked')",
                );
                tx.fetch_optional(statement).await
            })?;
            let Some(row) = row else { return Ok(DeadRequestCounts::default()) };
            Ok(DeadRequestCounts { pending: count(&row, "pending")?, parked: count(&row, "parked")? })
        }
        .boxed()
    }

    fn prune_dead_requests<'a>(
        &'a self,
        lease: &'a Lease,
        done: Timestamp,
        parked: Timestamp,
    ) -> LedgerFuture<'a, u64> {
        async move { write_tx!(self, PRUNE, |tx| removal::prune(tx, lease, done, parked).await) }.boxed()
    }
}

async fn due(
    tx: &mut Transaction,
    now: Timestamp,
    limit: u32,
    per_connection: u32,
) -> Result<Vec<DeadRequest>, LedgerError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM (
             SELECT p.*, row_number() OVER (PARTITION BY namespace ORDER BY next_ms, seq) AS turn FROM (
                 SELECT d.*, row_number() OVER (PARTITION BY namespace, connection ORDER BY next_ms, seq) AS place
                 FROM dead_requests d WHERE state = 'pending' AND next_ms <= $1) p
             WHERE place <= $3) q
         ORDER BY turn, next_ms, seq LIMIT $2"
    );
    let statement = query(AssertSqlSafe(sql)).bind(millis(now)).bind(i64::from(limit));
    tx.fetch_all(statement.bind(i64::from(per_connection))).await?.iter().map(decode).collect()
}

fn owner(row: &PgRow) -> Result<DeadRequestOwner, LedgerError> {
    let (namespace, name): (String, String) = (get(row, "namespace")?, get(row, "connection")?);
    Ok(DeadRequestOwner { connection: ObjectKey::new(namespace, name), uid: get(row, "uid")? })
}

fn decode(row: &PgRow) -> Result<DeadRequest, LedgerError> {
    let state: String = get(row, "state")?;
    let updated = timestamp(row, "updated_ms")?;
    let (namespace, name): (String, String) = (get(row, "namespace")?, get(row, "connection")?);
    Ok(DeadRequest {
        seq: get(row, "seq")?,
        state: stored_enum(&DeadRequestState::ALL, DeadRequestState::as_str, &state, "dead_requests.state")?,
        tries: small(row, "tries")?,
        seen: count(row, "seen")?,
        reviewed: timestamp(row, "reviewed_ms")?,
        updated,
        request: NewDeadRequest {
            id: uuid_opt(row, "id")?.ok_or(LedgerError::Corrupt { column: "dead_requests.id" })?,
            connection: ObjectKey::new(namespace, name),
            uid: get(row, "uid")?,
            provider: get(row, "provider")?,
            operation: get(row, "operation")?,
            parameters: get(row, "parameters")?,
            encrypted: get(row, "sealed")?,
            fingerprint: get(row, "fingerprint")?,
            caller: get(row, "caller")?,
            subject: get(row, "subject")?,
            reason: get(row, "reason")?,
            status: small_opt(row, "status")?,
            request_id: uuid_opt(row, "request_id")?,
            at: timestamp(row, "created_ms")?,
            next: timestamp_opt(row, "next_ms")?.unwrap_or(updated),
        },
    })
}
