//! What is read besides decisions: snapshots, counters, adjustments, proposals, the chain.

use jiff::Timestamp;
use rusqlite::params;

use super::codec::{LOG, log_row, number};
use super::load::{PROPOSAL, day_usage, proposal};
use crate::domain::decision::{DayUsage, Hash};
use crate::ledger::decisions::{ChainEntry, LimitDay, ProposalFilter, ProposalState, RouteAdjustment, StoredProposal};
use crate::ledger::error::LedgerError;
use crate::ledger::sqlite::codec::{get, millis, to_i64};
use crate::ledger::sqlite::connection::Transaction;

pub(super) fn snapshot(tx: &Transaction<'_>, id: &Hash) -> Result<Option<Vec<u8>>, LedgerError> {
    tx.scalar_opt("SELECT CAST(body AS BLOB) FROM decision_snapshots WHERE id = ?1", [id])
}

pub(super) fn usages(tx: &Transaction<'_>, days: &[LimitDay]) -> Result<Vec<DayUsage>, LedgerError> {
    days.iter().map(|day| Ok(day_usage(tx, day)?.unwrap_or(DayUsage::none(day.day)))).collect()
}

pub(super) fn adjustments(
    tx: &Transaction<'_>,
    namespace: Option<&str>,
    now: Timestamp,
) -> Result<Vec<RouteAdjustment>, LedgerError> {
    tx.query_all(
        "SELECT body FROM route_adjustments
         WHERE expires_ms > ?1 AND deleted_ms IS NULL AND (?2 IS NULL OR namespace = ?2) ORDER BY id",
        params![millis(now), namespace],
        |row| {
            let body: Vec<u8> = get(row, "body")?;
            RouteAdjustment::decode(&body).ok_or(LedgerError::Corrupt { column: "route_adjustments.body" })
        },
    )
}

pub(super) fn proposals(tx: &Transaction<'_>, filter: &ProposalFilter) -> Result<Vec<StoredProposal>, LedgerError> {
    let approved = if filter.approved_after.is_some() { "approved_until_ms > ?5" } else { "?5 IS NULL" };
    let sql = format!(
        "SELECT {PROPOSAL} FROM route_proposals
         WHERE {approved} AND (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR route = ?2) AND (?3 IS NULL OR id = ?3)
             AND (?4 IS NULL OR state = ?4)
         ORDER BY created_ms DESC, id DESC"
    );
    let params = params![
        filter.namespace,
        filter.route,
        filter.id.as_ref().map(uuid::Uuid::as_bytes),
        filter.state.map(ProposalState::as_str),
        filter.approved_after.map(millis),
    ];
    tx.query_all(&sql, params, proposal)
}

/// A row that cannot be read is an entry too: the verification names it.
pub(super) fn chain(tx: &Transaction<'_>, after_seq: u64, limit: u32) -> Result<Vec<ChainEntry>, LedgerError> {
    let sql = format!("SELECT {LOG} FROM decision_log WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    tx.query_all(&sql, params![to_i64(after_seq), limit], |row| match log_row(row) {
        Ok(row) => Ok(row.into_entry()),
        Err(LedgerError::Corrupt { column }) => Ok(ChainEntry::unreadable(number(row, "seq")?, column)),
        Err(error) => Err(error),
    })
}
