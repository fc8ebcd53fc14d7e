//! Adopts the rows of versions that knew no sources: they stored all sources of a stream under its name alone.

use rusqlite::params;

use super::codec::{OperationName, get};
use super::connection::Transaction;
use super::cursor::find_stream;
use super::database::SqliteLedger;
use super::lease::assert_held;
use crate::domain::cursor::{CursorKey, StreamKey, stream_name};
use crate::domain::row_batch::tables;
use crate::ledger::error::LedgerError;
use crate::ledger::sources::SourceAdoption;

const ADOPT: OperationName = OperationName("adopting a stream's rows");

/// Moves what is stored for one stream to another; where both have it, the moved one is newer.
fn merge(tx: &Transaction<'_>, from: i64, into: i64) -> Result<(), LedgerError> {
    for table in tables().map(|table| table.name).chain(["dead_letters"]) {
        let sql = format!("UPDATE OR REPLACE {table} SET stream_id = ?2 WHERE stream_id = ?1");
        tx.execute(&sql, params![from, into])?;
    }
    for sql in ["DELETE FROM sync_state WHERE stream_id = ?1", "DELETE FROM streams WHERE id = ?1"] {
        tx.execute(sql, [from])?;
    }
    Ok(())
}

impl SqliteLedger {
    pub(super) async fn source_adopt(&self, adoption: &SourceAdoption<'_>) -> Result<bool, LedgerError> {
        let former = former_stream(&adoption.cursor.stream);
        // Nearly always there is none: then nothing is written.
        if self.read(ADOPT, move |tx| find_stream(tx, &former)).await?.is_none() {
            return Ok(false);
        }
        let (cursor, lease) = (adoption.cursor.clone(), adoption.lease.clone());
        let hashes = adoption.source_hashes.clone();
        self.write(ADOPT, move |tx| {
            assert_held(tx, &lease)?;
            adopt(tx, &cursor, &hashes)
        })
        .await
    }
}

fn former_stream(stream: &StreamKey) -> StreamKey {
    StreamKey { stream: stream_name(&stream.stream).to_owned(), ..stream.clone() }
}

/// Adopts the former stream if all that is known of it belongs to this source: the cursors of its readers. The rows of
/// several sources cannot be told apart: they stay, and are read anew.
fn adopt(tx: &Transaction<'_>, cursor: &CursorKey, source_hashes: &[String; 2]) -> Result<bool, LedgerError> {
    let Some(former) = find_stream(tx, &former_stream(&cursor.stream))? else { return Ok(false) };
    let readers: Vec<(String, String)> =
        tx.query_all("SELECT job, spec_hash FROM sync_state WHERE stream_id = ?1", [former], |row| {
            Ok((get(row, "job")?, get(row, "spec_hash")?))
        })?;
    let same_source = |hash: &str| {
        let source = hash.split_once('.').map_or(hash, |(source, _)| source);
        source_hashes.iter().any(|known| known == source)
    };
    let all_same = !readers.is_empty() && readers.iter().all(|(_, hash)| same_source(hash));
    match find_stream(tx, &cursor.stream)? {
        // Written by a version without sources, after one with them: it is the source's only if its hash says so.
        Some(own) if all_same => {
            merge(tx, former, own)?;
            Ok(true)
        }
        // The hash also covers the path, which a corrected profile changes: the only reader goes on with its rows.
        None if all_same || matches!(&readers[..], [(job, _)] if *job == cursor.job) => {
            tx.execute("UPDATE streams SET stream = ?2 WHERE id = ?1", params![former, cursor.stream.stream])?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
