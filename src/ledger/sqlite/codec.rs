//! Conversion between Rust values and SQLite columns, and from driver errors to ledger errors.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::FromSql;

use crate::ledger::error::LedgerError;

/// Name of an operation for error messages, as in "while committing a page".
#[derive(Copy, Clone, Debug)]
pub(super) struct OperationName(pub(super) &'static str);

impl OperationName {
    /// The ledger error for a driver error.
    pub(super) fn failed(self, source: rusqlite::Error) -> LedgerError {
        LedgerError::failed(self.0, source)
    }
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
pub(super) fn get<T: FromSql>(row: &Row<'_>, column: &'static str) -> Result<T, LedgerError> {
    row.get(column).map_err(|_| LedgerError::Corrupt { column })
}

/// A counter column. SQLite integers are signed; a negative count is reported as corruption.
pub(super) fn count(row: &Row<'_>, column: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| LedgerError::Corrupt { column })
}

/// A counter from a column that may be NULL.
pub(super) fn count_opt(row: &Row<'_>, column: &'static str) -> Result<Option<u64>, LedgerError> {
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
