//! Conversion between Rust values and SQLite columns, and from driver errors to ledger errors.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::ledger::error::LedgerError;

/// SQLite result codes (the low byte of an extended code).
const BUSY: i64 = 5;
const LOCKED: i64 = 6;
const READ_ONLY: i64 = 8;
const IO_ERROR: i64 = 10;
const CORRUPT: i64 = 11;
const FULL: i64 = 13;
const CANNOT_OPEN: i64 = 14;

/// Name of an operation for error messages, as in "while committing a page".
#[derive(Copy, Clone, Debug)]
pub(super) struct OperationName(pub(super) &'static str);

impl OperationName {
    /// The ledger error for a driver error.
    pub(super) fn failed(self, source: sqlx::Error) -> LedgerError {
        let operation = self.0;
        let busy = matches!(source, sqlx::Error::PoolTimedOut);
        let (code, source) = (primary_code(&source), source.into());
        match code {
            Some(BUSY | LOCKED) => LedgerError::Busy { operation, source },
            Some(READ_ONLY | IO_ERROR | CORRUPT | FULL | CANNOT_OPEN) => LedgerError::Storage { operation, source },
            _ if busy => LedgerError::Busy { operation, source },
            _ => LedgerError::Query { operation, source },
        }
    }
}

fn primary_code(error: &sqlx::Error) -> Option<i64> {
    let extended: i64 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Milliseconds since the Unix epoch.
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

/// A column's value; a type mismatch is reported as corruption.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, LedgerError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(|_| LedgerError::Corrupt { column })
}

/// A counter column. SQLite integers are signed; a negative count is reported as corruption.
pub(super) fn count(row: &SqliteRow, column: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| LedgerError::Corrupt { column })
}

/// A counter from a column that may be NULL.
pub(super) fn count_opt(row: &SqliteRow, column: &'static str) -> Result<Option<u64>, LedgerError> {
    let count: Option<i64> = get(row, column)?;
    count.map(|count| u64::try_from(count).map_err(|_| LedgerError::Corrupt { column })).transpose()
}

/// A counter as a column value; saturates at 2^63 - 1, which no counter reaches.
pub(super) fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The enum value that is stored as `text`.
pub(super) fn stored_enum<T: Copy>(
    all: &[T],
    as_str: fn(T) -> &'static str,
    text: &str,
    column: &'static str,
) -> Result<T, LedgerError> {
    all.iter().copied().find(|v| as_str(*v) == text).ok_or(LedgerError::Corrupt { column })
}
