//! Adopts the rows of versions that knew no sources: they stored all sources of a stream under its name alone. Such
//! rows are in a ledger that was copied from SQLite.

use sqlx::{AssertSqlSafe, query};

use super::codec::get;
use super::cursor::{find_stream, lock_stream};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::transaction::{Transaction, read_tx, write_tx};
use crate::domain::cursor::{StreamKey, stream_name};
use crate::domain::row_batch::{DOCUMENTS, tables};
use crate::ledger::error::LedgerError;
use crate::ledger::sources::SourceAdoption;

const ADOPT: OperationName = OperationName("adopting a stream's rows");

impl PostgresLedger {
    pub(super) async fn source_adopt(&self, adoption: &SourceAdoption<'_>) -> Result<bool, LedgerError> {
        let former = former_stream(&adoption.cursor.stream);
        // Nearly always there is none: then nothing is written.
        if read_tx!(self, ADOPT, |tx| find_stream(tx, &former).await)?.is_none() {
            return Ok(false);
        }
        write_tx!(self, ADOPT, |tx| adopt(tx, adoption, &former).await)
    }
}

fn former_stream(stream: &StreamKey) -> StreamKey {
    StreamKey { stream: stream_name(&stream.stream).to_owned(), ..stream.clone() }
}

/// Adopts the former stream if all that is known of it belongs to this source: the cursors of its readers. The rows of
/// several sources cannot be told apart: they stay, and are read anew.
async fn adopt(
    tx: &mut Transaction,
    adoption: &SourceAdoption<'_>,
    former_key: &StreamKey,
) -> Result<bool, LedgerError> {
    let cursor = adoption.cursor;
    lock_stream(tx, former_key).await?;
    lock_stream(tx, &cursor.stream).await?;
    assert_held(tx, adoption.lease).await?;
    let Some(former) = find_stream(tx, former_key).await? else { return Ok(false) };
    let rows = tx.fetch_all(query("SELECT job, spec_hash FROM sync_state WHERE stream_id = $1").bind(former)).await?;
    let readers = rows
        .iter()
        .map(|row| Ok((get::<String>(row, "job")?, get::<String>(row, "spec_hash")?)))
        .collect::<Result<Vec<_>, LedgerError>>()?;
    let same_source = |hash: &str| {
        let source = hash.split_once('.').map_or(hash, |(source, _)| source);
        adoption.source_hashes.iter().any(|known| known == source)
    };
    let all_same = !readers.is_empty() && readers.iter().all(|(_, hash)| same_source(hash));
    match find_stream(tx, &cursor.stream).await? {
        // Written by a version without sources, after one with them: it is the source's only if its hash says so.
        Some(own) if all_same => merge(tx, former, own).await.map(|()| true),
        // The hash also covers the path, which a corrected profile changes: the only reader goes on with its rows.
        None if all_same || matches!(&readers[..], [(job, _)] if *job == cursor.job) => {
            let statement = query("UPDATE streams SET stream = $2 WHERE id = $1");
            tx.execute(statement.bind(former).bind(&cursor.stream.stream)).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Moves what is stored for one stream to another; where both have it, the moved one is newer.
async fn merge(tx: &mut Transaction, former: i64, own: i64) -> Result<(), LedgerError> {
    for table in tables() {
        let is_same = if table.name == DOCUMENTS.name {
            "n.record_key = o.record_key"
        } else {
            "n.account_token = o.account_token AND n.record_key = o.record_key"
        };
        move_rows(tx, table.name, is_same, former, own).await?;
    }
    move_rows(tx, "dead_letters", "n.fingerprint = o.fingerprint", former, own).await?;
    tx.execute(query("DELETE FROM sync_state WHERE stream_id = $1").bind(former)).await?;
    tx.execute(query("DELETE FROM streams WHERE id = $1").bind(former)).await.map(drop)
}

/// Moves the rows of a table; `is_same` is what identifies a row within its stream.
async fn move_rows(tx: &mut Transaction, table: &str, is_same: &str, former: i64, own: i64) -> Result<(), LedgerError> {
    let sql =
        format!("DELETE FROM {table} o USING {table} n WHERE o.stream_id = $2 AND n.stream_id = $1 AND {is_same}");
    tx.execute(query(AssertSqlSafe(sql)).bind(former).bind(own)).await?;
    let sql = format!("UPDATE {table} SET stream_id = $2 WHERE stream_id = $1");
    tx.execute(query(AssertSqlSafe(sql)).bind(former).bind(own)).await.map(drop)
}
