//! Rows of the log as values.

use jiff::civil::Date;
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use uuid::Uuid;

use crate::domain::decision::{EntryKind, Hash, Reservation};
use crate::domain::money::Currency;
use crate::ledger::decisions::EntryColumns;
use crate::ledger::decisions::row::LogRow;
use crate::ledger::decisions::stored::read_day;
use crate::ledger::error::LedgerError;
use crate::ledger::postgres::codec::{get, instant, stored_enum};

/// The columns that [`log_row`] reads, in their order, of the log as `l`.
pub(super) const LOG: &str = "l.seq, l.kind, l.at_ms, l.id, l.namespace, l.payout_id, l.attempt_no, l.request_hash, \
     l.route, l.candidate, l.snapshot, l.about, l.reserved_amount, l.reserved_bank, l.reserved_day, l.hash, l.body";

/// Their names, for errors.
const NAMES: [&str; 17] = [
    "decision_log.seq",
    "decision_log.kind",
    "decision_log.at_ms",
    "decision_log.id",
    "decision_log.namespace",
    "decision_log.payout_id",
    "decision_log.attempt_no",
    "decision_log.request_hash",
    "decision_log.route",
    "decision_log.candidate",
    "decision_log.snapshot",
    "decision_log.about",
    "decision_log.reserved_amount",
    "decision_log.reserved_bank",
    "decision_log.reserved_day",
    "decision_log.hash",
    "decision_log.body",
];

/// A row of the log, whose columns come first. By place: a replay reads some hundred thousand rows a second.
pub(super) fn log_row(row: &PgRow) -> Result<LogRow, LedgerError> {
    let columns = EntryColumns {
        id: bytes(row, 3)?.map(Uuid::from_bytes),
        at: instant(at(row, 2)?, NAMES[2])?,
        namespace: at(row, 4)?,
        payout_id: at(row, 5)?,
        attempt_no: at::<Option<i64>>(row, 6)?.map(u32::try_from).transpose().map_err(|_| corrupt(6))?,
        route: at(row, 8)?,
        candidate: at(row, 9)?,
        request_hash: bytes(row, 7)?,
        snapshot: bytes(row, 10)?,
        about: bytes(row, 11)?.map(Uuid::from_bytes),
        reserved: reservation(row)?,
    };
    let kind: &str = at(row, 1)?;
    Ok(LogRow {
        seq: u64::try_from(at::<i64>(row, 0)?).map_err(|_| corrupt(0))?,
        kind: stored_enum(&EntryKind::ALL, EntryKind::as_str, kind, NAMES[1])?,
        columns,
        body: at(row, 16)?,
        hash: bytes(row, 15)?.ok_or(corrupt(15))?,
    })
}

fn reservation(row: &PgRow) -> Result<Option<Reservation>, LedgerError> {
    let amount: Option<&str> = at(row, 12)?;
    let Some(amount) = amount else { return Ok(None) };
    let (candidate, day): (String, &str) = (at(row, 13)?, at(row, 14)?);
    let (day, currency) = limit_day(day, NAMES[14])?;
    Ok(Some(Reservation { amount: decimal(amount, NAMES[12])?, candidate, currency, day }))
}

const fn corrupt(place: usize) -> LedgerError {
    LedgerError::Corrupt { column: NAMES[place] }
}

/// The value in this place.
fn at<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, place: usize) -> Result<T, LedgerError> {
    row.try_get(place).map_err(|_| corrupt(place))
}

/// The bytes in this place, which may be NULL.
fn bytes<const N: usize>(row: &PgRow, place: usize) -> Result<Option<[u8; N]>, LedgerError> {
    let bytes: Option<&[u8]> = at(row, place)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| corrupt(place))).transpose()
}

/// A hash.
pub(super) fn hash(row: &PgRow, column: &'static str) -> Result<Hash, LedgerError> {
    let bytes: Vec<u8> = get(row, column)?;
    bytes.try_into().map_err(|_| LedgerError::Corrupt { column })
}

/// A UUID.
pub(super) fn uuid(row: &PgRow, column: &'static str) -> Result<Uuid, LedgerError> {
    let bytes: Vec<u8> = get(row, column)?;
    Uuid::from_slice(&bytes).map_err(|_| LedgerError::Corrupt { column })
}

/// UUIDs as a parameter.
pub(super) fn ids(ids: &[Uuid]) -> Vec<Vec<u8>> {
    ids.iter().map(|id| id.as_bytes().to_vec()).collect()
}

/// A decimal in a text.
pub(super) fn decimal(text: &str, column: &'static str) -> Result<Decimal, LedgerError> {
    text.parse().map_err(|_| LedgerError::Corrupt { column })
}

/// A day of a limit and its currency in a text.
pub(super) fn limit_day(text: &str, column: &'static str) -> Result<(Date, Currency), LedgerError> {
    read_day(text).ok_or(LedgerError::Corrupt { column })
}
