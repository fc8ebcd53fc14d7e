//! The copy of all tables, and the rows that a copy changes: leases and the epoch.

use jiff::Timestamp;

use super::cell::{Cell, Row};
use super::digest::{Forms, TableDigest};
use super::endpoint::Endpoint;
use super::error::TransferError;
use super::summary::{Progress, TableSummary, TransferSummary};
use super::table::{TablePair, TableShape, pairs};

/// Rows read and inserted at a time: a few hundred KiB.
const BATCH: u32 = 1_000;
/// A copy counts fences on from here: a process that holds a lease of the ledger that the copy replaces, in a fence that the
/// copy does not know yet, must not find its fence issued again.
const FENCE_GAP: i64 = 1_000_000;

/// Copied with changes, and written by a replica that only waits: not compared, and no sign of a ledger in use.
const LEASES: &str = "leases";
/// The same.
const EPOCH: &str = "ledger_epoch";
/// Says only that the ledger can be written.
const WRITE_CHECKS: &str = "write_checks";

/// The epoch of the copy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum CopyEpoch {
    /// One less than the source's: a backup is behind as soon as it is made, because its source goes on.
    Behind,
    /// The source's: nothing is written to the source any more.
    Same,
    /// The source's, and whether the loss is accepted. Payouts are suspended: entries behind the backup may be lost.
    Restored { accept_loss: bool },
}

/// What to copy, and how.
#[derive(Copy, Clone, Debug)]
pub(super) struct CopyOptions {
    /// The epoch of the copy.
    pub(super) epoch: CopyEpoch,
    /// Refuse if a lease of the source is held at this instant.
    pub(super) unused_at: Option<Timestamp>,
}

