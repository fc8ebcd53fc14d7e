//! Stored events for a consumer that asked for them when it was created.

use jiff::Timestamp;
use sqlx::query;

use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::get;
use crate::ledger::postgres::transaction::Transaction;

/// Up to which number a new consumer gets stored events; `None` if it gets none.
///
/// Waits for the transactions that store events, and lets none begin before this one ends: what they stored is then at or
/// below the number, and what is stored later finds the consumer.
pub(super) async fn range(tx: &mut Transaction, from: Option<Timestamp>) -> Result<Option<i64>, LedgerError> {
    if from.is_none() {
        return Ok(None);
    }
    // Those that begin meanwhile wait as well: not longer than this.
    tx.execute_raw("SET LOCAL lock_timeout = '2s'").await?;
    tx.execute_raw("LOCK TABLE outbox_event IN SHARE ROW EXCLUSIVE MODE").await?;
    tx.scalar(query("SELECT max(seq) FROM outbox_event")).await
}

/// A consumer whose history is not complete.
struct Open {
    id: i64,
    after: i64,
    through: i64,
}

/// Makes the deliveries of the next `limit` events of one consumer; returns how many events there were.
pub(super) async fn fill(tx: &mut Transaction, limit: u32) -> Result<u64, LedgerError> {
    let open = query(
        "SELECT id, history_after, history_through FROM consumers
         WHERE history_through IS NOT NULL AND removed_ms IS NULL ORDER BY id LIMIT 1 FOR UPDATE",
    );
    let Some(row) = tx.fetch_optional(open).await? else { return Ok(0) };
    let open =
        Open { id: get(&row, "id")?, after: get(&row, "history_after")?, through: get(&row, "history_through")? };
    let seqs = query("SELECT seq FROM outbox_event WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3");
    let seqs = tx.fetch_all(seqs.bind(open.after).bind(open.through).bind(i64::from(limit))).await?;
    let seqs = seqs.iter().map(|row| get(row, "seq")).collect::<Result<Vec<i64>, _>>()?;
    let read = u64::try_from(seqs.len()).unwrap_or(u64::MAX);
    let Some(last) = seqs.last().copied().filter(|last| *last < open.through) else {
        // The last piece.
        insert(tx, &open, open.through).await?;
        tx.execute(query("UPDATE consumers SET history_through = NULL WHERE id = $1").bind(open.id)).await?;
        tx.note_events();
        return Ok(read.max(1));
    };
    insert(tx, &open, last).await?;
    let statement = query("UPDATE consumers SET history_after = $2 WHERE id = $1");
    tx.execute(statement.bind(open.id).bind(last)).await?;
    Ok(read)
}

async fn insert(tx: &mut Transaction, open: &Open, through: i64) -> Result<(), LedgerError> {
    let statement = query(
        "INSERT INTO outbox_delivery (event_seq, consumer_id, aggregate)
         SELECT e.seq, c.id, e.aggregate FROM outbox_event AS e JOIN consumers AS c ON c.id = $1
         WHERE e.seq > $2 AND e.seq <= $3 AND e.created_ms >= c.history_from_ms
             AND (c.namespaces IS NULL OR strpos(c.namespaces, '|' || e.namespace || '|') > 0)
             AND (c.event_types = '' OR strpos(c.event_types, '|' || e.type || '|') > 0)
         ON CONFLICT (event_seq, consumer_id) DO NOTHING",
    );
    tx.execute(statement.bind(open.id).bind(open.after).bind(through)).await.map(drop)
}
