//! Dead requests: storage, retries, replay and queries.

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::clock_skew::{correct_dead_requests, dead_requests_are_ahead};
use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::dead_requests::{
    DeadRequest, DeadRequestCounts, DeadRequestFilter, DeadRequestLimits, DeadRequestOwner, DeadRequestState,
    DeadRequests, NewDeadRequest, RetryOutcome,
};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::codec::{OperationName, count, get, instant, instant_opt, millis, stored_enum, to_i64};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::database::SqliteLedger;
use crate::ledger::sqlite::{audit, lease, outbox};

mod removal;

const ADD: OperationName = OperationName("storing a dead request");
const READ: OperationName = OperationName("reading dead requests");
const SETTLE: OperationName = OperationName("recording the outcome of a retry");
const REPLAY: OperationName = OperationName("replaying a dead request");
const CORRECT: OperationName = OperationName("correcting the times of dead requests");
const PRUNE: OperationName = OperationName("pruning dead requests");

/// The part of a connection's limit that it has even if the total is reached.
const GUARANTEED_PART: u64 = 10;

const COLUMNS: &str = "seq, id, namespace, connection, provider, operation, parameters, sealed, fingerprint, caller,
    subject, state, reason, status, tries, seen, request_id, created_ms, updated_ms, next_ms, uid, reviewed_ms";

impl DeadRequests for SqliteLedger {
    fn add_dead_request<'a>(
        &'a self,
        request: &'a NewDeadRequest,
        limits: DeadRequestLimits,
    ) -> LedgerFuture<'a, Option<Uuid>> {
        let request = request.clone();
        self.write(ADD, move |tx| add(tx, &request, limits)).boxed()
    }

    fn due_dead_requests(&self, now: Timestamp, limit: u32, per_connection: u32) -> LedgerFuture<'_, Vec<DeadRequest>> {
        async move {
            if self.read(READ, move |tx| dead_requests_are_ahead(tx, now)).await? {
                tracing::warn!(
                    "times of dead requests are ahead of the clock, which was wrong when they were written; treated as now"
                );
                self.write(CORRECT, move |tx| correct_dead_requests(tx, now)).await?;
            }
            self.read(READ, move |tx| due(tx, now, limit, per_connection)).await
        }
        .boxed()
    }

    fn next_dead_request(&self, after: Timestamp) -> LedgerFuture<'_, Option<Timestamp>> {
        self.read(READ, move |tx| {
            let next: Option<i64> = tx.scalar(
                "SELECT min(next_ms) FROM dead_requests WHERE state = 'pending' AND next_ms > ?1",
                [millis(after)],
            )?;
            instant_opt(next, "dead_requests.next_ms")
        })
        .boxed()
    }

    fn settle_dead_request<'a>(
        &'a self,
        lease: &'a Lease,
        id: Uuid,
        outcome: &'a RetryOutcome,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool> {
        let (lease, outcome) = (lease.clone(), outcome.clone());
        self.write(SETTLE, move |tx| {
            lease::assert_held(tx, &lease)?;
            settle(tx, &lease, id, &outcome, now)
        })
        .boxed()
    }

    fn replay_dead_request<'a>(
        &'a self,
        id: Uuid,
        caller: &'a str,
        audit: &'a AuditEntry,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool> {
        let (caller, entry) = (caller.to_owned(), audit.clone());
        self.write(REPLAY, move |tx| {
            let replayed = tx.execute(
                "UPDATE dead_requests SET state = 'pending', tries = 0, next_ms = ?2, updated_ms = ?2,
                     reviewed_ms = ?2, caller = ?3
                 WHERE id = ?1 AND state = 'parked' AND NOT EXISTS (
                     SELECT 1 FROM dead_requests o
                     WHERE o.fingerprint = dead_requests.fingerprint AND o.state = 'pending')",
                params![id.to_string(), millis(now), caller],
            )?;
            if replayed == 0 {
                return Ok(false);
            }
            audit::append(tx, &entry)?;
            Ok(true)
        })
        .boxed()
    }

    fn discard_dead_request<'a>(&'a self, id: Uuid, audit: &'a AuditEntry) -> LedgerFuture<'a, bool> {
        removal::discard(self, id, audit).boxed()
    }

    fn purge_dead_requests<'a>(
        &'a self,
        connection: &'a ObjectKey,
        state: DeadRequestState,
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64> {
        removal::purge(self, connection, state, audit).boxed()
    }

    fn dead_request_owners(&self) -> LedgerFuture<'_, Vec<DeadRequestOwner>> {
        removal::owners(self).boxed()
    }

    fn delete_orphaned_dead_requests<'a>(
        &'a self,
        lease: &'a Lease,
        owner: &'a DeadRequestOwner,
        before: Timestamp,
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64> {
        removal::delete_orphaned(self, lease, owner, before, audit).boxed()
    }

    fn get_dead_request(&self, id: Uuid) -> LedgerFuture<'_, Option<DeadRequest>> {
        self.read(READ, move |tx| {
            let sql = format!("SELECT {COLUMNS} FROM dead_requests WHERE id = ?1");
            tx.query_opt(&sql, [id.to_string()], decode)
        })
        .boxed()
    }

    fn list_dead_requests<'a>(
        &'a self,
        filter: &'a DeadRequestFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<DeadRequest>> {
        let filter = filter.clone();
        self.read(READ, move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM dead_requests WHERE (?1 IS NULL OR namespace = ?1)
                     AND (?2 IS NULL OR connection = ?2) AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR seq < ?4)
                 ORDER BY seq DESC LIMIT ?5"
            );
            let state = filter.state.map(DeadRequestState::as_str);
            tx.query_all(&sql, params![filter.namespace, filter.connection, state, filter.before, limit], decode)
        })
        .boxed()
    }

    fn count_dead_requests(&self) -> LedgerFuture<'_, DeadRequestCounts> {
        self.read(READ, |tx| {
            let counts = tx.query_opt(
                "SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
                        count(*) FILTER (WHERE state = 'parked') AS parked
                 FROM dead_requests WHERE state IN ('pending', 'parked')",
                [],
                |row| Ok(DeadRequestCounts { pending: count(row, "pending")?, parked: count(row, "parked")? }),
            )?;
            Ok(counts.unwrap_or_default())
        })
        .boxed()
    }

    fn prune_dead_requests<'a>(
        &'a self,
        lease: &'a Lease,
        done: Timestamp,
        parked: Timestamp,
    ) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            lease::assert_held(tx, &lease)?;
            tx.execute(
                "DELETE FROM dead_requests
                 WHERE (state = 'done' AND updated_ms < ?1) OR (state = 'parked' AND updated_ms < ?2)",
                [millis(done), millis(parked)],
            )
        })
        .boxed()
    }
}

