//! What a batch depends on, read in its transaction: a few statements for all entries.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::codec::{LOG, decimal, hash, ids, limit_day, log_row, uuid};
use crate::domain::decision::{DayUsage, EntryKind};
use crate::ledger::decisions::needs::{Needs, limit_days, reported_payouts};
use crate::ledger::decisions::row::LogRow;
use crate::ledger::decisions::state::{BatchState, Named};
use crate::ledger::decisions::{
    ChainEnds, DecisionBatch, LimitDay, ProposalState, RouteProposal, StoredDecision, StoredProposal,
};
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::{count, get, millis, small, stored_enum, timestamp_opt};
use crate::ledger::postgres::payouts;
use crate::ledger::postgres::transaction::{Transaction, lock};

/// The columns that [`proposal`] reads.
pub(super) const PROPOSAL: &str = "state, settled_ms, settled_by, approved_until_ms, body";

const HEAD: &str = "SELECT head_seq, head_hash, base_seq, base_hash FROM decision_chain";
const LOCKED_HEAD: &str = "SELECT head_seq, head_hash, base_seq, base_hash FROM decision_chain FOR UPDATE";
/// Held while the chain has no row to lock.
const LOCK: &str = "decision chain";

/// The ends of the chain.
pub(super) async fn head(tx: &mut Transaction) -> Result<ChainEnds, LedgerError> {
    let row = tx.fetch_optional(query(HEAD)).await?;
    row.map_or(Ok(ChainEnds::default()), |row| decode_head(&row))
}

/// The ends of the chain, which no other transaction moves until the end of this one.
pub(super) async fn locked_head(tx: &mut Transaction) -> Result<ChainEnds, LedgerError> {
    let mut row = tx.fetch_optional(query(LOCKED_HEAD)).await?;
    if row.is_none() {
        lock(tx, LOCK).await?;
        row = tx.fetch_optional(query(LOCKED_HEAD)).await?;
    }
    row.map_or(Ok(ChainEnds::default()), |row| decode_head(&row))
}

fn decode_head(row: &PgRow) -> Result<ChainEnds, LedgerError> {
    Ok(ChainEnds {
        seq: count(row, "head_seq")?,
        hash: hash(row, "head_hash")?,
        base_seq: count(row, "base_seq")?,
        base_hash: hash(row, "base_hash")?,
    })
}

/// The state that a batch is planned on. Locks the head of the chain first.
pub(super) async fn state<'b>(tx: &mut Transaction, batch: &'b DecisionBatch) -> Result<BatchState<'b>, LedgerError> {
    let needs = Needs::of(batch);
    let mut state = BatchState { head: locked_head(tx).await?, ..BatchState::default() };
    payouts::load::state(tx, &needs, &mut state).await?;
    load_attempts(tx, &needs, &mut state).await?;
    load_named(tx, &needs, &mut state).await?;
    load_changes(tx, &needs, &mut state).await?;
    payouts::load::followed(tx, &reported_payouts(batch, &state), &mut state).await?;
    let days = limit_days(batch, &state);
    if !days.is_empty() {
        for (day, used) in usages(tx, &days).await? {
            state.usage.insert(day, used);
        }
    }
    Ok(state)
}

async fn load_attempts<'b>(
    tx: &mut Transaction,
    needs: &Needs<'b>,
    state: &mut BatchState<'b>,
) -> Result<(), LedgerError> {
    if needs.payouts.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT {LOG}, n.place FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n (namespace, payout_id, place)
         JOIN decision_log l ON l.namespace = n.namespace AND l.payout_id = n.payout_id AND l.payout_id IS NOT NULL
         ORDER BY n.place, l.attempt_no"
    );
    let statement = query(AssertSqlSafe(sql))
        .bind(needs.payouts.iter().map(|(namespace, _)| *namespace).collect::<Vec<_>>())
        .bind(needs.payouts.iter().map(|(_, payout_id)| *payout_id).collect::<Vec<_>>());
    let rows = tx.fetch_all(statement).await?;
    let places = rows.iter().map(|row| small::<usize>(row, "place")).collect::<Result<Vec<_>, _>>()?;
    let log = rows.iter().map(log_row).collect::<Result<Vec<_>, _>>()?;
    for (place, decision) in places.into_iter().zip(decisions(tx, log).await?) {
        if let Some(payout) = place.checked_sub(1).and_then(|place| needs.payouts.get(place)) {
            state.attempts.entry(*payout).or_default().push(decision);
        }
    }
    Ok(())
}

