//! Deliveries that are published again because a person asks for it.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};

use crate::ledger::delivery::requeue::MAX_REQUEUED;
use crate::ledger::delivery::{Requeue, RequeueCount, RequeueKind};
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::{count, get, millis};
use crate::ledger::postgres::transaction::Transaction;

/// Counts the deliveries that are meant, and makes them pending in the caller's transaction unless it is a dry run.
pub(super) async fn requeue(tx: &mut Transaction, requeue: &Requeue) -> Result<Vec<RequeueCount>, LedgerError> {
    let chosen = chosen(requeue.kind);
    let sql = if requeue.dry_run {
        format!("SELECT m.consumer_id, m.type, count(*) AS number FROM ({chosen}) AS m GROUP BY 1, 2 ORDER BY 1, 2")
    } else {
        format!(
            "WITH meant AS ({chosen} ORDER BY d.event_seq, d.consumer_id LIMIT {MAX_REQUEUED} FOR UPDATE OF d),
             changed AS (
                 UPDATE outbox_delivery o SET publish_status = 'pending', next_try_ms = 0 FROM meant AS m
                 WHERE o.event_seq = m.event_seq AND o.consumer_id = m.consumer_id
                 RETURNING m.consumer_id, m.type
             )
             SELECT consumer_id, type, count(*) AS number FROM changed GROUP BY 1, 2 ORDER BY 1, 2"
        )
    };
    let types = (!requeue.event_types.is_empty()).then(|| requeue.event_types.clone());
    let ids = (!requeue.event_ids.is_empty())
        .then(|| requeue.event_ids.iter().map(ToString::to_string).collect::<Vec<String>>());
    let statement = query(AssertSqlSafe(sql))
        .bind(requeue.consumer_id)
        .bind(requeue.from.map(millis))
        .bind(requeue.max_tries.map(i64::from))
        .bind(requeue.namespaces.clone())
        .bind(types)
        .bind(ids);
    let decode = |row: &PgRow| -> Result<RequeueCount, LedgerError> {
        Ok(RequeueCount {
            consumer_id: get(row, "consumer_id")?,
            event_type: get(row, "type")?,
            count: count(row, "number")?,
        })
    };
    let counts = tx.fetch_all(statement).await?.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    if !requeue.dry_run && !counts.is_empty() {
        tx.note_events();
    }
    Ok(counts)
}

/// The query of the deliveries that are meant.
fn chosen(kind: RequeueKind) -> String {
    let (state, tries) = match kind {
        RequeueKind::Resend => ("d.publish_status = 'pending'", "d.publish_try_count"),
        RequeueKind::Redeliver => (
            "d.publish_status = 'published' AND d.deliver_status NOT IN ('received', 'processed')",
            "d.deliver_try_count",
        ),
    };
    format!(
        "SELECT d.event_seq, d.consumer_id, e.type FROM outbox_delivery d JOIN outbox_event e ON e.seq = d.event_seq
         JOIN consumers c ON c.id = d.consumer_id AND c.removed_ms IS NULL
         WHERE {state} AND ($1::bigint IS NULL OR d.consumer_id = $1)
             AND ($2::bigint IS NULL OR e.created_ms >= $2)
             AND ($3::bigint IS NULL OR {tries} <= $3)
             AND ($4::text[] IS NULL OR e.namespace = ANY ($4))
             AND ($5::text[] IS NULL OR e.type = ANY ($5))
             AND ($6::text[] IS NULL OR e.id = ANY ($6))"
    )
}
