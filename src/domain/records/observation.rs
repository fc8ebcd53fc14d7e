//! Observations: the value of a series on a day.

use jiff::civil::Date;
use rust_decimal::Decimal;

use super::shape::{CellValue, Column, ColumnKind, RecordIdentity, RowShape, column, day, decimal, optional};

/// The value of a series on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationRecord {
    /// What identifies it.
    pub identity: RecordIdentity,
    /// The series.
    pub series: String,
    /// The day, which is never an instant.
    pub on: Date,
    /// The value; absent where the provider says that there is none.
    pub value: Option<Decimal>,
    /// The first day on which this value was the known one, if the provider says.
    pub known_from: Option<Date>,
    /// The last such day, if the provider says.
    pub known_to: Option<Date>,
}

impl RowShape for ObservationRecord {
    const TABLE: &'static str = "observations";
    const COLUMNS: &'static [Column] = &[
        column("series", ColumnKind::Text),
        column("observed_on", ColumnKind::Day),
        optional("amount", ColumnKind::Decimal),
        optional("known_from", ColumnKind::Day),
        optional("known_to", ColumnKind::Day),
    ];

    fn identity(&self) -> &RecordIdentity {
        &self.identity
    }

    fn identity_mut(&mut self) -> &mut RecordIdentity {
        &mut self.identity
    }

    fn values(&self) -> Vec<CellValue> {
        vec![
            CellValue::Text(self.series.clone()),
            CellValue::Day(self.on),
            decimal(self.value),
            day(self.known_from),
            day(self.known_to),
        ]
    }
}
