//! Balances.

use rust_decimal::Decimal;

use super::shape::{
    CellValue, Column, ColumnKind, RecordIdentity, RowShape, column, decimal, optional, spelling, text, time,
};
use crate::domain::record::BookingTime;

/// A balance of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRecord {
    /// What identifies it.
    pub identity: RecordIdentity,
    /// The masked account number, for display.
    pub account: String,
    /// The provider's type, such as `interimAvailable`.
    pub kind: Option<String>,
    /// In units of the currency; credit is positive.
    pub amount: Decimal,
    /// In the provider's smallest unit of the currency.
    pub amount_minor: i128,
    /// ISO 4217, upper case.
    pub currency: String,
    /// When it was so, if the provider says.
    pub time: Option<BookingTime>,
}

impl RowShape for BalanceRecord {
    const TABLE: &'static str = "balances";
    const COLUMNS: &'static [Column] = &[
        column("account", ColumnKind::Text),
        optional("kind", ColumnKind::Text),
        column("amount", ColumnKind::Decimal),
        // A decimal: it may have more digits than a 64-bit number.
        optional("amount_minor", ColumnKind::Decimal),
        column("currency", ColumnKind::Text),
        optional("as_of_on", ColumnKind::Day),
        optional("as_of_ms", ColumnKind::Instant),
        optional("granularity", ColumnKind::Text),
        spelling("as_of_text"),
    ];

    fn identity(&self) -> &RecordIdentity {
        &self.identity
    }

    fn identity_mut(&mut self) -> &mut RecordIdentity {
        &mut self.identity
    }

    fn values(&self) -> Vec<CellValue> {
        let mut values = vec![
            CellValue::Text(self.account.clone()),
            text(self.kind.as_ref()),
            CellValue::Decimal(self.amount),
            decimal(Decimal::try_from_i128_with_scale(self.amount_minor, 0).ok()),
            CellValue::Text(self.currency.clone()),
        ];
        values.extend(time(self.time.as_ref()));
        values
    }
}
