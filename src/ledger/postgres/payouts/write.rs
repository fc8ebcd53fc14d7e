//! The rows of commits of payouts.

use sqlx::query;

use crate::domain::canonical::to_bytes;
use crate::domain::payout::{Attempt, HoldReason};
use crate::ledger::decisions::plan::Plan;
use crate::ledger::error::LedgerError;
use crate::ledger::payouts::row::{PayoutRow, evidence};
use crate::ledger::payouts::{TimelineEvent, TimelineRow};
use crate::ledger::postgres::codec::{millis, text, to_i64};
use crate::ledger::postgres::outbox;
use crate::ledger::postgres::transaction::Transaction;

/// Writes the payouts of a plan.
pub(in crate::ledger::postgres) async fn write(tx: &mut Transaction, plan: &Plan<'_>) -> Result<(), LedgerError> {
    for row in &plan.payouts {
        let (stored, new) = row.attempts();
        for attempt in stored {
            update_attempt(tx, row, attempt).await?;
        }
        if row.is_new() {
            insert_payout(tx, row).await?;
        } else {
            update_payout(tx, row).await?;
        }
        // After the others: the trigger asks whether one of them may have been executed.
        for attempt in new {
            insert_attempt(tx, row, attempt).await?;
        }
        for one in &row.timeline() {
            write_timeline(tx, row, one).await?;
        }
        outbox::append(tx, &row.commit.events, row.commit.at).await?;
    }
    if plan.resumes {
        tx.execute(query("UPDATE ledger_epoch SET payouts_suspended = FALSE")).await?;
    }
    Ok(())
}

/// The number of the newest attempt.
fn last_attempt(row: &PayoutRow<'_>) -> i64 {
    row.commit.payout.attempts.last().map_or(0, |attempt| i64::from(attempt.plan.attempt_no))
}

async fn insert_payout(tx: &mut Transaction, row: &PayoutRow<'_>) -> Result<(), LedgerError> {
    let payout = &row.commit.payout;
    let key = row.commit.registration.as_ref().and_then(|one| one.idempotency_key.as_deref());
    let statement = query(
        "INSERT INTO payouts (namespace, payout_id, seq, version, route, state, final, frozen, last_attempt, next_ms,
             next_bank, registered_ms, updated_ms, reviewed, request_hash, idempotency_key, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(&payout.namespace)
    .bind(&payout.payout_id)
    .bind(to_i64(row.seq))
    .bind(to_i64(row.commit.version()))
    .bind(&payout.route)
    .bind(row.state().as_str())
    .bind(row.is_final())
    .bind(payout.frozen)
    .bind(last_attempt(row))
    .bind(row.next_action().map(millis))
    .bind(row.next_bank())
    .bind(millis(payout.registered_at))
    .bind(millis(row.commit.at))
    .bind(row.reviewed.unwrap_or_default())
    .bind(row.request_hash.to_vec())
    .bind(key)
    .bind(payout.bytes());
    tx.execute(statement).await.map(drop)
}

async fn update_payout(tx: &mut Transaction, row: &PayoutRow<'_>) -> Result<(), LedgerError> {
    let payout = &row.commit.payout;
    let statement = query(
        "UPDATE payouts SET version = $3, state = $4, final = $5, frozen = $6, last_attempt = $7, next_ms = $8,
             next_bank = $9, updated_ms = $10, reviewed = coalesce($11, reviewed), body = $12
         WHERE namespace = $1 AND payout_id = $2",
    )
    .bind(&payout.namespace)
    .bind(&payout.payout_id)
    .bind(to_i64(row.commit.version()))
    .bind(row.state().as_str())
    .bind(row.is_final())
    .bind(payout.frozen)
    .bind(last_attempt(row))
    .bind(row.next_action().map(millis))
    .bind(row.next_bank())
    .bind(millis(row.commit.at))
    .bind(row.reviewed)
    .bind(payout.bytes());
    tx.execute(statement).await.map(drop)
}

async fn update_attempt(tx: &mut Transaction, row: &PayoutRow<'_>, attempt: &Attempt) -> Result<(), LedgerError> {
    let statement = query(
        "UPDATE payout_attempts SET state = $4, final = $5, accepted_for = $6, evidence = $7
         WHERE namespace = $1 AND payout_id = $2 AND attempt_no = $3
             AND (state <> $4 OR accepted_for IS DISTINCT FROM $6 OR evidence <> $7)",
    )
    .bind(&row.commit.payout.namespace)
    .bind(&row.commit.payout.payout_id)
    .bind(i64::from(attempt.plan.attempt_no))
    .bind(attempt.state.as_str())
    .bind(attempt.state.is_final())
    .bind(attempt.risk_accepted_for.map(i64::from))
    .bind(evidence(attempt));
    tx.execute(statement).await.map(drop)
}

async fn insert_attempt(tx: &mut Transaction, row: &PayoutRow<'_>, attempt: &Attempt) -> Result<(), LedgerError> {
    let statement = query(
        "INSERT INTO payout_attempts (namespace, payout_id, attempt_no, attempt_id, decision_id, bank, state, final,
             accepted_for, decided_ms, evidence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(&row.commit.payout.namespace)
    .bind(&row.commit.payout.payout_id)
    .bind(i64::from(attempt.plan.attempt_no))
    .bind(attempt.attempt_id.as_bytes().to_vec())
    .bind(attempt.plan.decision_id.as_bytes().to_vec())
    .bind(&attempt.plan.bank)
    .bind(attempt.state.as_str())
    .bind(attempt.state.is_final())
    .bind(attempt.risk_accepted_for.map(i64::from))
    .bind(millis(attempt.decided_at))
    .bind(evidence(attempt));
    tx.execute(statement).await.map(drop)
}

async fn write_timeline(tx: &mut Transaction, row: &PayoutRow<'_>, one: &TimelineRow) -> Result<(), LedgerError> {
    let (event, states, intent) = match one.event {
        TimelineEvent::Act => ("act", None, None),
        TimelineEvent::Transition { from, to } => ("transition", Some((from.as_str(), to.as_str())), None),
        TimelineEvent::Intent { call, fence } => ("intent", None, Some((call.as_str(), fence))),
    };
    let statement = query(
        "INSERT INTO payout_timeline (namespace, payout_id, seq, place, at_ms, act, event, attempt_no, from_state,
             to_state, call, fence, evidence, hold, subject)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(&row.commit.payout.namespace)
    .bind(&row.commit.payout.payout_id)
    .bind(to_i64(one.seq))
    .bind(i64::from(one.place))
    .bind(millis(one.at))
    .bind(one.act.as_str())
    .bind(event)
    .bind(one.attempt_no.map(i64::from))
    .bind(states.map(|(from, _)| from))
    .bind(states.map(|(_, to)| to))
    .bind(intent.map(|(call, _)| call))
    .bind(intent.map(|(_, fence)| fence))
    .bind(one.evidence.as_ref().map(to_bytes))
    .bind(one.hold.map(HoldReason::as_str))
    .bind(text(&one.subject));
    tx.execute(statement).await.map(drop)
}
