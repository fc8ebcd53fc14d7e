//! Writes rows of any kind: inserts new ones, updates changed ones, skips equal ones.
//!
//! What is stored is compared first, by a join: a page read twice writes no row, no index and no WAL (a guarded upsert
//! would lock, and so write, every row that it leaves alone). Where the hashes differ, the values are compared, because
//! an amount or an instant may only be spelled differently. A page is a few statements, whatever its number of rows:
//! their values are arrays, one for each column.

use std::collections::HashMap;
use std::fmt::Write as _;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row as _};

use super::codec::{get, millis};
use super::transaction::Transaction;
use crate::domain::event::{ChangedRow, RowChange};
use crate::domain::record::RowStatus;
use crate::domain::records::{Column, ColumnKind, Table};
use crate::domain::row_batch::{Cell, DOCUMENTS, RowBatch, RowView, TRANSACTIONS};
use crate::ledger::error::LedgerError;
use crate::ledger::page::{PageCommit, PageCounts};

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// What all rows of a page have in common.
pub(super) struct PageStamp {
    pub(super) stream_id: i64,
    pub(super) run: String,
    pub(super) now: i64,
    /// Whether the page says which transactions of its account are pending.
    pub(super) lists_pending: bool,
}

impl PageStamp {
    pub(super) fn new(stream_id: i64, page: &PageCommit<'_>) -> Self {
        Self { stream_id, run: page.run.to_string(), now: millis(page.now), lists_pending: page.pending.is_some() }
    }
}

/// Which raw payload the rows of a batch were read from.
#[derive(Copy, Clone)]
pub(super) enum RawRefs<'a> {
    /// All of them from one, if it is stored.
    Page(Option<&'a str>),
    /// Each from its own.
    Each(&'a [Option<String>]),
}

impl<'a> RawRefs<'a> {
    fn of(self, row: usize) -> Option<&'a str> {
        match self {
            Self::Page(id) => id,
            Self::Each(ids) => ids.get(row).and_then(Option::as_deref),
        }
    }
}

/// What was written.
#[derive(Default)]
pub(super) struct Written<'b> {
    pub(super) counts: PageCounts,
    pub(super) changed: Vec<ChangedRow<'b>>,
}

/// A stored row with the key of one that arrives and another content, or withdrawn.
struct Stored {
    place: usize,
    id: i64,
    revision: i64,
    is_deleted: bool,
}

/// What is known of the rows of a batch.
struct Known {
    /// The places of rows that are stored with this content.
    same: Vec<i64>,
    others: Vec<Stored>,
}

