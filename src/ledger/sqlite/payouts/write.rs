//! The rows of commits of payouts.

use rusqlite::params;

use crate::domain::canonical::to_bytes;
use crate::domain::payout::{Attempt, HoldReason};
use crate::ledger::decisions::plan::Plan;
use crate::ledger::error::LedgerError;
use crate::ledger::payouts::row::{PayoutRow, evidence};
use crate::ledger::payouts::{TimelineEvent, TimelineRow};
use crate::ledger::sqlite::codec::{millis, to_i64};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::outbox;

/// Writes the payouts of a plan.
pub(in crate::ledger::sqlite) fn write(tx: &Transaction<'_>, plan: &Plan<'_>) -> Result<(), LedgerError> {
    for row in &plan.payouts {
        let (stored, new) = row.attempts();
        for attempt in stored {
            update_attempt(tx, row, attempt)?;
        }
        write_payout(tx, row)?;
        // After the others: the trigger asks whether one of them may have been executed.
        for attempt in new {
            insert_attempt(tx, row, attempt)?;
        }
        for one in row.timeline() {
            write_timeline(tx, row, &one)?;
        }
        outbox::append(tx, &row.commit.events, row.commit.at)?;
    }
    if plan.resumes {
        tx.execute("UPDATE ledger_epoch SET payouts_suspended = 0", [])?;
    }
    Ok(())
}

fn write_payout(tx: &Transaction<'_>, row: &PayoutRow<'_>) -> Result<(), LedgerError> {
    let payout = &row.commit.payout;
    let last_attempt = payout.attempts.last().map_or(0, |attempt| attempt.plan.attempt_no);
    let (state, next) = (row.state().as_str(), row.next_action().map(millis));
    let (version, at) = (to_i64(row.commit.version()), millis(row.commit.at));
    if row.is_new() {
        let registration = row.commit.registration.as_ref();
        tx.execute(
            "INSERT INTO payouts (namespace, payout_id, seq, version, route, state, final, frozen, last_attempt, next_ms,
                 next_bank, registered_ms, updated_ms, reviewed, request_hash, idempotency_key, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            params![
                payout.namespace,
                payout.payout_id,
                to_i64(row.seq),
                version,
                payout.route,
                state,
                row.is_final(),
                payout.frozen,
                last_attempt,
                next,
                row.next_bank(),
                millis(payout.registered_at),
                at,
                row.reviewed.unwrap_or_default(),
                row.request_hash,
                registration.and_then(|one| one.idempotency_key.as_deref()),
                payout.bytes(),
            ],
        )?;
        return Ok(());
    }
    tx.execute(
        "UPDATE payouts SET version = ?3, state = ?4, final = ?5, frozen = ?6, last_attempt = ?7, next_ms = ?8,
             next_bank = ?9, updated_ms = ?10, reviewed = coalesce(?11, reviewed), body = ?12
         WHERE namespace = ?1 AND payout_id = ?2",
        params![
            payout.namespace,
            payout.payout_id,
            version,
            state,
            row.is_final(),
            payout.frozen,
            last_attempt,
            next,
            row.next_bank(),
            at,
            row.reviewed,
            payout.bytes(),
        ],
    )?;
    Ok(())
}

fn update_attempt(tx: &Transaction<'_>, row: &PayoutRow<'_>, attempt: &Attempt) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE payout_attempts SET state = ?4, final = ?5, accepted_for = ?6, evidence = ?7
         WHERE namespace = ?1 AND payout_id = ?2 AND attempt_no = ?3
             AND (state <> ?4 OR accepted_for IS NOT ?6 OR evidence <> ?7)",
        params![
            row.commit.payout.namespace,
            row.commit.payout.payout_id,
            attempt.plan.attempt_no,
            attempt.state.as_str(),
            attempt.state.is_final(),
            attempt.risk_accepted_for,
            evidence(attempt),
        ],
    )?;
    Ok(())
}

fn insert_attempt(tx: &Transaction<'_>, row: &PayoutRow<'_>, attempt: &Attempt) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO payout_attempts (namespace, payout_id, attempt_no, attempt_id, decision_id, bank, state, final,
             accepted_for, decided_ms, evidence)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            row.commit.payout.namespace,
            row.commit.payout.payout_id,
            attempt.plan.attempt_no,
            attempt.attempt_id.as_bytes(),
            attempt.plan.decision_id.as_bytes(),
            attempt.plan.bank,
            attempt.state.as_str(),
            attempt.state.is_final(),
            attempt.risk_accepted_for,
            millis(attempt.decided_at),
            evidence(attempt),
        ],
    )?;
    Ok(())
}

fn write_timeline(tx: &Transaction<'_>, row: &PayoutRow<'_>, one: &TimelineRow) -> Result<(), LedgerError> {
    let (event, states, intent) = match one.event {
        TimelineEvent::Act => ("act", None, None),
        TimelineEvent::Transition { from, to } => ("transition", Some((from.as_str(), to.as_str())), None),
        TimelineEvent::Intent { call, fence } => ("intent", None, Some((call.as_str(), fence))),
    };
    tx.execute(
        "INSERT INTO payout_timeline (namespace, payout_id, seq, place, at_ms, act, event, attempt_no, from_state,
             to_state, call, fence, evidence, hold, subject)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            row.commit.payout.namespace,
            row.commit.payout.payout_id,
            to_i64(one.seq),
            one.place,
            millis(one.at),
            one.act.as_str(),
            event,
            one.attempt_no,
            states.map(|(from, _)| from),
            states.map(|(_, to)| to),
            intent.map(|(call, _)| call),
            intent.map(|(_, fence)| fence),
            one.evidence.as_ref().map(to_bytes),
            one.hold.map(HoldReason::as_str),
            one.subject,
        ],
    )?;
    Ok(())
}
