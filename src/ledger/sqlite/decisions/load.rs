//! What a batch depends on, read in its transaction.

use rusqlite::params;
use uuid::Uuid;

use super::codec::{LOG, decimal, hash, limit_day, log_row, number};
use crate::domain::decision::{DayUsage, EntryKind};
use crate::ledger::decisions::needs::{Needs, limit_days, reported_payouts};
use crate::ledger::decisions::row::LogRow;
use crate::ledger::decisions::state::{BatchState, Named};
use crate::ledger::decisions::{
    ChainEnds, DecisionBatch, LimitDay, ProposalState, RouteProposal, StoredDecision, StoredProposal,
};
use crate::ledger::error::LedgerError;
use crate::ledger::sqlite::codec::{get, instant_opt, millis, stored_enum};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::payouts;

/// The columns that [`proposal`] reads.
pub(super) const PROPOSAL: &str = "state, settled_ms, settled_by, approved_until_ms, body";

/// Run for every decision, so not put together each time.
const ATTEMPTS: &str = "SELECT seq, kind, at_ms, id, namespace, payout_id, attempt_no, request_hash, route, candidate, \
     snapshot, about, reserved_amount, reserved_bank, reserved_day, hash, body FROM decision_log \
     WHERE namespace = ?1 AND payout_id = ?2 ORDER BY attempt_no";

/// The ends of the chain.
pub(super) fn head(tx: &Transaction<'_>) -> Result<ChainEnds, LedgerError> {
    let found = tx.query_opt("SELECT head_seq, head_hash, base_seq, base_hash FROM decision_chain", [], |row| {
        Ok(ChainEnds {
            seq: number(row, "head_seq")?,
            hash: hash(row, "head_hash")?,
            base_seq: number(row, "base_seq")?,
            base_hash: hash(row, "base_hash")?,
        })
    })?;
    Ok(found.unwrap_or_default())
}

/// The state that a batch is planned on.
pub(super) fn state<'b>(tx: &Transaction<'_>, batch: &'b DecisionBatch) -> Result<BatchState<'b>, LedgerError> {
    let needs = Needs::of(batch);
    let mut state = BatchState { head: head(tx)?, ..BatchState::default() };
    payouts::load::state(tx, &needs, &mut state)?;
    for (namespace, payout_id) in needs.payouts {
        let decisions = attempts(tx, namespace, payout_id)?;
        if !decisions.is_empty() {
            state.attempts.insert((namespace, payout_id), decisions);
        }
    }
    for id in needs.ids {
        if let Some(named) = named(tx, id)? {
            state.named.insert(id, named);
        }
    }
    for id in needs.adjustments {
        let sql = "SELECT namespace FROM route_adjustments WHERE id = ?1 AND deleted_ms IS NULL";
        if let Some(namespace) = tx.scalar_opt(sql, [id.as_bytes()])? {
            state.adjustments.insert(id, namespace);
        }
    }
    for (namespace, now) in needs.namespaces {
        let sql = "SELECT count(*) AS count FROM route_adjustments
             WHERE namespace = ?1 AND expires_ms > ?2 AND deleted_ms IS NULL";
        let count = tx.query_opt(sql, params![namespace, millis(now)], |row| number(row, "count"))?;
        state.in_effect.insert(namespace, count.unwrap_or_default());
    }
    for id in needs.proposals {
        let sql = format!("SELECT {PROPOSAL} FROM route_proposals WHERE id = ?1");
        if let Some(stored) = tx.query_opt(&sql, [id.as_bytes()], proposal)? {
            state.proposals.insert(id, stored);
        }
    }
    for (namespace, route) in needs.routes {
        let sql = format!(
            "SELECT {PROPOSAL} FROM route_proposals WHERE namespace = ?1 AND route = ?2 AND state = 'pending'
             ORDER BY expires_ms DESC LIMIT 1"
        );
        if let Some(stored) = tx.query_opt(&sql, [namespace, route], proposal)? {
            state.pending.insert((namespace, route), stored);
        }
    }
    for (namespace, payout_id) in reported_payouts(batch, &state) {
        payouts::load::followed(tx, &namespace, &payout_id, &mut state)?;
    }
    for day in limit_days(batch, &state) {
        if let Some(used) = day_usage(tx, &day)? {
            state.usage.insert(day, used);
        }
    }
    Ok(state)
}

/// The decisions of a payout, by attempt.
pub(super) fn attempts(
    tx: &Transaction<'_>,
    namespace: &str,
    payout_id: &str,
) -> Result<Vec<StoredDecision>, LedgerError> {
    let rows = tx.query_all(ATTEMPTS, [namespace, payout_id], log_row)?;
    rows.into_iter().map(|row| decision(tx, row)).collect()
}

/// The entry with this ID.
pub(super) fn entry(tx: &Transaction<'_>, id: Uuid) -> Result<Option<LogRow>, LedgerError> {
    tx.query_opt(&format!("SELECT {LOG} FROM decision_log WHERE id = ?1"), [id.as_bytes()], log_row)
}

/// A decision with what was reported of it.
pub(super) fn decision(tx: &Transaction<'_>, row: LogRow) -> Result<StoredDecision, LedgerError> {
    let mut decision = row.into_decision()?;
    let sql = format!("SELECT {LOG} FROM decision_log WHERE about = ?1 ORDER BY seq");
    for about in tx.query_all(&sql, [decision.id.as_bytes()], log_row)? {
        about.tell(&mut decision)?;
    }
    Ok(decision)
}

fn named(tx: &Transaction<'_>, id: Uuid) -> Result<Option<Named>, LedgerError> {
    let Some(row) = entry(tx, id)? else { return Ok(None) };
    Ok(Some(match row.kind {
        EntryKind::Decision | EntryKind::Override => Named::Decision(Box::new(decision(tx, row)?)),
        _ => Named::Other(row.position()),
    }))
}

/// What is used of a day's limit.
pub(super) fn day_usage(tx: &Transaction<'_>, day: &LimitDay) -> Result<Option<DayUsage>, LedgerError> {
    let LimitDay { namespace, route, candidate, .. } = day;
    tx.query_opt(
        "SELECT amount, count, day FROM decision_usage
         WHERE namespace = ?1 AND route = ?2 AND candidate = ?3 AND day = ?4",
        params![namespace, route, candidate, day.stored_day()],
        |row| {
            let (amount, day): (String, String) = (get(row, "amount")?, get(row, "day")?);
            Ok(DayUsage {
                amount: decimal(&amount, "decision_usage.amount")?,
                count: get(row, "count")?,
                day: limit_day(&day, "decision_usage.day")?.0,
            })
        },
    )
}

/// A proposal.
pub(super) fn proposal(row: &rusqlite::Row<'_>) -> Result<StoredProposal, LedgerError> {
    let (body, state): (Vec<u8>, String) = (get(row, "body")?, get(row, "state")?);
    let proposal = RouteProposal::decode(&body).ok_or(LedgerError::Corrupt { column: "route_proposals.body" })?;
    Ok(StoredProposal {
        proposal,
        state: stored_enum(&ProposalState::ALL, ProposalState::as_str, &state, "route_proposals.state")?,
        settled_at: instant_opt(get(row, "settled_ms")?, "route_proposals.settled_ms")?,
        settled_by: get(row, "settled_by")?,
        approved_until: instant_opt(get(row, "approved_until_ms")?, "route_proposals.approved_until_ms")?,
    })
}
