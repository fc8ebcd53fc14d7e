//! The batch transaction: head, state, plan, rows, snapshots, counters, head.

use sqlx::query;

use super::load;
use crate::ledger::decisions::plan::{Plan, plan};
use crate::ledger::decisions::row::NewRow;
use crate::ledger::decisions::stored::stored_day;
use crate::ledger::decisions::{ChainEnds, DecisionBatch, EntryOutcome};
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::{millis, text, to_i64};
use crate::ledger::postgres::payouts;
use crate::ledger::postgres::transaction::Transaction;

/// Commits a batch in the caller's transaction.
pub(super) async fn commit(tx: &mut Transaction, batch: &DecisionBatch) -> Result<Vec<EntryOutcome>, LedgerError> {
    let state = load::state(tx, batch).await?;
    let plan = plan(batch, state);
    if !plan.rows.is_empty() {
        append(tx, &plan.rows).await?;
        write_snapshots(tx, &plan).await?;
        write_usage(tx, &plan).await?;
        write_changes(tx, &plan).await?;
        payouts::write::write(tx, &plan).await?;
        set_head(tx, plan.head).await?;
    }
    Ok(plan.outcomes)
}

/// Appends rows; the caller moves the head.
pub(super) async fn append(tx: &mut Transaction, rows: &[NewRow<'_>]) -> Result<(), LedgerError> {
    let all = || rows.iter();
    let statement = query(
        "INSERT INTO decision_log (seq, kind, at_ms, id, namespace, payout_id, attempt_no, request_hash, route, candidate,
             snapshot, about, reserved_amount, reserved_bank, reserved_day, hash, body)
         SELECT p.* FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::text[], $7::bigint[],
             $8::bytea[], $9::text[], $10::text[], $11::bytea[], $12::bytea[], $13::text[], $14::text[], $15::text[],
             $16::bytea[], $17::bytea[]) p",
    )
    .bind(all().map(|row| to_i64(row.seq)).collect::<Vec<_>>())
    .bind(all().map(|row| row.kind.as_str()).collect::<Vec<_>>())
    .bind(all().map(|row| millis(row.at)).collect::<Vec<_>>())
    .bind(all().map(|row| row.id.map(|id| id.as_bytes().to_vec())).collect::<Vec<_>>())
    .bind(all().map(|row| row.namespace.as_deref()).collect::<Vec<_>>())
    .bind(all().map(|row| row.payout_id).collect::<Vec<_>>())
    .bind(all().map(|row| row.attempt_no.map(i64::from)).collect::<Vec<_>>())
    .bind(all().map(|row| row.request_hash.map(|hash| hash.to_vec())).collect::<Vec<_>>())
    .bind(all().map(|row| row.route.as_deref()).collect::<Vec<_>>())
    .bind(all().map(|row| row.candidate).collect::<Vec<_>>())
    .bind(all().map(|row| row.snapshot.map(|hash| hash.to_vec())).collect::<Vec<_>>())
    .bind(all().map(|row| row.about.map(|id| id.as_bytes().to_vec())).collect::<Vec<_>>())
    .bind(all().map(|row| row.reserved.map(|it| it.amount.normalize().to_string())).collect::<Vec<_>>())
    .bind(all().map(|row| row.reserved.map(|it| it.candidate.as_str())).collect::<Vec<_>>())
    .bind(all().map(|row| row.reserved.map(|it| stored_day(it.day, it.currency))).collect::<Vec<_>>())
    .bind(all().map(|row| row.hash.to_vec()).collect::<Vec<_>>())
    .bind(all().map(|row| row.body.to_vec()).collect::<Vec<_>>());
    tx.execute(statement).await.map(drop)
}

