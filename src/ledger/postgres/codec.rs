//! Conversion between Rust values and columns.

use std::borrow::Cow;

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use uuid::Uuid;

use crate::ledger::error::LedgerError;

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

/// The instant in a column.
pub(super) fn timestamp(row: &PgRow, column: &'static str) -> Result<Timestamp, LedgerError> {
    instant(get(row, column)?, column)
}

/// The instant in a column that may be NULL.
pub(super) fn timestamp_opt(row: &PgRow, column: &'static str) -> Result<Option<Timestamp>, LedgerError> {
    instant_opt(get(row, column)?, column)
}

/// A column's value; a type mismatch is reported as corruption.
pub(super) fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    row: &'r PgRow,
    column: &'static str,
) -> Result<T, LedgerError> {
    row.try_get(column).map_err(|_| LedgerError::Corrupt { column })
}

/// A counter column. Integers are signed; a negative count is reported as corruption.
pub(super) fn count(row: &PgRow, column: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| LedgerError::Corrupt { column })
}

/// A counter from a column that may be NULL.
pub(super) fn count_opt(row: &PgRow, column: &'static str) -> Result<Option<u64>, LedgerError> {
    let count: Option<i64> = get(row, column)?;
    count.map(|count| u64::try_from(count).map_err(|_| LedgerError::Corrupt { column })).transpose()
}

/// A number of a smaller type from a BIGINT column.
pub(super) fn small<T: TryFrom<i64>>(row: &PgRow, column: &'static str) -> Result<T, LedgerError> {
    T::try_from(get::<i64>(row, column)?).map_err(|_| LedgerError::Corrupt { column })
}

/// A number of a smaller type from a BIGINT column that may be NULL.
pub(super) fn small_opt<T: TryFrom<i64>>(row: &PgRow, column: &'static str) -> Result<Option<T>, LedgerError> {
    let number: Option<i64> = get(row, column)?;
    number.map(|number| T::try_from(number).map_err(|_| LedgerError::Corrupt { column })).transpose()
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

/// A UUID from a text column that may be NULL.
pub(super) fn uuid_opt(row: &PgRow, column: &'static str) -> Result<Option<Uuid>, LedgerError> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| Uuid::parse_str(&text).map_err(|_| LedgerError::Corrupt { column })).transpose()
}

/// A text that the server can store: a NUL becomes U+FFFD.
pub(super) fn text(value: &str) -> Cow<'_, str> {
    if value.contains('\0') { value.replace('\0', "\u{fffd}").into() } else { value.into() }
}

/// Like [`text`], for a value that may be absent.
pub(super) fn text_opt(value: Option<&str>) -> Option<Cow<'_, str>> {
    value.map(text)
}