async fn load_named(tx: &mut Transaction, needs: &Needs<'_>, state: &mut BatchState<'_>) -> Result<(), LedgerError> {
    let mut rows = Vec::new();
    for row in entries(tx, &needs.ids).await? {
        match (row.kind, row.columns.id) {
            (EntryKind::Decision | EntryKind::Override, _) => rows.push(row),
            (_, Some(id)) => drop(state.named.insert(id, Named::Other(row.position()))),
            (_, None) => {}
        }
    }
    for decision in decisions(tx, rows).await? {
        state.named.insert(decision.id, Named::Decision(Box::new(decision)));
    }
    Ok(())
}

async fn load_changes<'b>(
    tx: &mut Transaction,
    needs: &Needs<'b>,
    state: &mut BatchState<'b>,
) -> Result<(), LedgerError> {
    if !needs.adjustments.is_empty() {
        let sql = "SELECT id, namespace FROM route_adjustments WHERE id = ANY($1::bytea[]) AND deleted_ms IS NULL";
        for row in tx.fetch_all(query(sql).bind(ids(&needs.adjustments))).await? {
            state.adjustments.insert(uuid(&row, "id")?, get(&row, "namespace")?);
        }
    }
    for (namespace, now) in &needs.namespaces {
        let sql = "SELECT count(*) AS count FROM route_adjustments
             WHERE namespace = $1 AND expires_ms > $2 AND deleted_ms IS NULL";
        let row = tx.fetch_optional(query(sql).bind(*namespace).bind(millis(*now))).await?;
        let in_effect = row.map(|row| count(&row, "count")).transpose()?;
        state.in_effect.insert(*namespace, in_effect.unwrap_or_default());
    }
    if !needs.proposals.is_empty() {
        let sql = format!("SELECT {PROPOSAL} FROM route_proposals WHERE id = ANY($1::bytea[])");
        for row in tx.fetch_all(query(AssertSqlSafe(sql)).bind(ids(&needs.proposals))).await? {
            let stored = proposal(&row)?;
            state.proposals.insert(stored.proposal.id, stored);
        }
    }
    for (namespace, route) in &needs.routes {
        let sql = format!(
            "SELECT {PROPOSAL} FROM route_proposals WHERE namespace = $1 AND route = $2 AND state = 'pending'
             ORDER BY expires_ms DESC LIMIT 1"
        );
        if let Some(row) = tx.fetch_optional(query(AssertSqlSafe(sql)).bind(*namespace).bind(*route)).await? {
            state.pending.insert((*namespace, *route), proposal(&row)?);
        }
    }
    Ok(())
}

/// The decisions of a payout, by attempt.
pub(super) async fn attempts(
    tx: &mut Transaction,
    namespace: &str,
    payout_id: &str,
) -> Result<Vec<StoredDecision>, LedgerError> {
    let sql = format!(
        "SELECT {LOG} FROM decision_log l WHERE l.namespace = $1 AND l.payout_id = $2 AND l.payout_id IS NOT NULL
         ORDER BY l.attempt_no"
    );
    let rows = tx.fetch_all(query(AssertSqlSafe(sql)).bind(namespace).bind(payout_id)).await?;
    let rows = rows.iter().map(log_row).collect::<Result<_, _>>()?;
    decisions(tx, rows).await
}