async fn write_snapshots(tx: &mut Transaction, plan: &Plan<'_>) -> Result<(), LedgerError> {
    for (snapshot, last) in &plan.snapshots {
        // Most batches name a snapshot that is stored: its body is not sent again.
        let known = query("UPDATE decision_snapshots SET last_seq = $2 WHERE id = $1");
        if tx.execute(known.bind(snapshot.id.to_vec()).bind(to_i64(*last))).await? > 0 {
            continue;
        }
        let new = query("INSERT INTO decision_snapshots (id, last_seq, body) VALUES ($1, $2, $3)");
        tx.execute(new.bind(snapshot.id.to_vec()).bind(to_i64(*last)).bind(&snapshot.body)).await?;
    }
    Ok(())
}

async fn write_usage(tx: &mut Transaction, plan: &Plan<'_>) -> Result<(), LedgerError> {
    if plan.usage.is_empty() {
        return Ok(());
    }
    let all = || plan.usage.iter();
    let statement = query(
        "INSERT INTO decision_usage (namespace, route, candidate, day, amount, count)
         SELECT p.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) p
         ON CONFLICT (namespace, route, candidate, day) DO UPDATE SET amount = excluded.amount, count = excluded.count",
    )
    .bind(all().map(|(day, _)| day.namespace.as_str()).collect::<Vec<_>>())
    .bind(all().map(|(day, _)| day.route.as_str()).collect::<Vec<_>>())
    .bind(all().map(|(day, _)| day.candidate.as_str()).collect::<Vec<_>>())
    .bind(all().map(|(day, _)| day.stored_day()).collect::<Vec<_>>())
    .bind(all().map(|(_, used)| used.amount.normalize().to_string()).collect::<Vec<_>>())
    .bind(all().map(|(_, used)| i64::from(used.count)).collect::<Vec<_>>());
    tx.execute(statement).await.map(drop)
}

async fn write_changes(tx: &mut Transaction, plan: &Plan<'_>) -> Result<(), LedgerError> {
    for adjustment in &plan.adjustments {
        let statement =
            query("INSERT INTO route_adjustments (id, namespace, expires_ms, body) VALUES ($1, $2, $3, $4)")
                .bind(adjustment.id.as_bytes().to_vec())
                .bind(&adjustment.namespace)
                .bind(millis(adjustment.expires_at))
                .bind(adjustment.encode());
        tx.execute(statement).await?;
    }
    for (id, at) in &plan.deleted {
        let statement = query("UPDATE route_adjustments SET deleted_ms = $2 WHERE id = $1 AND deleted_ms IS NULL");
        tx.execute(statement.bind(id.as_bytes().to_vec()).bind(millis(*at))).await?;
    }
    for proposal in &plan.proposals {
        let statement = query(
            "INSERT INTO route_proposals (id, namespace, route, state, created_ms, expires_ms, body)
             VALUES ($1, $2, $3, 'pending', $4, $5, $6)",
        )
        .bind(proposal.id.as_bytes().to_vec())
        .bind(&proposal.namespace)
        .bind(&proposal.route)
        .bind(millis(proposal.created_at))
        .bind(millis(proposal.expires_at))
        .bind(proposal.encode());
        tx.execute(statement).await?;
    }
    for settlement in &plan.settled {
        let statement = query(
            "UPDATE route_proposals SET state = $2, settled_ms = $3, settled_by = $4, approved_until_ms = $5
             WHERE id = $1",
        )
        .bind(settlement.proposal.as_bytes().to_vec())
        .bind(settlement.state.as_str())
        .bind(millis(settlement.at))
        .bind(text(&settlement.subject))
        .bind(settlement.approved_until.map(millis));
        tx.execute(statement).await?;
    }
    Ok(())
}

/// Stores the ends of the chain.
pub(super) async fn set_head(tx: &mut Transaction, head: ChainEnds) -> Result<(), LedgerError> {
    let statement = query(
        "INSERT INTO decision_chain (id, head_seq, head_hash, base_seq, base_hash) VALUES (1, $1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET head_seq = excluded.head_seq, head_hash = excluded.head_hash,
             base_seq = excluded.base_seq, base_hash = excluded.base_hash",
    )
    .bind(to_i64(head.seq))
    .bind(head.hash.to_vec())
    .bind(to_i64(head.base_seq))
    .bind(head.base_hash.to_vec());
    tx.execute(statement).await.map(drop)
}
