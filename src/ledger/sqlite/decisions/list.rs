//! Decisions listed from the newest on.

use jiff::Timestamp;
use rusqlite::params;

use super::codec::{LOG, log_row};
use super::load;
use crate::ledger::decisions::row::LogRow;
use crate::ledger::decisions::seek::{Range, Seek};
use crate::ledger::decisions::{DecisionFilter, DecisionPage};
use crate::ledger::error::LedgerError;
use crate::ledger::sqlite::codec::{millis, to_i64};
use crate::ledger::sqlite::connection::Transaction;

/// Lists in the caller's transaction.
pub(super) fn list(
    tx: &Transaction<'_>,
    filter: &DecisionFilter,
    before: Option<u64>,
    limit: u32,
) -> Result<DecisionPage, LedgerError> {
    let mut range = Range::new(load::head(tx)?, before);
    let (from, to) = Range::bounds(filter);
    if let Some(from) = from {
        range.low = first_at(tx, range, from)?;
    }
    if let Some(to) = to {
        range.high = first_at(tx, range, to)?;
    }
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut decisions = Vec::new();
    while decisions.len() < wanted
        && let Some(begin) = range.next_piece()
    {
        let found = piece(tx, filter, range, begin, wanted - decisions.len())?;
        let is_full = decisions.len() + found.len() == wanted;
        range.high = found.last().filter(|_| is_full).map_or(begin, |row| row.seq);
        for row in found {
            decisions.push(load::decision(tx, row)?);
        }
    }
    Ok(DecisionPage { decisions, next: range.next() })
}

fn piece(
    tx: &Transaction<'_>,
    filter: &DecisionFilter,
    range: Range,
    begin: u64,
    limit: usize,
) -> Result<Vec<LogRow>, LedgerError> {
    let sql = format!(
        "SELECT {LOG} FROM decision_log
         WHERE seq >= ?1 AND seq < ?2 AND payout_id IS NOT NULL
             AND (?3 IS NULL OR namespace = ?3) AND (?4 IS NULL OR route = ?4) AND (?5 IS NULL OR candidate = ?5)
             AND (?6 IS NULL OR at_ms >= ?6) AND (?7 IS NULL OR at_ms < ?7)
         ORDER BY seq DESC LIMIT ?8"
    );
    let params = params![
        to_i64(begin),
        to_i64(range.high),
        filter.namespace,
        filter.route,
        filter.candidate,
        filter.from.map(millis),
        filter.to.map(millis),
        to_i64(limit as u64),
    ];
    tx.query_all(&sql, params, log_row)
}

/// The first entry of the range that is not before `at`.
fn first_at(tx: &Transaction<'_>, range: Range, at: Timestamp) -> Result<u64, LedgerError> {
    let mut seek = Seek::new(range);
    while let Some(seq) = seek.probe() {
        let found: Option<i64> = tx.scalar_opt("SELECT at_ms FROM decision_log WHERE seq = ?1", [to_i64(seq)])?;
        // Of a row that is missing nothing is known: the verification finds it, and the listing goes on.
        seek.narrow(seq, found.is_some_and(|found| found < millis(at)));
    }
    Ok(seek.found())
}
