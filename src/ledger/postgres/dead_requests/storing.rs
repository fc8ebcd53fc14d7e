//! Stores dead requests, within their limits.

use sqlx::query;
use uuid::Uuid;

use crate::ledger::dead_requests::{DeadRequestLimits, NewDeadRequest};
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::clock_skew::{correct_dead_requests, dead_requests_are_ahead};
use crate::ledger::postgres::codec::{millis, text, to_i64};
use crate::ledger::postgres::transaction::{Transaction, lock};

/// The part of a connection's limit that it has even if the total is reached.
const GUARANTEED_PART: u64 = 10;

/// The lock of all that stores, settles or replays requests: their limits are of all of them together.
pub(super) const LOCK: &str = "dead requests";

pub(super) async fn add(
    tx: &mut Transaction,
    request: &NewDeadRequest,
    limits: DeadRequestLimits,
) -> Result<Option<Uuid>, LedgerError> {
    lock(tx, LOCK).await?;
    if dead_requests_are_ahead(tx, request.at).await? {
        correct_dead_requests(tx, request.at).await?;
    }
    if let Some(id) = count_again(tx, request).await? {
        return Uuid::parse_str(&id).map(Some).map_err(|_| LedgerError::Corrupt { column: "dead_requests.id" });
    }
    let total = query("SELECT count(*) FROM dead_requests WHERE state IN ('pending', 'parked')");
    let total: i64 = tx.scalar(total).await?;
    let of_connection = query(
        "SELECT count(*) FROM dead_requests WHERE namespace = $1 AND connection = $2 AND state IN ('pending', 'parked')",
    );
    let (namespace, name) = (&*request.connection.namespace, &*request.connection.name);
    let of_connection: i64 = tx.scalar(of_connection.bind(namespace).bind(name)).await?;
    let guaranteed = to_i64(limits.connection / GUARANTEED_PART);
    if of_connection >= to_i64(limits.connection) || (total >= to_i64(limits.total) && of_connection >= guaranteed) {
        return Ok(None);
    }
    insert(tx, request).await?;
    Ok(Some(request.id))
}

/// Counts a failure of a request that is stored. Prefers the pending one. A parked one is counted only if none is
/// pending, and stays parked: a caller that polls a failing operation must not restart its retries.
async fn count_again(tx: &mut Transaction, request: &NewDeadRequest) -> Result<Option<String>, LedgerError> {
    let statement = query(
        "UPDATE dead_requests SET seen = seen + 1, updated_ms = $2,
             reason = CASE state WHEN 'parked' THEN $3 ELSE reason END,
             status = CASE state WHEN 'parked' THEN $4 ELSE status END
         WHERE seq = (SELECT seq FROM (
             SELECT seq, 0 AS place FROM dead_requests WHERE fingerprint = $1 AND state = 'pending'
             UNION ALL SELECT seq, 1 FROM dead_requests WHERE fingerprint = $1 AND state = 'parked') p
             ORDER BY place, seq DESC LIMIT 1)
         RETURNING id",
    );
    let statement = statement.bind(&request.fingerprint).bind(millis(request.at)).bind(text(&request.reason));
    tx.scalar_opt(statement.bind(request.status.map(i64::from))).await
}

async fn insert(tx: &mut Transaction, request: &NewDeadRequest) -> Result<(), LedgerError> {
    let statement = query(
        "INSERT INTO dead_requests (id, namespace, connection, provider, operation, parameters, sealed, fingerprint,
             caller, subject, state, reason, status, request_id, created_ms, updated_ms, reviewed_ms, next_ms,
             uid)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'pending', $11, $12, $13, $14, $14, $14, $15, $16)",
    )
    .bind(request.id.to_string())
    .bind(&*request.connection.namespace)
    .bind(&*request.connection.name)
    .bind(&request.provider)
    .bind(&request.operation)
    .bind(&request.parameters)
    .bind(request.encrypted)
    .bind(&request.fingerprint)
    .bind(text(&request.caller))
    .bind(text(&request.subject))
    .bind(text(&request.reason))
    .bind(request.status.map(i64::from))
    .bind(request.request_id.map(|id| id.to_string()))
    .bind(millis(request.at))
    .bind(millis(request.next))
    .bind(&request.uid);
    tx.execute(statement).await.map(drop)
}
