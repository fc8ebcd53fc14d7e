//! Deliveries that are published again because a person asks for it.

use rusqlite::params_from_iter;
use rusqlite::types::Value;

use crate::ledger::delivery::requeue::MAX_REQUEUED;
use crate::ledger::delivery::{Requeue, RequeueCount, RequeueKind};
use crate::ledger::error::LedgerError;
use crate::ledger::sqlite::codec::{count, get, millis};
use crate::ledger::sqlite::connection::Transaction;

/// Counts the deliveries that are meant, and makes them pending in the caller's transaction unless it is a dry run.
pub(super) fn requeue(tx: &Transaction<'_>, requeue: &Requeue) -> Result<Vec<RequeueCount>, LedgerError> {
    let (mut chosen, params) = chosen(requeue);
    if !requeue.dry_run {
        chosen = format!("{chosen} ORDER BY d.event_seq, d.consumer_id LIMIT {MAX_REQUEUED}");
    }
    let counts = tx.query_all(
        &format!(
            "SELECT consumer_id, type, count(*) AS number FROM ({chosen}) GROUP BY consumer_id, type ORDER BY 1, 2"
        ),
        params_from_iter(params.iter()),
        |row| {
            Ok(RequeueCount {
                consumer_id: get(row, "consumer_id")?,
                event_type: get(row, "type")?,
                count: count(row, "number")?,
            })
        },
    )?;
    if !requeue.dry_run && !counts.is_empty() {
        tx.execute(
            &format!(
                "UPDATE outbox_delivery SET publish_status = 'pending', next_try_ms = 0
                 WHERE (event_seq, consumer_id) IN (SELECT event_seq, consumer_id FROM ({chosen}))"
            ),
            params_from_iter(params.iter()),
        )?;
        tx.note_events();
    }
    Ok(counts)
}

/// The query of the deliveries that are meant, and its parameters.
fn chosen(requeue: &Requeue) -> (String, Vec<Value>) {
    let (state, tries) = match requeue.kind {
        RequeueKind::Resend => ("d.publish_status = 'pending'", "d.publish_try_count"),
        RequeueKind::Redeliver => (
            "d.publish_status = 'published' AND d.deliver_status NOT IN ('received', 'processed')",
            "d.deliver_try_count",
        ),
    };
    let mut sql = format!(
        "SELECT d.event_seq, d.consumer_id, e.type FROM outbox_delivery AS d JOIN outbox_event AS e ON e.seq = d.event_seq
         JOIN consumers AS c ON c.id = d.consumer_id AND c.removed_ms IS NULL WHERE {state}"
    );
    let mut params: Vec<Value> = Vec::new();
    if let Some(consumer_id) = requeue.consumer_id {
        sql.push_str(" AND d.consumer_id = ?");
        params.push(consumer_id.into());
    }
    if let Some(from) = requeue.from {
        sql.push_str(" AND e.created_ms >= ?");
        params.push(millis(from).into());
    }
    if let Some(max_tries) = requeue.max_tries {
        sql.push_str(" AND ");
        sql.push_str(tries);
        sql.push_str(" <= ?");
        params.push(i64::from(max_tries).into());
    }
    if let Some(namespaces) = &requeue.namespaces {
        any_of(&mut sql, &mut params, "e.namespace", namespaces.iter().cloned());
    }
    if !requeue.event_types.is_empty() {
        any_of(&mut sql, &mut params, "e.type", requeue.event_types.iter().cloned());
    }
    if !requeue.event_ids.is_empty() {
        any_of(&mut sql, &mut params, "e.id", requeue.event_ids.iter().map(ToString::to_string));
    }
    (sql, params)
}

/// Adds the condition that `column` has one of `values`; without values none matches.
fn any_of(sql: &mut String, params: &mut Vec<Value>, column: &str, values: impl Iterator<Item = String>) {
    let before = params.len();
    params.extend(values.map(Value::from));
    sql.push_str(" AND ");
    sql.push_str(column);
    sql.push_str(" IN (");
    sql.push_str(&vec!["?"; params.len() - before].join(", "));
    sql.push(')');
}
