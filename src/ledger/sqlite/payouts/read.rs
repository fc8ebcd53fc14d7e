//! What is read of payouts.

use jiff::Timestamp;
use rusqlite::params;
use uuid::Uuid;

use super::codec::{PAYOUT, TIMELINE, attempt_state, payout, time, timeline};
use super::load::{UNREVIEWED, restores};
use crate::domain::payout::PayoutState;
use crate::ledger::error::LedgerError;
use crate::ledger::payouts::{
    AttemptCount, DuePayout, PayoutCount, PayoutCounts, PayoutFilter, PayoutPage, StoredPayout, TimelineRow,
};
use crate::ledger::sqlite::codec::{count, get, instant_opt, millis, stored_enum, to_i64};
use crate::ledger::sqlite::connection::Transaction;

/// The payout with this attempt, by the attempt's ID or by its decision's.
pub(super) fn by_attempt(tx: &Transaction<'_>, id: Uuid) -> Result<Option<StoredPayout>, LedgerError> {
    let sql = format!(
        "SELECT {PAYOUT} FROM payouts WHERE (namespace, payout_id) = (
             SELECT namespace, payout_id FROM payout_attempts WHERE attempt_id = ?1 OR decision_id = ?1 LIMIT 1)"
    );
    tx.query_opt(&sql, [id.as_bytes()], payout)
}

pub(super) fn timeline_of(
    tx: &Transaction<'_>,
    namespace: &str,
    payout_id: &str,
    after_seq: u64,
    limit: u32,
) -> Result<Vec<TimelineRow>, LedgerError> {
    // Whole entries: the caller goes on after the number of the last one.
    let sql = format!(
        "SELECT {TIMELINE} FROM payout_timeline
         WHERE namespace = ?1 AND payout_id = ?2 AND seq > ?3 AND seq <= coalesce((
             SELECT max(seq) FROM (
                 SELECT seq FROM payout_timeline WHERE namespace = ?1 AND payout_id = ?2 AND seq > ?3
                 ORDER BY seq, place LIMIT ?4)), 0)
         ORDER BY seq, place"
    );
    tx.query_all(&sql, params![namespace, payout_id, to_i64(after_seq), limit], timeline)
}

pub(super) fn list(
    tx: &Transaction<'_>,
    filter: &PayoutFilter,
    before: Option<u64>,
    limit: u32,
) -> Result<PayoutPage, LedgerError> {
    let by_state = if filter.state.is_some() { "state = ?1 AND" } else { "?1 IS NULL AND" };
    let sql = format!(
        "SELECT {PAYOUT} FROM payouts
         WHERE {by_state} seq < ?2 AND (?3 IS NULL OR namespace = ?3) AND (?4 IS NULL OR route = ?4)
         ORDER BY seq DESC LIMIT ?5"
    );
    let params = params![
        filter.state.map(PayoutState::as_str),
        before.map_or(i64::MAX, to_i64),
        filter.namespace,
        filter.route,
        limit,
    ];
    let payouts = tx.query_all(&sql, params, payout)?;
    let is_full = u32::try_from(payouts.len()).is_ok_and(|found| found == limit);
    let next = payouts.last().filter(|_| is_full).map(|last| last.seq);
    Ok(PayoutPage { payouts, next })
}

pub(super) fn due(
    tx: &Transaction<'_>,
    now: Timestamp,
    after: Option<&DuePayout>,
    limit: u32,
) -> Result<Vec<DuePayout>, LedgerError> {
    let (from, namespace, payout_id) = match after {
        Some(after) => (millis(after.due), after.namespace.as_str(), after.payout_id.as_str()),
        None => (i64::MIN, "", ""),
    };
    tx.query_all(
        "SELECT next_ms, namespace, payout_id, next_bank FROM payouts
         WHERE next_ms <= ?1 AND (next_ms, namespace, payout_id) > (?2, ?3, ?4)
         ORDER BY next_ms, namespace, payout_id LIMIT ?5",
        params![millis(now), from, namespace, payout_id, limit],
        |row| {
            Ok(DuePayout {
                due: time(row, "next_ms")?,
                namespace: get(row, "namespace")?,
                payout_id: get(row, "payout_id")?,
                bank: get::<Option<String>>(row, "next_bank")?.unwrap_or_default(),
            })
        },
    )
}

pub(super) fn next_due(tx: &Transaction<'_>) -> Result<Option<Timestamp>, LedgerError> {
    let next: Option<i64> = tx.scalar("SELECT min(next_ms) FROM payouts WHERE next_ms IS NOT NULL", [])?;
    instant_opt(next, "payouts.next_ms")
}

pub(super) fn counts(tx: &Transaction<'_>) -> Result<PayoutCounts, LedgerError> {
    let payouts = tx.query_all(
        "SELECT namespace, route, state, count(*) AS number, min(registered_ms) AS oldest_ms
         FROM payouts WHERE NOT final GROUP BY namespace, route, state",
        [],
        |row| {
            let state: String = get(row, "state")?;
            Ok(PayoutCount {
                count: count(row, "number")?,
                namespace: get(row, "namespace")?,
                oldest: time(row, "oldest_ms")?,
                route: get(row, "route")?,
                state: stored_enum(PayoutState::ALL, PayoutState::as_str, &state, "payouts.state")?,
            })
        },
    )?;
    let attempts = tx.query_all(
        "SELECT namespace, bank, state, count(*) AS number, min(decided_ms) AS oldest_ms
         FROM payout_attempts WHERE NOT final GROUP BY namespace, bank, state",
        [],
        |row| {
            Ok(AttemptCount {
                bank: get(row, "bank")?,
                count: count(row, "number")?,
                namespace: get(row, "namespace")?,
                oldest: time(row, "oldest_ms")?,
                state: attempt_state(row, "state")?,
            })
        },
    )?;
    Ok(PayoutCounts { attempts, payouts })
}

pub(super) fn unreviewed(tx: &Transaction<'_>, limit: u32) -> Result<Vec<StoredPayout>, LedgerError> {
    let restores = restores(tx)?;
    let sql = format!("SELECT {PAYOUT} FROM payouts WHERE {UNREVIEWED} ORDER BY seq LIMIT ?2");
    tx.query_all(&sql, params![restores.count, limit], payout)
}