/// Writes the rows of a batch. The caller has locked the stream.
pub(super) async fn write<'b>(
    tx: &mut Transaction,
    stamp: &PageStamp,
    batch: &'b RowBatch,
    raw_refs: RawRefs<'_>,
    written: &mut Written<'b>,
) -> Result<(), LedgerError> {
    if batch.is_empty() {
        return Ok(());
    }
    let known = find(tx, stamp, batch).await?;
    let mut is_known = vec![false; batch.len()];
    let others = known.others.iter().map(|stored| stored.place);
    for place in known.same.iter().filter_map(|place| usize::try_from(*place).ok()).chain(others) {
        if let Some(mark) = is_known.get_mut(place) {
            *mark = true;
        }
    }
    let rows = || batch.rows().enumerate();
    let new: Vec<(usize, RowView<'b>)> =
        rows().filter(|(place, _)| !is_known.get(*place).copied().unwrap_or_default()).collect();
    let changed = changed(tx, stamp, batch, &known.others).await?;
    insert(tx, stamp, batch.table(), &new, raw_refs).await?;
    update(tx, stamp, batch.table(), &changed, raw_refs).await?;
    written.counts.inserted += new.len() as u64;
    written.counts.updated += changed.len() as u64;
    written.counts.unchanged += (batch.len() - new.len() - changed.len()) as u64;
    // In the order of the page.
    let mut all: Vec<(usize, ChangedRow<'b>)> = new
        .into_iter()
        .map(|(place, row)| (place, ChangedRow { change: RowChange::Inserted, revision: 1, row }))
        .collect();
    all.extend(changed.into_iter().map(|(stored, row)| {
        (stored.place, ChangedRow { change: RowChange::Updated, revision: stored.revision + 1, row })
    }));
    all.sort_by_key(|(place, _)| *place);
    written.changed.extend(all.into_iter().map(|(_, row)| row));
    Ok(())
}

/// Whether a key is stored between the first and the last one of a batch: whether the first stored key from the first one
/// on is one up to the last, in the order of the table's index. The stream is a part of the compared rows, so that no other
/// index serves: with the stream as a condition of its own the planner takes the smallest index that has it, while the table
/// is small or not analyzed, and reads all of the stream's rows for each page.
fn between(table: &str) -> String {
    let (order, first, last, types) = if table == DOCUMENTS.name {
        // Keys of documents are those of a stream; the tokens are named for their type.
        ("r.record_key", "$6", "$8", " AND $5::text IS NOT NULL AND $7::text IS NOT NULL")
    } else {
        ("r.account_token, r.record_key", "$5, $6", "$7, $8", "")
    };
    format!(
        "SELECT (r.stream_id, {order}) <= ($1, {last}) FROM {table} r \
         WHERE (r.stream_id, {order}) >= ($1, {first}){types} ORDER BY r.stream_id, {order} LIMIT 1"
    )
}

/// The first and the last key of a batch, in the order of the index.
struct Bounds<'b> {
    first_token: &'b str,
    first_key: &'b str,
    last_token: &'b str,
    last_key: &'b str,
}

impl<'b> Bounds<'b> {
    fn of(batch: &'b RowBatch) -> Self {
        let keys = || batch.rows().map(|row| (row.account_token(), row.key()));
        let (first_token, first_key) = keys().min().unwrap_or_default();
        let (last_token, last_key) = keys().max().unwrap_or_default();
        Self { first_token, first_key, last_token, last_key }
    }
}

/// Looks the rows up by their keys.
async fn find(tx: &mut Transaction, stamp: &PageStamp, batch: &RowBatch) -> Result<Known, LedgerError> {
    let name = batch.table().name;
    // One look-up of the index for each row, whatever the planner believes of the table: LATERAL and LIMIT leave it no
    // other way. None at all if nothing is stored between the first and the last key: so it is in a first load of IDs
    // that grow, where it saves a quarter of the server's work. The answer is one row of arrays, which is decoded
    // faster than a row each.
    let sql = format!(
        "SELECT coalesce(array_agg(p.place) FILTER (WHERE t.is_same), '{{}}') AS same,
             coalesce(array_agg(p.place) FILTER (WHERE NOT t.is_same), '{{}}') AS places,
             coalesce(array_agg(t.id) FILTER (WHERE NOT t.is_same), '{{}}') AS ids,
             coalesce(array_agg(t.revision) FILTER (WHERE NOT t.is_same), '{{}}') AS revisions,
             coalesce(array_agg(t.is_deleted) FILTER (WHERE NOT t.is_same), '{{}}') AS deleted
         FROM unnest($2::text[], $3::text[], $4::bytea[]) WITH ORDINALITY AS p (token, key, hash, place)
         CROSS JOIN LATERAL (
             SELECT x.id, x.revision, x.deleted_ms IS NOT NULL AS is_deleted,
                 x.content_hash = p.hash AND x.deleted_ms IS NULL AS is_same
             FROM {name} x WHERE x.stream_id = $1 AND x.account_token = p.token AND x.record_key = p.key LIMIT 1) t
         WHERE ({})",
        between(name)
    );
    let tokens: Vec<&str> = batch.rows().map(RowView::account_token).collect();
    let keys: Vec<&str> = batch.rows().map(RowView::key).collect();
    let hashes: Vec<&[u8]> = batch.rows().map(|row| row.hash().as_slice()).collect();
    let bounds = Bounds::of(batch);
    let statement = sqlx::query(AssertSqlSafe(sql)).bind(stamp.stream_id).bind(tokens).bind(keys).bind(hashes);
    let statement = statement.bind(bounds.first_token).bind(bounds.first_key).bind(bounds.last_token);
    let found = tx.fetch_optional(statement.bind(bounds.last_key)).await?;
    let row = found.ok_or(LedgerError::Corrupt { column: "(computed)" })?;
    let zero_based = |places: Vec<i64>| places.into_iter().map(|place| place - 1);
    let (ids, revisions): (Vec<i64>, Vec<i64>) = (get(&row, "ids")?, get(&row, "revisions")?);
    let deleted: Vec<bool> = get(&row, "deleted")?;
    let others = zero_based(get(&row, "places")?).zip(ids).zip(revisions).zip(deleted);
    Ok(Known {
        same: zero_based(get(&row, "same")?).collect(),
        others: others
            .filter_map(|(((place, id), revision), is_deleted)| {
                Some(Stored { place: usize::try_from(place).ok()?, id, revision, is_deleted })
            })
            .collect(),
    })
}

/// The rows whose content is another than what is stored, whatever its spelling.
async fn changed<'s, 'b>(
    tx: &mut Transaction,
    stamp: &PageStamp,
    batch: &'b RowBatch,
    others: &'s [Stored],
) -> Result<Vec<(&'s Stored, RowView<'b>)>, LedgerError> {
    let compared: Vec<i64> = others.iter().filter(|stored| !stored.is_deleted).map(|stored| stored.id).collect();
    let stored_rows = stored_rows(tx, batch.table(), &compared).await?;
    let places: HashMap<i64, usize> = stored_rows.ids.iter().copied().zip(0..).collect();
    let mut changed = Vec::new();
    for stored in others {
        let Some(row) = batch.row(stored.place) else { continue };
        let known = places.get(&stored.id).and_then(|place| stored_rows.batch.row(*place));
        if !known.is_some_and(|known| is_equal(stamp, known, row)) {
            changed.push((stored, row));
        }
    }
    Ok(changed)
}

/// Whether a row whose hash differs has the stored content all the same, or must not replace it.
fn is_equal(stamp: &PageStamp, known: RowView<'_>, row: RowView<'_>) -> bool {
    // What a booked row replaced may still be listed as pending, except where being listed is what keeps it pending.
    let is_replaced = !stamp.lists_pending
        && row.table().name == TRANSACTIONS.name
        && known.get("status").as_text() == Some(RowStatus::Superseded.as_str())
        && row.get("status").as_text() == Some(RowStatus::Pending.as_str());
    is_replaced || known.has_content_of(row)
}

/// Rows as they are stored.
pub(super) struct StoredRows {
    pub(super) batch: RowBatch,
    pub(super) ids: Vec<i64>,
}

/// The stored rows with these ids.
pub(super) async fn stored_rows(
    tx: &mut Transaction,
    table: &'static Table,
    ids: &[i64],
) -> Result<StoredRows, LedgerError> {
    let mut found = StoredRows { batch: RowBatch::new(table), ids: Vec::new() };
    if ids.is_empty() {
        return Ok(found);
    }
    let sql = format!(
        "SELECT account_token, record_key, key_quality{}, content_hash, id FROM {} WHERE id = ANY ($1)",
        selected(table, ""),
        table.name
    );
    for row in tx.fetch_all(sqlx::query(AssertSqlSafe(sql)).bind(ids)).await? {
        push_row(&mut found.batch, &row)?;
        found.ids.push(get(&row, "id")?);
    }
    Ok(found)
}

/// A table's own columns as they are read into a batch, each after a comma and a prefix: numbers of any size as texts.
pub(super) fn selected(table: &Table, prefix: &str) -> String {
    table.columns.iter().fold(String::new(), |mut all, column| {
        let cast = if column.kind == ColumnKind::Decimal { "::text" } else { "" };
        let _ = write!(all, ", {prefix}{}{cast}", column.name);
        all
    })
}

/// Appends a row that starts with the cells of its key and those of its columns, and has a hash.
pub(super) fn push_row(batch: &mut RowBatch, row: &PgRow) -> Result<(), LedgerError> {
    let corrupt = |_| LedgerError::Corrupt { column: "(record)" };
    let mut cells = Vec::with_capacity(3 + batch.table().columns.len());
    for place in 0..3 {
        cells.push(Cell::Text(row.try_get(place).map_err(corrupt)?));
    }
    for (place, column) in (3..).zip(batch.table().columns) {
        cells.push(if is_number(column) {
            row.try_get::<Option<i64>, _>(place).map_err(corrupt)?.map_or(Cell::Null, Cell::Integer)
        } else {
            row.try_get::<Option<&str>, _>(place).map_err(corrupt)?.map_or(Cell::Null, Cell::Text)
        });
    }
    let hash: Vec<u8> = get(row, "content_hash")?;
    batch.push_stored(cells, hash.try_into().unwrap_or_default());
    Ok(())
}

fn is_number(column: &Column) -> bool {
    matches!(column.kind, ColumnKind::Integer | ColumnKind::Instant)
}

/// The arrays of a table's own columns, from the parameter `first` on: how they are unnested, how they are named there,
/// and how their elements become values.
struct Arrays {
    parameters: String,
    names: String,
    values: Vec<String>,
}

impl Arrays {
    fn of(table: &Table, first: usize) -> Self {
        let mut arrays = Self { parameters: String::new(), names: String::new(), values: Vec::new() };
        for (number, column) in table.columns.iter().enumerate() {
            let kind = if is_number(column) { "bigint" } else { "text" };
            let _ = write!(arrays.parameters, ", ${}::{kind}[]", first + number);
            let _ = write!(arrays.names, ", c{number}");
            let cast = if column.kind == ColumnKind::Decimal { "::numeric" } else { "" };
            arrays.values.push(format!("p.c{number}{cast}"));
        }
        arrays
    }
}

/// Binds one array for each of the table's own columns.
fn bind_columns<'q>(mut statement: Statement<'q>, table: &Table, rows: &[RowView<'_>]) -> Statement<'q> {
    for (place, column) in table.columns.iter().enumerate() {
        statement = if is_number(column) {
            statement.bind(rows.iter().map(|row| row.cell(place).as_integer()).collect::<Vec<_>>())
        } else {
            statement.bind(rows.iter().map(|row| row.cell(place).as_text()).collect::<Vec<_>>())
        };
    }
    statement
}

async fn insert(
    tx: &mut Transaction,
    stamp: &PageStamp,
    table: &'static Table,
    new: &[(usize, RowView<'_>)],
    raw_refs: RawRefs<'_>,
) -> Result<(), LedgerError> {
    if new.is_empty() {
        return Ok(());
    }
    let arrays = Arrays::of(table, 9);
    let names = table.columns.iter().fold(String::new(), |all, column| all + ", " + column.name);
    let sql = format!(
        "INSERT INTO {} (stream_id, run_id, created_ms, updated_ms, raw_ref, content_hash, account_token, record_key,
             key_quality{names})
         SELECT $1, $2, $3, $3, p.raw_ref, p.hash, p.token, p.key, p.quality, {}
         FROM unnest($4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[]{})
             AS p (raw_ref, hash, token, key, quality{})",
        table.name,
        arrays.values.join(", "),
        arrays.parameters,
        arrays.names,
    );
    let rows: Vec<RowView<'_>> = new.iter().map(|(_, row)| *row).collect();
    let places = new.iter().map(|(place, _)| *place);
    let statement = sqlx::query(AssertSqlSafe(sql)).bind(stamp.stream_id).bind(&stamp.run).bind(stamp.now);
    let statement = bind_key(statement, &rows, places.map(|place| raw_refs.of(place)).collect());
    tx.execute(bind_columns(statement, table, &rows)).await.map(drop)
}

/// Binds what every table has: raw payload, hash, account, key and its quality.
fn bind_key<'q>(statement: Statement<'q>, rows: &[RowView<'_>], raw_refs: Vec<Option<&str>>) -> Statement<'q> {
    statement
        .bind(raw_refs)
        .bind(rows.iter().map(|row| row.hash().as_slice()).collect::<Vec<&[u8]>>())
        .bind(rows.iter().map(|row| row.account_token()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.key()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.key_quality()).collect::<Vec<_>>())
}

async fn update(
    tx: &mut Transaction,
    stamp: &PageStamp,
    table: &'static Table,
    changed: &[(&Stored, RowView<'_>)],
    raw_refs: RawRefs<'_>,
) -> Result<(), LedgerError> {
    if changed.is_empty() {
        return Ok(());
    }
    let arrays = Arrays::of(table, 9);
    let pairs = table.columns.iter().zip(&arrays.values);
    let values = pairs.fold(String::new(), |mut all, (column, value)| {
        let _ = write!(all, ", {} = {value}", column.name);
        all
    });
    let sql = format!(
        "UPDATE {} t SET run_id = $1, updated_ms = $2, raw_ref = p.raw_ref, content_hash = p.hash,
             account_token = p.token, record_key = p.key, key_quality = p.quality{values}, deleted_ms = NULL,
             revision = t.revision + 1
         FROM unnest($3::bigint[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[]{})
             AS p (id, raw_ref, hash, token, key, quality{})
         WHERE t.id = p.id",
        table.name, arrays.parameters, arrays.names,
    );
    let rows: Vec<RowView<'_>> = changed.iter().map(|(_, row)| *row).collect();
    let ids: Vec<i64> = changed.iter().map(|(stored, _)| stored.id).collect();
    let statement = sqlx::query(AssertSqlSafe(sql)).bind(&stamp.run).bind(stamp.now).bind(ids);
    let refs = changed.iter().map(|(stored, _)| raw_refs.of(stored.place)).collect();
    tx.execute(bind_columns(bind_key(statement, &rows, refs), table, &rows)).await.map(drop)
}
