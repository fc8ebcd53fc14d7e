//! Quotes: the price of a security at a time, or over a span of time.

use rust_decimal::Decimal;

use super::shape::{
    CellValue, Column, ColumnKind, RecordIdentity, RowShape, column, decimal, optional, spelling, text, time,
};
use crate::domain::record::BookingTime;

/// The price of one security.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteRecord {
    /// What identifies it.
    pub identity: RecordIdentity,
    /// The ticker.
    pub symbol: String,
    /// The name of the security.
    pub name: Option<String>,
    /// ISO 4217, upper case; absent where the provider names none.
    pub currency: Option<String>,
    /// What the price stands for where it is that of a span, such as `1/day`.
    pub span: Option<String>,
    /// The last price; that of the end of a span.
    pub price: Decimal,
    /// The first price.
    pub open: Option<Decimal>,
    /// The highest price.
    pub high: Option<Decimal>,
    /// The lowest price.
    pub low: Option<Decimal>,
    /// The last price of the previous day.
    pub previous_close: Option<Decimal>,
    /// The number of securities traded.
    pub volume: Option<Decimal>,
    /// When it was so; the start of a span.
    pub time: Option<BookingTime>,
}

impl RowShape for QuoteRecord {
    const TABLE: &'static str = "quotes";
    const COLUMNS: &'static [Column] = &[
        column("symbol", ColumnKind::Text),
        optional("name", ColumnKind::Text),
        optional("currency", ColumnKind::Text),
        optional("span", ColumnKind::Text),
        column("price", ColumnKind::Decimal),
        optional("open_price", ColumnKind::Decimal),
        optional("high_price", ColumnKind::Decimal),
        optional("low_price", ColumnKind::Decimal),
        optional("previous_close", ColumnKind::Decimal),
        optional("volume", ColumnKind::Decimal),
        optional("quoted_on", ColumnKind::Day),
        optional("quoted_ms", ColumnKind::Instant),
        optional("granularity", ColumnKind::Text),
        spelling("quoted_text"),
    ];

    fn identity(&self) -> &RecordIdentity {
        &self.identity
    }

    fn identity_mut(&mut self) -> &mut RecordIdentity {
        &mut self.identity
    }

    fn values(&self) -> Vec<CellValue> {
        let mut values = vec![
            CellValue::Text(self.symbol.clone()),
            text(self.name.as_ref()),
            text(self.currency.as_ref()),
            text(self.span.as_ref()),
            CellValue::Decimal(self.price),
            decimal(self.open),
            decimal(self.high),
            decimal(self.low),
            decimal(self.previous_close),
            decimal(self.volume),
        ];
        values.extend(time(self.time.as_ref()));
        values
    }
}
