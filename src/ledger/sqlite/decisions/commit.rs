//! The batch transaction: state, plan, rows, snapshots, counters, head.

use rusqlite::params;

use super::load;
use crate::ledger::decisions::plan::{Plan, plan};
use crate::ledger::decisions::row::NewRow;
use crate::ledger::decisions::stored::stored_day;
use crate::ledger::decisions::{ChainEnds, DecisionBatch, EntryOutcome};
use crate::ledger::error::LedgerError;
use crate::ledger::sqlite::codec::{millis, to_i64};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::payouts;

const INSERT: &str = "INSERT INTO decision_log (seq, kind, at_ms, id, namespace, payout_id, attempt_no, request_hash, \
     route, candidate, snapshot, about, reserved_amount, reserved_bank, reserved_day, hash, body) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

/// Commits a batch in the caller's transaction.
pub(super) fn commit(tx: &Transaction<'_>, batch: &DecisionBatch) -> Result<Vec<EntryOutcome>, LedgerError> {
    let plan = plan(batch, load::state(tx, batch)?);
    if !plan.rows.is_empty() {
        write(tx, &plan)?;
    }
    Ok(plan.outcomes)
}

fn write(tx: &Transaction<'_>, plan: &Plan<'_>) -> Result<(), LedgerError> {
    for row in &plan.rows {
        append(tx, row)?;
    }
    for (snapshot, last) in &plan.snapshots {
        tx.execute(
            "INSERT INTO decision_snapshots (id, last_seq, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET last_seq = excluded.last_seq",
            params![snapshot.id, to_i64(*last), snapshot.body],
        )?;
    }
    for (day, used) in &plan.usage {
        tx.execute(
            "INSERT INTO decision_usage (namespace, route, candidate, day, amount, count)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (namespace, route, candidate, day) DO UPDATE SET
                 amount = excluded.amount, count = excluded.count",
            params![
                day.namespace,
                day.route,
                day.candidate,
                day.stored_day(),
                used.amount.normalize().to_string(),
                used.count,
            ],
        )?;
    }
    write_changes(tx, plan)?;
    payouts::write::write(tx, plan)?;
    set_head(tx, plan.head)
}

fn write_changes(tx: &Transaction<'_>, plan: &Plan<'_>) -> Result<(), LedgerError> {
    for adjustment in &plan.adjustments {
        tx.execute(
            "INSERT INTO route_adjustments (id, namespace, expires_ms, body) VALUES (?1, ?2, ?3, ?4)",
            params![adjustment.id.as_bytes(), adjustment.namespace, millis(adjustment.expires_at), adjustment.encode()],
        )?;
    }
    for (id, at) in &plan.deleted {
        tx.execute(
            "UPDATE route_adjustments SET deleted_ms = ?2 WHERE id = ?1 AND deleted_ms IS NULL",
            params![id.as_bytes(), millis(*at)],
        )?;
    }
    for proposal in &plan.proposals {
        tx.execute(
            "INSERT INTO route_proposals (id, namespace, route, state, created_ms, expires_ms, body)
             VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6)",
            params![
                proposal.id.as_bytes(),
                proposal.namespace,
                proposal.route,
                millis(proposal.created_at),
                millis(proposal.expires_at),
                proposal.encode(),
            ],
        )?;
    }
    for settlement in &plan.settled {
        tx.execute(
            "UPDATE route_proposals SET state = ?2, settled_ms = ?3, settled_by = ?4, approved_until_ms = ?5
             WHERE id = ?1",
            params![
                settlement.proposal.as_bytes(),
                settlement.state.as_str(),
                millis(settlement.at),
                settlement.subject,
                settlement.approved_until.map(millis),
            ],
        )?;
    }
    Ok(())
}

/// Appends a row; the caller moves the head.
pub(super) fn append(tx: &Transaction<'_>, row: &NewRow<'_>) -> Result<(), LedgerError> {
    let reserved = row.reserved;
    tx.execute(
        INSERT,
        params![
            to_i64(row.seq),
            row.kind.as_str(),
            millis(row.at),
            row.id.as_ref().map(uuid::Uuid::as_bytes),
            row.namespace,
            row.payout_id,
            row.attempt_no,
            row.request_hash,
            row.route,
            row.candidate,
            row.snapshot,
            row.about.as_ref().map(uuid::Uuid::as_bytes),
            reserved.map(|reserved| reserved.amount.normalize().to_string()),
            reserved.map(|reserved| reserved.candidate.as_str()),
            reserved.map(|reserved| stored_day(reserved.day, reserved.currency)),
            row.hash,
            row.body,
        ],
    )?;
    Ok(())
}

/// Stores the ends of the chain.
pub(super) fn set_head(tx: &Transaction<'_>, head: ChainEnds) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO decision_chain (id, head_seq, head_hash, base_seq, base_hash) VALUES (1, ?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET head_seq = excluded.head_seq, head_hash = excluded.head_hash,
             base_seq = excluded.base_seq, base_hash = excluded.base_hash",
        params![to_i64(head.seq), head.hash, to_i64(head.base_seq), head.base_hash],
    )?;
    Ok(())
}
