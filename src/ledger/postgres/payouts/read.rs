//! What is read of payouts.

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::codec::{PAYOUT, TIMELINE, attempt_state, payout, timeline};
use super::load::{UNREVIEWED, restores};
use crate::domain::payout::PayoutState;
use crate::ledger::error::LedgerError;
use crate::ledger::payouts::{
    AttemptCount, DuePayout, PayoutCount, PayoutCounts, PayoutFilter, PayoutPage, StoredPayout, TimelineRow,
};
use crate::ledger::postgres::codec::{count, get, instant_opt, millis, stored_enum, timestamp, to_i64};
use crate::ledger::postgres::transaction::Transaction;

/// The payout with this attempt, by the attempt's ID or by its decision's.
pub(super) async fn by_attempt(tx: &mut Transaction, id: Uuid) -> Result<Option<StoredPayout>, LedgerError> {
    let sql = format!(
        "SELECT {PAYOUT} FROM payout_attempts a
         JOIN payouts p ON p.namespace = a.namespace AND p.payout_id = a.payout_id
         WHERE a.attempt_id = $1 OR a.decision_id = $1 LIMIT 1"
    );
    let row = tx.fetch_optional(query(AssertSqlSafe(sql)).bind(id.as_bytes().to_vec())).await?;
    row.map(|row| payout(&row)).transpose()
}

pub(super) async fn timeline_of(
    tx: &mut Transaction,
    namespace: &str,
    payout_id: &str,
    after_seq: u64,
    limit: u32,
) -> Result<Vec<TimelineRow>, LedgerError> {
    // Whole entries: the caller goes on after the number of the last one.
    let sql = format!(
        "SELECT {TIMELINE} FROM payout_timeline
         WHERE namespace = $1 AND payout_id = $2 AND seq > $3 AND seq <= coalesce((
             SELECT max(l.seq) FROM (
                 SELECT seq FROM payout_timeline WHERE namespace = $1 AND payout_id = $2 AND seq > $3
                 ORDER BY seq, place LIMIT $4) AS l), 0)
         ORDER BY seq, place"
    );
    let statement =
        query(AssertSqlSafe(sql)).bind(namespace).bind(payout_id).bind(to_i64(after_seq)).bind(i64::from(limit));
    tx.fetch_all(statement).await?.iter().map(timeline).collect()
}

pub(super) async fn list(
    tx: &mut Transaction,
    filter: &PayoutFilter,
    before: Option<u64>,
    limit: u32,
) -> Result<PayoutPage, LedgerError> {
    let by_state = if filter.state.is_some() { "p.state = $1" } else { "$1::text IS NULL" };
    let sql = format!(
        "SELECT {PAYOUT} FROM payouts p
         WHERE {by_state} AND p.seq < $2 AND ($3::text IS NULL OR p.namespace = $3)
             AND ($4::text IS NULL OR p.route = $4)
         ORDER BY p.seq DESC LIMIT $5"
    );
    let statement = query(AssertSqlSafe(sql))
        .bind(filter.state.map(PayoutState::as_str))
        .bind(before.map_or(i64::MAX, to_i64))
        .bind(filter.namespace.as_deref())
        .bind(filter.route.as_deref())
        .bind(i64::from(limit));
    let payouts = tx.fetch_all(statement).await?.iter().map(payout).collect::<Result<Vec<_>, _>>()?;
    let is_full = u32::try_from(payouts.len()).is_ok_and(|found| found == limit);
    let next = payouts.last().filter(|_| is_full).map(|last| last.seq);
    Ok(PayoutPage { payouts, next })
}

pub(super) async fn due(
    tx: &mut Transaction,
    now: Timestamp,
    after: Option<&DuePayout>,
    limit: u32,
) -> Result<Vec<DuePayout>, LedgerError> {
    let (from, namespace, payout_id) = match after {
        Some(after) => (millis(after.due), after.namespace.as_str(), after.payout_id.as_str()),
        None => (i64::MIN, "", ""),
    };
    let statement = query(
        "SELECT next_ms, namespace, payout_id, next_bank FROM payouts
         WHERE next_ms IS NOT NULL AND next_ms <= $1 AND (next_ms, namespace, payout_id) > ($2, $3, $4)
         ORDER BY next_ms, namespace, payout_id LIMIT $5",
    )
    .bind(millis(now))
    .bind(from)
    .bind(namespace)
    .bind(payout_id)
    .bind(i64::from(limit));
    let decode = |row: &PgRow| -> Result<DuePayout, LedgerError> {
        Ok(DuePayout {
            due: timestamp(row, "next_ms")?,
            namespace: get(row, "namespace")?,
            payout_id: get(row, "payout_id")?,
            bank: get::<Option<String>>(row, "next_bank")?.unwrap_or_default(),
        })
    };
    tx.fetch_all(statement).await?.iter().map(decode).collect()
}

pub(super) async fn next_due(tx: &mut Transaction) -> Result<Option<Timestamp>, LedgerError> {
    let statement = query("SELECT min(next_ms) FROM payouts WHERE next_ms IS NOT NULL");
    let next: Option<i64> = tx.scalar(statement).await?;
    instant_opt(next, "payouts.next_ms")
}

pub(super) async fn counts(tx: &mut Transaction) -> Result<PayoutCounts, LedgerError> {
    let statement = query(
        "SELECT namespace, route, state, count(*) AS number, min(registered_ms) AS oldest_ms
         FROM payouts WHERE NOT final GROUP BY namespace, route, state",
    );
    let payouts = tx.fetch_all(statement).await?;
    let payouts = payouts.iter().map(|row| {
        let state: String = get(row, "state")?;
        Ok(PayoutCount {
            count: count(row, "number")?,
            namespace: get(row, "namespace")?,
            oldest: timestamp(row, "oldest_ms")?,
            route: get(row, "route")?,
            state: stored_enum(PayoutState::ALL, PayoutState::as_str, &state, "payouts.state")?,
        })
    });
    let payouts = payouts.collect::<Result<Vec<_>, LedgerError>>()?;
    let statement = query(
        "SELECT namespace, bank, state, count(*) AS number, min(decided_ms) AS oldest_ms
         FROM payout_attempts WHERE NOT final GROUP BY namespace, bank, state",
    );
    let attempts = tx.fetch_all(statement).await?;
    let attempts = attempts.iter().map(|row| {
        Ok(AttemptCount {
            bank: get(row, "bank")?,
            count: count(row, "number")?,
            namespace: get(row, "namespace")?,
            oldest: timestamp(row, "oldest_ms")?,
            state: attempt_state(row, "state")?,
        })
    });
    Ok(PayoutCounts { attempts: attempts.collect::<Result<Vec<_>, LedgerError>>()?, payouts })
}

pub(super) async fn unreviewed(tx: &mut Transaction, limit: u32) -> Result<Vec<StoredPayout>, LedgerError> {
    let restores = restores(tx).await?;
    let sql = format!("SELECT {PAYOUT} FROM payouts p WHERE {UNREVIEWED} ORDER BY p.seq LIMIT $2");
    let statement = query(AssertSqlSafe(sql)).bind(restores.count).bind(i64::from(limit));
    tx.fetch_all(statement).await?.iter().map(payout).collect()
}