/// Copies every table of `source` into the empty `target` and commits. After an error the target is to be closed, which rolls
/// back.
pub(super) async fn copy(
    source: &mut dyn Endpoint,
    target: &mut dyn Endpoint,
    options: CopyOptions,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<TransferSummary, TransferError> {
    source.begin_read().await?;
    target.begin_write().await?;
    let target_tables = target.tables().await?;
    assert_empty(target, &target_tables).await?;
    let pairs = pairs(source.tables().await?, &target_tables)?;
    let mut copied: Vec<(TablePair, TableDigest)> = Vec::new();
    let mut epoch = 0;
    for pair in pairs {
        match pair.name() {
            WRITE_CHECKS => {}
            LEASES => copy_leases(source, target, &pair, options.unused_at).await?,
            EPOCH => epoch = copy_epoch(source, target, &pair, options.epoch).await?,
            _ => {
                let digest = copy_table(source, target, &pair, progress).await?;
                copied.push((pair, digest));
            }
        }
    }
    target.continue_sequences(&source.sequences().await?).await?;
    for (pair, expected) in &copied {
        if digest(target, &pair.target, &Forms::of(pair)).await? != *expected {
            return Err(TransferError::Differs { table: pair.name().to_owned() });
        }
        progress(Progress::Verified(pair.name(), expected.rows));
    }
    target.commit().await?;
    let tables = copied.into_iter().filter(|(_, digest)| digest.rows > 0).map(|(pair, digest)| TableSummary {
        table: pair.source.name,
        rows: digest.rows,
        hash: digest.short(),
    });
    Ok(TransferSummary { tables: tables.collect(), epoch })
}

async fn assert_empty(target: &mut dyn Endpoint, tables: &[TableShape]) -> Result<(), TransferError> {
    for table in tables {
        if [LEASES, EPOCH, WRITE_CHECKS].contains(&&*table.name) {
            continue;
        }
        target.open_table(table).await?;
        if !target.next_rows(1).await?.is_empty() {
            return Err(TransferError::NotEmpty { table: table.name.clone() });
        }
    }
    Ok(())
}

async fn copy_table(
    source: &mut dyn Endpoint,
    target: &mut dyn Endpoint,
    pair: &TablePair,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<TableDigest, TransferError> {
    let (mut digest, forms) = (TableDigest::default(), Forms::of(pair));
    source.open_table(&pair.source).await?;
    loop {
        let rows = source.next_rows(BATCH).await?;
        if rows.is_empty() {
            return Ok(digest);
        }
        for row in &rows {
            digest.add(row, &forms);
        }
        target.insert(&pair.target, rows).await?;
        progress(Progress::Copied(pair.name(), digest.rows));
    }
}

async fn digest(from: &mut dyn Endpoint, table: &TableShape, forms: &Forms) -> Result<TableDigest, TransferError> {
    let mut digest = TableDigest::default();
    from.open_table(table).await?;
    loop {
        let rows = from.next_rows(BATCH).await?;
        if rows.is_empty() {
            return Ok(digest);
        }
        for row in &rows {
            digest.add(row, forms);
        }
    }
}

async fn all_rows(source: &mut dyn Endpoint, table: &TableShape) -> Result<Vec<Row>, TransferError> {
    let mut all = Vec::new();
    source.open_table(table).await?;
    loop {
        let rows = source.next_rows(BATCH).await?;
        if rows.is_empty() {
            return Ok(all);
        }
        all.extend(rows);
    }
}

/// The position of a column that every version has.
fn position(table: &TableShape, column: &'static str) -> Result<usize, TransferError> {
    let found = table.columns.iter().position(|candidate| candidate.name == column);
    found.ok_or_else(|| TransferError::Newer { what: format!("table {} without column {column}", table.name) })
}

/// Copies the leases without their holders: their fences count on.
async fn copy_leases(
    source: &mut dyn Endpoint,
    target: &mut dyn Endpoint,
    pair: &TablePair,
    unused_at: Option<Timestamp>,
) -> Result<(), TransferError> {
    let table = &pair.source;
    let [name, holder, fence, expires] = [
        position(table, "name")?,
        position(table, "holder")?,
        position(table, "fence")?,
        position(table, "expires_ms")?,
    ];
    let mut rows = all_rows(source, table).await?;
    for row in &mut rows {
        if let Some(now) = unused_at {
            assert_unused(&row[name], &row[holder], &row[expires], now)?;
        }
        row[holder] = Cell::Text(String::new());
        row[expires] = Cell::Integer(0);
        if let Cell::Integer(fence) = &mut row[fence] {
            *fence = fence.saturating_add(FENCE_GAP);
        }
    }
    // A replica that waits may hold some in the target.
    Ok(target.upsert(&pair.target, "name", rows).await?)
}

fn assert_unused(name: &Cell, holder: &Cell, expires: &Cell, now: Timestamp) -> Result<(), TransferError> {
    match (name, holder, expires) {
        (Cell::Text(lease), Cell::Text(holder), Cell::Integer(expires)) if *expires > now.as_millisecond() => {
            Err(TransferError::InUse {
                lease: lease.clone(),
                holder: holder.clone(),
                until: Timestamp::from_millisecond(*expires).unwrap_or(Timestamp::MAX),
            })
        }
        _ => Ok(()),
    }
}

/// Copies the epoch; returns that of the copy.
async fn copy_epoch(
    source: &mut dyn Endpoint,
    target: &mut dyn Endpoint,
    pair: &TablePair,
    rule: CopyEpoch,
) -> Result<i64, TransferError> {
    let (number, accepted) = (position(&pair.source, "epoch")?, position(&pair.source, "loss_accepted")?);
    let mut rows = all_rows(source, &pair.source).await?;
    let mut epoch = 0;
    for row in &mut rows {
        let stored = if let Cell::Integer(stored) = row[number] { stored } else { 0 };
        let accept_loss = match rule {
            CopyEpoch::Behind => {
                epoch = stored.saturating_sub(1).max(0);
                false
            }
            CopyEpoch::Same => {
                epoch = stored;
                false
            }
            CopyEpoch::Restored { accept_loss } => {
                epoch = stored;
                let restores = position(&pair.source, "restores")?;
                let suspended = position(&pair.source, "payouts_suspended")?;
                let earlier = if let Cell::Integer(earlier) = row[restores] { earlier } else { 0 };
                row[restores] = Cell::Integer(earlier.saturating_add(1));
                row[suspended] = Cell::Integer(1);
                accept_loss
            }
        };
        row[number] = Cell::Integer(epoch);
        row[accepted] = Cell::Integer(i64::from(accept_loss));
    }
    target.upsert(&pair.target, "id", rows).await?;
    Ok(epoch)
}