/// The entries with these IDs, in any order.
pub(super) async fn entries(tx: &mut Transaction, wanted: &[Uuid]) -> Result<Vec<LogRow>, LedgerError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {LOG} FROM decision_log l WHERE l.id = ANY($1::bytea[]) AND l.id IS NOT NULL");
    tx.fetch_all(query(AssertSqlSafe(sql)).bind(ids(wanted))).await?.iter().map(log_row).collect()
}

/// Decisions with what was reported of them, in their order.
pub(super) async fn decisions(tx: &mut Transaction, rows: Vec<LogRow>) -> Result<Vec<StoredDecision>, LedgerError> {
    let mut decisions = rows.into_iter().map(LogRow::into_decision).collect::<Result<Vec<_>, _>>()?;
    if decisions.is_empty() {
        return Ok(decisions);
    }
    let wanted: Vec<Uuid> = decisions.iter().map(|decision| decision.id).collect();
    let sql = format!(
        "SELECT {LOG} FROM decision_log l WHERE l.about = ANY($1::bytea[]) AND l.about IS NOT NULL ORDER BY l.seq"
    );
    let mut told: HashMap<Uuid, Vec<LogRow>> = HashMap::new();
    for row in tx.fetch_all(query(AssertSqlSafe(sql)).bind(ids(&wanted))).await? {
        let row = log_row(&row)?;
        if let Some(about) = row.columns.about {
            told.entry(about).or_default().push(row);
        }
    }
    for decision in &mut decisions {
        for about in told.get(&decision.id).into_iter().flatten() {
            about.tell(decision)?;
        }
    }
    Ok(decisions)
}

/// What is used of the limits of these days, without those of which nothing is.
pub(super) async fn usages(tx: &mut Transaction, days: &[LimitDay]) -> Result<Vec<(LimitDay, DayUsage)>, LedgerError> {
    let statement = query(
        "SELECT u.namespace, u.route, u.candidate, u.day, u.amount, u.count
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS n (namespace, route, candidate, day)
         JOIN decision_usage u ON u.namespace = n.namespace AND u.route = n.route AND u.candidate = n.candidate
             AND u.day = n.day",
    )
    .bind(days.iter().map(|day| day.namespace.as_str()).collect::<Vec<_>>())
    .bind(days.iter().map(|day| day.route.as_str()).collect::<Vec<_>>())
    .bind(days.iter().map(|day| day.candidate.as_str()).collect::<Vec<_>>())
    .bind(days.iter().map(LimitDay::stored_day).collect::<Vec<_>>());
    tx.fetch_all(statement).await?.iter().map(decode_usage).collect()
}

fn decode_usage(row: &PgRow) -> Result<(LimitDay, DayUsage), LedgerError> {
    let (amount, day): (String, String) = (get(row, "amount")?, get(row, "day")?);
    let (day, currency) = limit_day(&day, "decision_usage.day")?;
    let (namespace, route, candidate) = (get(row, "namespace")?, get(row, "route")?, get(row, "candidate")?);
    let used = DayUsage { amount: decimal(&amount, "decision_usage.amount")?, count: small(row, "count")?, day };
    Ok((LimitDay { namespace, route, candidate, day, currency }, used))
}

/// A proposal.
pub(super) fn proposal(row: &PgRow) -> Result<StoredProposal, LedgerError> {
    let (body, state): (Vec<u8>, String) = (get(row, "body")?, get(row, "state")?);
    let proposal = RouteProposal::decode(&body).ok_or(LedgerError::Corrupt { column: "route_proposals.body" })?;
    Ok(StoredProposal {
        proposal,
        state: stored_enum(&ProposalState::ALL, ProposalState::as_str, &state, "route_proposals.state")?,
        settled_at: timestamp_opt(row, "settled_ms")?,
        settled_by: get(row, "settled_by")?,
        approved_until: timestamp_opt(row, "approved_until_ms")?,
    })
}
