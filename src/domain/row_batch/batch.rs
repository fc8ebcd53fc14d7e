//! Rows of one kind, packed: all their texts are one text, all their cells one list.
//!
//! A page of a thousand rows is a few allocations and not ten thousand, however often it is handed on: to the thread
//! that writes, to the staging of a window, to what makes events of changed rows.

use std::fmt::{Display, Write as _};

use super::tables::{DOCUMENTS, TRANSACTIONS};
use crate::domain::decimal_digits::with_plain_numbers;
use crate::domain::document::DocumentRecord;
use crate::domain::record::{BookingTime, TransactionRecord};
use crate::domain::records::{CanonicalRecord, CellValue, Column, ColumnKind, Table};

/// The hash of a row that has none: no content has it.
const NO_HASH: [u8; 32] = [0; 32];
/// The cells of a row before those of its columns: account token, key, quality of the key.
const KEY_CELLS: usize = 3;

/// One value of a row.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// A text; see [`ColumnKind`] for what it may stand for.
    Text(&'a str),
    /// A whole number, or an instant in milliseconds.
    Integer(i64),
}

impl<'a> Cell<'a> {
    /// The text, if it is one.
    pub const fn as_text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub const fn as_integer(self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(number),
            _ => None,
        }
    }
}

/// A cell, with the place of its text.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Packed {
    Null,
    Text { start: usize, end: usize },
    Integer(i64),
}

/// Rows of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowBatch {
    table: &'static Table,
    texts: String,
    cells: Vec<Packed>,
    hashes: Vec<[u8; 32]>,
}

impl RowBatch {
    /// An empty batch of rows of a table.
    pub const fn new(table: &'static Table) -> Self {
        Self { table, texts: String::new(), cells: Vec::new(), hashes: Vec::new() }
    }

    /// A batch of transactions.
    pub fn of_transactions(rows: &[TransactionRecord]) -> Self {
        let mut batch = Self::new(&TRANSACTIONS);
        batch.cells.reserve(rows.len() * batch.width());
        batch.hashes.reserve(rows.len());
        for row in rows {
            batch.push_transaction(row);
        }
        batch
    }

    /// A batch of documents.
    pub fn of_documents(documents: &[DocumentRecord]) -> Self {
        let mut batch = Self::new(&DOCUMENTS);
        for document in documents {
            let quality = document.key_quality.as_str();
            batch.push_with(["", &document.key, quality], document.content_hash(), |cells| {
                cells.text(document.kind.as_str());
                cells.text(&document.body);
            });
        }
        batch
    }

    /// A batch for each kind of the records, in the order in which a kind first occurs.
    pub fn of_records(records: &[CanonicalRecord]) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        for record in records {
            let table = record.table();
            let place = batches.iter().position(|batch| batch.table.name == table.name);
            let place = place.unwrap_or_else(|| {
                batches.push(Self::new(table));
                batches.len() - 1
            });
            let identity = record.identity();
            let key = [&*identity.account_token, &*identity.key, identity.key_quality.as_str()];
            if let Some(batch) = batches.get_mut(place) {
                batch.push_with(key, record.content_hash(), |cells| {
                    for value in record.values() {
                        cells.value(&value);
                    }
                });
            }
        }
        batches
    }

    /// Appends a row as it is stored: the three cells of its key, then those of its columns.
    pub fn push_stored<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>, hash: [u8; 32]) {
        let first = self.cells.len();
        let mut writer = CellWriter { batch: self };
        for cell in cells {
            match cell {
                Cell::Null => writer.null(),
                Cell::Text(text) => writer.text(text),
                Cell::Integer(number) => writer.integer(number),
            }
        }
        self.complete(first, hash);
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.cells.clear();
        self.hashes.clear();
    }

    /// The table of its rows.
    pub const fn table(&self) -> &'static Table {
        self.table
    }

    /// The number of its rows.
    pub const fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether it has no rows.
    pub const fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Its rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = RowView<'_>> {
        (0..self.len()).map(move |row| RowView { batch: self, row })
    }

    /// The row at a place.
    pub fn row(&self, row: usize) -> Option<RowView<'_>> {
        (row < self.len()).then_some(RowView { batch: self, row })
    }

    fn push_transaction(&mut self, record: &TransactionRecord) {
        let key = [&*record.account_token, &*record.key, record.key_quality.as_str()];
        self.push_with(key, record.content_hash(), |cells| {
            cells.text(&record.account);
            cells.time(Some(&record.booked));
            cells.display(record.amount);
            cells.display(record.amount_minor);
            cells.text(&record.currency);
            cells.text(record.status.as_str());
            cells.opt_text(record.counterparty.as_deref());
            cells.opt_text(record.narration.as_deref());
            cells.opt_text(record.category.as_deref());
            cells.time(record.valued.as_ref());
            cells.opt_text(record.supersedes.as_deref());
        });
    }

    fn push_with(&mut self, key: [&str; KEY_CELLS], hash: [u8; 32], write: impl FnOnce(&mut CellWriter<'_>)) {
        let first = self.cells.len();
        let mut writer = CellWriter { batch: self };
        for part in key {
            writer.text(part);
        }
        write(&mut writer);
        self.complete(first, hash);
    }

    /// Each row has one cell for each column, whatever wrote it.
    fn complete(&mut self, first: usize, hash: [u8; 32]) {
        debug_assert_eq!(self.cells.len() - first, self.width(), "{}", self.table.name);
        self.cells.resize(first + self.width(), Packed::Null);
        self.hashes.push(hash);
    }

    const fn width(&self) -> usize {
        KEY_CELLS + self.table.columns.len()
    }

    fn cell(&self, place: usize) -> Cell<'_> {
        match self.cells.get(place) {
            Some(Packed::Text { start, end }) => Cell::Text(self.texts.get(*start..*end).unwrap_or_default()),
            Some(Packed::Integer(number)) => Cell::Integer(*number),
            Some(Packed::Null) | None => Cell::Null,
        }
    }
}

