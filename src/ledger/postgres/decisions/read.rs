//! What is read besides decisions: snapshots, counters, adjustments, proposals, the chain.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};

use super::codec::{LOG, log_row};
use super::load::{self, PROPOSAL, proposal};
use crate::domain::decision::{DayUsage, Hash};
use crate::ledger::decisions::{ChainEntry, LimitDay, ProposalFilter, ProposalState, RouteAdjustment, StoredProposal};
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::{count, get, millis, to_i64};
use crate::ledger::postgres::transaction::Transaction;

pub(super) async fn snapshot(tx: &mut Transaction, id: &Hash) -> Result<Option<Vec<u8>>, LedgerError> {
    tx.scalar_opt(query("SELECT body FROM decision_snapshots WHERE id = $1").bind(id.to_vec())).await
}

pub(super) async fn usages(tx: &mut Transaction, days: &[LimitDay]) -> Result<Vec<DayUsage>, LedgerError> {
    let found: HashMap<LimitDay, DayUsage> = load::usages(tx, days).await?.into_iter().collect();
    Ok(days.iter().map(|day| found.get(day).copied().unwrap_or(DayUsage::none(day.day))).collect())
}

pub(super) async fn adjustments(
    tx: &mut Transaction,
    namespace: Option<&str>,
    now: Timestamp,
) -> Result<Vec<RouteAdjustment>, LedgerError> {
    let statement = query(
        "SELECT body FROM route_adjustments
         WHERE expires_ms > $1 AND deleted_ms IS NULL AND ($2::text IS NULL OR namespace = $2) ORDER BY id",
    );
    let rows = tx.fetch_all(statement.bind(millis(now)).bind(namespace)).await?;
    let decode = |row: &PgRow| {
        let body: Vec<u8> = get(row, "body")?;
        RouteAdjustment::decode(&body).ok_or(LedgerError::Corrupt { column: "route_adjustments.body" })
    };
    rows.iter().map(decode).collect()
}

pub(super) async fn proposals(
    tx: &mut Transaction,
    filter: &ProposalFilter,
) -> Result<Vec<StoredProposal>, LedgerError> {
    let approved = if filter.approved_after.is_some() { "approved_until_ms > $5" } else { "$5::bigint IS NULL" };
    let sql = format!(
        "SELECT {PROPOSAL} FROM route_proposals
         WHERE {approved} AND ($1::text IS NULL OR namespace = $1) AND ($2::text IS NULL OR route = $2)
             AND ($3::bytea IS NULL OR id = $3) AND ($4::text IS NULL OR state = $4)
         ORDER BY created_ms DESC, id DESC"
    );
    let statement = query(AssertSqlSafe(sql))
        .bind(filter.namespace.as_deref())
        .bind(filter.route.as_deref())
        .bind(filter.id.map(|id| id.as_bytes().to_vec()))
        .bind(filter.state.map(ProposalState::as_str))
        .bind(filter.approved_after.map(millis));
    tx.fetch_all(statement).await?.iter().map(proposal).collect()
}

/// A row that cannot be read is an entry too: the verification names it.
pub(super) async fn chain(tx: &mut Transaction, after_seq: u64, limit: u32) -> Result<Vec<ChainEntry>, LedgerError> {
    let sql = format!("SELECT {LOG} FROM decision_log l WHERE l.seq > $1 ORDER BY l.seq LIMIT $2");
    let rows = tx.fetch_all(query(AssertSqlSafe(sql)).bind(to_i64(after_seq)).bind(i64::from(limit))).await?;
    let entry = |row: &PgRow| match log_row(row) {
        Ok(row) => Ok(row.into_entry()),
        Err(LedgerError::Corrupt { column }) => Ok(ChainEntry::unreadable(count(row, "seq")?, column)),
        Err(error) => Err(error),
    };
    rows.iter().map(entry).collect()
}
