//! Stored events for a consumer that asked for them when it was created.

use jiff::Timestamp;
use rusqlite::params;

use crate::ledger::error::LedgerError;
use crate::ledger::sqlite::codec::get;
use crate::ledger::sqlite::connection::Transaction;

/// Above and up to which number a new consumer gets stored events; `None` if it gets none.
pub(super) fn range(tx: &Transaction<'_>, from: Option<Timestamp>) -> Result<(Option<i64>, Option<i64>), LedgerError> {
    if from.is_none() {
        return Ok((None, None));
    }
    let last: Option<i64> = tx.scalar("SELECT max(seq) FROM outbox_event", [])?;
    Ok((last.map(|_| 0), last))
}

/// A consumer whose history is not complete.
struct Open {
    id: i64,
    after: i64,
    through: i64,
}

/// Makes the deliveries of the next `limit` events of one consumer; returns how many events there were.
pub(super) fn fill(tx: &Transaction<'_>, limit: u32) -> Result<u64, LedgerError> {
    let open = tx.query_opt(
        "SELECT id, history_after, history_through FROM consumers
         WHERE history_through IS NOT NULL AND removed_ms IS NULL ORDER BY id LIMIT 1",
        [],
        |row| {
            Ok(Open { id: get(row, "id")?, after: get(row, "history_after")?, through: get(row, "history_through")? })
        },
    )?;
    let Some(open) = open else { return Ok(0) };
    let seqs: Vec<i64> = tx.query_all(
        "SELECT seq FROM outbox_event WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
        params![open.after, open.through, limit],
        |row| get(row, "seq"),
    )?;
    let Some(last) = seqs.last().copied().filter(|last| *last < open.through) else {
        // The last piece.
        insert(tx, &open, open.through)?;
        tx.execute("UPDATE consumers SET history_through = NULL WHERE id = ?1", [open.id])?;
        tx.note_events();
        return Ok(u64::try_from(seqs.len()).unwrap_or(u64::MAX).max(1));
    };
    insert(tx, &open, last)?;
    tx.execute("UPDATE consumers SET history_after = ?2 WHERE id = ?1", params![open.id, last])?;
    Ok(u64::try_from(seqs.len()).unwrap_or(u64::MAX))
}

fn insert(tx: &Transaction<'_>, open: &Open, through: i64) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO outbox_delivery (event_seq, consumer_id, aggregate)
         SELECT e.seq, c.id, e.aggregate FROM outbox_event AS e JOIN consumers AS c ON c.id = ?1
         WHERE e.seq > ?2 AND e.seq <= ?3 AND e.created_ms >= c.history_from_ms
             AND (c.namespaces IS NULL OR instr(c.namespaces, '|' || e.namespace || '|') > 0)
             AND (c.event_types = '' OR instr(c.event_types, '|' || e.type || '|') > 0)
         ON CONFLICT (event_seq, consumer_id) DO NOTHING",
        params![open.id, open.after, through],
    )
    .map(drop)
}