/// Appends the cells of one row.
struct CellWriter<'b> {
    batch: &'b mut RowBatch,
}

impl CellWriter<'_> {
    /// A text. A NUL becomes U+FFFD: not every engine can store one.
    fn text(&mut self, text: &str) {
        let start = self.batch.texts.len();
        if text.contains('\0') {
            self.batch.texts.push_str(&text.replace('\0', "\u{fffd}"));
        } else {
            self.batch.texts.push_str(text);
        }
        self.end_text(start);
    }

    fn opt_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// A text that does not exist yet, written in place.
    fn display(&mut self, value: impl Display) {
        let start = self.batch.texts.len();
        // Writing to a text does not fail; what a value refuses to write is left out.
        let _ = write!(self.batch.texts, "{value}");
        self.end_text(start);
    }

    fn integer(&mut self, number: i64) {
        self.batch.cells.push(Packed::Integer(number));
    }

    fn null(&mut self) {
        self.batch.cells.push(Packed::Null);
    }

    /// The day, the instant, the text and the granularity of a time.
    fn time(&mut self, time: Option<&BookingTime>) {
        let Some(time) = time else {
            (0..4).for_each(|_| self.null());
            return;
        };
        self.display(time.on);
        match time.at {
            Some(at) => self.integer(at.as_millisecond()),
            None => self.null(),
        }
        self.text(&time.text);
        self.text(time.granularity.as_str());
    }

    fn value(&mut self, value: &CellValue) {
        match value {
            CellValue::Null => self.null(),
            CellValue::Text(text) | CellValue::Json(text) => self.text(text),
            CellValue::Decimal(number) => self.display(number),
            CellValue::Integer(number) => self.integer(*number),
            CellValue::Day(day) => self.display(day),
            CellValue::Instant(at) => self.integer(at.as_millisecond()),
        }
    }

    fn end_text(&mut self, start: usize) {
        self.batch.cells.push(Packed::Text { start, end: self.batch.texts.len() });
    }
}

/// A row of a batch.
#[derive(Copy, Clone, Debug)]
pub struct RowView<'a> {
    batch: &'a RowBatch,
    row: usize,
}

impl<'a> RowView<'a> {
    /// Its table.
    pub const fn table(self) -> &'static Table {
        self.batch.table
    }

    /// The token of its account; empty without one.
    pub fn account_token(self) -> &'a str {
        self.key_cell(0)
    }

    /// Its key.
    pub fn key(self) -> &'a str {
        self.key_cell(1)
    }

    /// Origin of its key, as stored.
    pub fn key_quality(self) -> &'a str {
        self.key_cell(2)
    }

    /// The hash of its content.
    pub fn hash(self) -> &'a [u8; 32] {
        self.batch.hashes.get(self.row).unwrap_or(&NO_HASH)
    }

    /// The value of the column at this place.
    pub fn cell(self, column: usize) -> Cell<'a> {
        self.batch.cell(self.first() + KEY_CELLS + column)
    }

    /// The value of the column with this name.
    pub fn get(self, column: &str) -> Cell<'a> {
        let place = self.table().columns.iter().position(|other| other.name == column);
        place.map_or(Cell::Null, |place| self.cell(place))
    }

    /// Its columns with their values.
    pub fn cells(self) -> impl ExactSizeIterator<Item = (&'static Column, Cell<'a>)> {
        self.table().columns.iter().enumerate().map(move |(place, column)| (column, self.cell(place)))
    }

    /// Whether another row of this table has the same content, whatever its spelling: numbers are compared as numbers,
    /// and what is an instant as that. The keys are not compared, their quality is.
    pub fn has_content_of(self, other: RowView<'_>) -> bool {
        self.key_quality() == other.key_quality()
            && self.cells().enumerate().all(|(place, (column, mine))| {
                let theirs = other.cell(place);
                mine == theirs || self.is_same_value(other, column, mine, theirs)
            })
    }

    fn is_same_value(self, other: RowView<'_>, column: &Column, mine: Cell<'_>, theirs: Cell<'_>) -> bool {
        match (column.kind, mine, theirs) {
            (ColumnKind::Decimal | ColumnKind::Json, Cell::Text(mine), Cell::Text(theirs)) => {
                with_plain_numbers(mine) == with_plain_numbers(theirs)
            }
            // The spelling of an instant, which is a column of its own. Without an instant, the text says all there is.
            _ if !column.is_content => {
                let instant = column.name.strip_suffix("_text").map(|stem| format!("{stem}_ms")).unwrap_or_default();
                self.get(&instant) != Cell::Null && other.get(&instant) != Cell::Null
            }
            _ => false,
        }
    }

    const fn first(self) -> usize {
        self.row * self.batch.width()
    }

    fn key_cell(self, place: usize) -> &'a str {
        self.batch.cell(self.first() + place).as_text().unwrap_or_default()
    }
}
