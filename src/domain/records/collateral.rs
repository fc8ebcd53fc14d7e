//! Collaterals.

use rust_decimal::Decimal;

use super::shape::{
    CellValue, Column, ColumnKind, RecordIdentity, RowShape, column, decimal, optional, spelling, text, time,
};
use crate::domain::record::BookingTime;

/// A collateral of a loan: what it is worth, and the provider's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollateralRecord {
    /// What identifies it.
    pub identity: RecordIdentity,
    /// The provider's type.
    pub kind: Option<String>,
    /// The provider's status.
    pub status: Option<String>,
    /// ISO 4217, upper case; absent where the record names none.
    pub currency: Option<String>,
    /// Its value, in units of the currency.
    pub value: Option<Decimal>,
    /// Its value after prior claims.
    pub net_value: Option<Decimal>,
    /// Its net value after the haircut.
    pub discounted_value: Option<Decimal>,
    /// When it was valued, if the provider says.
    pub valued: Option<BookingTime>,
    /// The masked record as JSON, fields sorted by name.
    pub body: String,
}

impl RowShape for CollateralRecord {
    const TABLE: &'static str = "collaterals";
    const COLUMNS: &'static [Column] = &[
        optional("kind", ColumnKind::Text),
        optional("status", ColumnKind::Text),
        optional("currency", ColumnKind::Text),
        optional("amount", ColumnKind::Decimal),
        optional("net_amount", ColumnKind::Decimal),
        optional("discounted_amount", ColumnKind::Decimal),
        optional("valued_on", ColumnKind::Day),
        optional("valued_ms", ColumnKind::Instant),
        optional("granularity", ColumnKind::Text),
        spelling("valued_text"),
        column("body", ColumnKind::Json),
    ];

    fn identity(&self) -> &RecordIdentity {
        &self.identity
    }

    fn identity_mut(&mut self) -> &mut RecordIdentity {
        &mut self.identity
    }

    fn values(&self) -> Vec<CellValue> {
        let mut values = vec![
            text(self.kind.as_ref()),
            text(self.status.as_ref()),
            text(self.currency.as_ref()),
            decimal(self.value),
            decimal(self.net_value),
            decimal(self.discounted_value),
        ];
        values.extend(time(self.valued.as_ref()));
        values.push(CellValue::Json(self.body.clone()));
        values
    }
}
