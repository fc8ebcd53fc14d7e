//! Between Rust and SQLite: instants, stored words, and what the driver's errors mean.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::ledger::LedgerError;

/// SQLite's result codes (the low byte of an extended code).
const BUSY: i64 = 5;
const LOCKED: i64 = 6;
const READ_ONLY: i64 = 8;
const IO_ERROR: i64 = 10;
const CORRUPT: i64 = 11;
const FULL: i64 = 13;
const CANNOT_OPEN: i64 = 14;

/// What was being done, for the error's text.
#[derive(Copy, Clone, Debug)]
pub(super) struct Step(pub(super) &'static str);

impl Step {
    /// The driver's error as ours.
    pub(super) fn failed(self, source: sqlx::Error) -> LedgerError {
        let step = self.0;
        match primary_code(&source) {
            Some(BUSY | LOCKED) => LedgerError::Busy { step, source },
            Some(READ_ONLY | IO_ERROR | CORRUPT | FULL | CANNOT_OPEN) => LedgerError::Storage { step, source },
            _ if matches!(source, sqlx::Error::PoolTimedOut) => LedgerError::Busy { step, source },
            _ => LedgerError::Query { step, source },
        }
    }
}

fn primary_code(error: &sqlx::Error) -> Option<i64> {
    let extended: i64 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Milliseconds since 1970.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// An instant from its column.
pub(super) fn instant(millis: i64, column: &'static str) -> Result<Timestamp, LedgerError> {
    Timestamp::from_millisecond(millis).map_err(|_| LedgerError::Corrupt { column })
}

/// An instant from a column that may be NULL.
pub(super) fn instant_opt(millis: Option<i64>, column: &'static str) -> Result<Option<Timestamp>, LedgerError> {
    millis.map(|ms| instant(ms, column)).transpose()
}

/// A column's value; a type that does not fit is corruption.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, LedgerError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(|_| LedgerError::Corrupt { column })
}

/// A counter's column. SQLite's integers are signed; a negative count is corruption.
pub(super) fn count(row: &SqliteRow, column: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| LedgerError::Corrupt { column })
}

/// A counter for a column; more than 2^63 of anything does not exist.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Finds the enum value that is stored as `word`.
pub(super) fn word<T: Copy>(
    all: &[T],
    as_str: fn(T) -> &'static str,
    word: &str,
    column: &'static str,
) -> Result<T, LedgerError> {
    all.iter().copied().find(|v| as_str(*v) == word).ok_or(LedgerError::Corrupt { column })
}