fn due(tx: &Transaction<'_>, now: Timestamp, limit: u32, per_connection: u32) -> Result<Vec<DeadRequest>, LedgerError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM (
             SELECT *, row_number() OVER (PARTITION BY namespace ORDER BY next_ms, seq) AS turn FROM (
                 SELECT *, row_number() OVER (PARTITION BY namespace, connection ORDER BY next_ms, seq) AS place
                 FROM dead_requests WHERE state = 'pending' AND next_ms <= ?1)
             WHERE place <= ?3)
         ORDER BY turn, next_ms, seq LIMIT ?2"
    );
    tx.query_all(&sql, params![millis(now), limit, per_connection], decode)
}

fn add(tx: &Transaction<'_>, request: &NewDeadRequest, limits: DeadRequestLimits) -> Result<Option<Uuid>, LedgerError> {
    if dead_requests_are_ahead(tx, request.at)? {
        correct_dead_requests(tx, request.at)?;
    }
    // Prefers the pending one. A parked one is counted only if none is pending, and stays parked: a caller that polls a
    // failing operation must not restart its retries.
    let existing: Option<String> = tx.scalar_opt(
        "UPDATE dead_requests SET seen = seen + 1, updated_ms = ?2,
             reason = CASE state WHEN 'parked' THEN ?3 ELSE reason END,
             status = CASE state WHEN 'parked' THEN ?4 ELSE status END
         WHERE seq = (SELECT seq FROM (
             SELECT seq, 0 AS place FROM dead_requests WHERE fingerprint = ?1 AND state = 'pending'
             UNION ALL SELECT seq, 1 FROM dead_requests WHERE fingerprint = ?1 AND state = 'parked')
             ORDER BY place, seq DESC LIMIT 1)
         RETURNING id",
        params![request.fingerprint, millis(request.at), request.reason, request.status],
    )?;
    if let Some(id) = existing {
        return Uuid::parse_str(&id).map(Some).map_err(|_| LedgerError::Corrupt { column: "dead_requests.id" });
    }
    let total: i64 = tx.scalar("SELECT count(*) FROM dead_requests WHERE state IN ('pending', 'parked')", [])?;
    let per_connection: i64 = tx.scalar(
        "SELECT count(*) FROM dead_requests WHERE namespace = ?1 AND connection = ?2 AND state IN ('pending', 'parked')",
        params![&*request.connection.namespace, &*request.connection.name],
    )?;
    let guaranteed = to_i64(limits.connection / GUARANTEED_PART);
    if per_connection >= to_i64(limits.connection) || (total >= to_i64(limits.total) && per_connection >= guaranteed) {
        return Ok(None);
    }
    tx.execute(
        "INSERT INTO dead_requests (id, namespace, connection, provider, operation, parameters, sealed, fingerprint,
             caller, subject, state, reason, status, request_id, created_ms, updated_ms, reviewed_ms, next_ms,
             uid)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'pending', ?11, ?12, ?13, ?14, ?14, ?14, ?15, ?16)",
        params![
            request.id.to_string(),
            &*request.connection.namespace,
            &*request.connection.name,
            request.provider,
            request.operation,
            request.parameters,
            request.encrypted,
            request.fingerprint,
            request.caller,
            request.subject,
            request.reason,
            request.status,
            request.request_id.map(|id| id.to_string()),
            millis(request.at),
            millis(request.next),
            request.uid,
        ],
    )?;
    Ok(Some(request.id))
}

