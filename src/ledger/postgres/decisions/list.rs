//! Decisions listed from the newest on.

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, query};

use super::codec::{LOG, log_row};
use super::load;
use crate::ledger::decisions::row::LogRow;
use crate::ledger::decisions::seek::{Range, Seek};
use crate::ledger::decisions::{DecisionFilter, DecisionPage};
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::{millis, to_i64};
use crate::ledger::postgres::transaction::Transaction;

/// Lists in the caller's transaction.
pub(super) async fn list(
    tx: &mut Transaction,
    filter: &DecisionFilter,
    before: Option<u64>,
    limit: u32,
) -> Result<DecisionPage, LedgerError> {
    let mut range = Range::new(load::head(tx).await?, before);
    let (from, to) = Range::bounds(filter);
    if let Some(from) = from {
        range.low = first_at(tx, range, from).await?;
    }
    if let Some(to) = to {
        range.high = first_at(tx, range, to).await?;
    }
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    while rows.len() < wanted
        && let Some(begin) = range.next_piece()
    {
        let found = piece(tx, filter, range, begin, wanted - rows.len()).await?;
        let is_full = rows.len() + found.len() == wanted;
        range.high = found.last().filter(|_| is_full).map_or(begin, |row| row.seq);
        rows.extend(found);
    }
    Ok(DecisionPage { decisions: load::decisions(tx, rows).await?, next: range.next() })
}

async fn piece(
    tx: &mut Transaction,
    filter: &DecisionFilter,
    range: Range,
    begin: u64,
    limit: usize,
) -> Result<Vec<LogRow>, LedgerError> {
    let sql = format!(
        "SELECT {LOG} FROM decision_log l
         WHERE l.seq >= $1 AND l.seq < $2 AND l.payout_id IS NOT NULL
             AND ($3::text IS NULL OR l.namespace = $3) AND ($4::text IS NULL OR l.route = $4)
             AND ($5::text IS NULL OR l.candidate = $5)
             AND ($6::bigint IS NULL OR l.at_ms >= $6) AND ($7::bigint IS NULL OR l.at_ms < $7)
         ORDER BY l.seq DESC LIMIT $8"
    );
    let statement = query(AssertSqlSafe(sql))
        .bind(to_i64(begin))
        .bind(to_i64(range.high))
        .bind(filter.namespace.as_deref())
        .bind(filter.route.as_deref())
        .bind(filter.candidate.as_deref())
        .bind(filter.from.map(millis))
        .bind(filter.to.map(millis))
        .bind(to_i64(limit as u64));
    tx.fetch_all(statement).await?.iter().map(log_row).collect()
}

/// The first entry of the range that is not before `at`.
async fn first_at(tx: &mut Transaction, range: Range, at: Timestamp) -> Result<u64, LedgerError> {
    let mut seek = Seek::new(range);
    while let Some(seq) = seek.probe() {
        let statement = query("SELECT at_ms FROM decision_log WHERE seq = $1").bind(to_i64(seq));
        let found: Option<i64> = tx.scalar_opt(statement).await?;
        // Of a row that is missing nothing is known: the verification finds it, and the listing goes on.
        seek.narrow(seq, found.is_some_and(|found| found < millis(at)));
    }
    Ok(seek.found())
}