fn settle(
    tx: &Transaction<'_>,
    lease: &Lease,
    id: Uuid,
    outcome: &RetryOutcome,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let (state, next, reason, status, attempted) = match outcome {
        RetryOutcome::Done => (DeadRequestState::Done, None, None, None, true),
        RetryOutcome::Retry { next, reason, status } => {
            (DeadRequestState::Pending, Some(*next), Some(reason), *status, true)
        }
        RetryOutcome::Parked { reason, status, .. } => (DeadRequestState::Parked, None, Some(reason), *status, true),
        RetryOutcome::Postponed { next } => (DeadRequestState::Pending, Some(*next), None, None, false),
    };
    let settled = tx.execute(
        "UPDATE dead_requests SET state = ?2, next_ms = ?3, reason = coalesce(?4, reason),
             status = CASE WHEN ?4 IS NULL THEN status ELSE ?5 END, tries = tries + ?6, fence = ?7, updated_ms = ?8
         WHERE id = ?1 AND state = 'pending'",
        params![
            id.to_string(),
            state.as_str(),
            next.map(millis),
            reason,
            status,
            i64::from(attempted),
            lease.fence,
            millis(now),
        ],
    )?;
    if settled == 0 {
        return Ok(false);
    }
    if let RetryOutcome::Parked { audit: entry, event, .. } = outcome {
        audit::append(tx, entry)?;
        outbox::append(tx, std::slice::from_ref(&**event), now)?;
    }
    Ok(true)
}

fn decode(row: &Row<'_>) -> Result<DeadRequest, LedgerError> {
    let state: String = get(row, "state")?;
    let at = instant(get(row, "created_ms")?, "dead_requests.created_ms")?;
    let updated = instant(get(row, "updated_ms")?, "dead_requests.updated_ms")?;
    let corrupt = LedgerError::Corrupt { column: "dead_requests.id" };
    let namespace: String = get(row, "namespace")?;
    let name: String = get(row, "connection")?;
    Ok(DeadRequest {
        seq: get(row, "seq")?,
        state: stored_enum(&DeadRequestState::ALL, DeadRequestState::as_str, &state, "dead_requests.state")?,
        tries: get(row, "tries")?,
        seen: count(row, "seen")?,
        reviewed: instant(get(row, "reviewed_ms")?, "dead_requests.reviewed_ms")?,
        updated,
        request: NewDeadRequest {
            id: audit::uuid_opt(row, "id", "dead_requests.id")?.ok_or(corrupt)?,
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
            status: get(row, "status")?,
            request_id: audit::uuid_opt(row, "request_id", "dead_requests.request_id")?,
            at,
            next: instant_opt(get(row, "next_ms")?, "dead_requests.next_ms")?.unwrap_or(updated),
        },
    })
}
