//! Canonical records: the provider-independent form of an operation's result.
//!
//! A field that a provider does not report is null, never absent, so that a client that reads one provider's record can
//! read another's. Numbers are decimals as text, so that no digit is lost.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::json::scalar_text;
use super::time_encoding::TimeEncoding;

/// A canonical record.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CanonicalRecord {
    /// The current price.
    Quote,
    /// A company's actual and estimated results.
    Earnings,
    /// A company's income of one period.
    Fundamentals,
    /// An option contract and its last trade.
    Option,
    /// One value of an economic series.
    Observation,
    /// A news article.
    Article,
    /// A collateral of a loan.
    Collateral,
    /// Fields that the mapping declares.
    Custom,
}

/// The type of a field.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FieldKind {
    /// A text.
    #[default]
    Text,
    /// A number, as text with all digits.
    Decimal,
    /// A day.
    Date,
    /// An instant in UTC.
    Instant,
    /// Any JSON, unchanged.
    Json,
}

/// One field of a canonical record.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CanonicalField {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: FieldKind,
    /// Whether every record has a value.
    pub required: bool,
}

const fn required(name: &'static str, kind: FieldKind) -> CanonicalField {
    CanonicalField { name, kind, required: true }
}

const fn optional(name: &'static str, kind: FieldKind) -> CanonicalField {
    CanonicalField { name, kind, required: false }
}

use FieldKind::{Date as Day, Decimal as Number, Instant, Text};

const QUOTE: &[CanonicalField] = &[
    required("symbol", Text),
    optional("name", Text),
    optional("currency", Text),
    required("price", Number),
    optional("change", Number),
    optional("change_percent", Number),
    optional("open", Number),
    optional("day_high", Number),
    optional("day_low", Number),
    optional("previous_close", Number),
    optional("volume", Number),
    optional("market_cap", Number),
    optional("time", Instant),
];

const EARNINGS: &[CanonicalField] = &[
    required("symbol", Text),
    required("date", Day),
    optional("fiscal_period", Text),
    optional("currency", Text),
    optional("eps_actual", Number),
    optional("eps_estimated", Number),
    optional("revenue_actual", Number),
    optional("revenue_estimated", Number),
    optional("updated", Day),
];

const FUNDAMENTALS: &[CanonicalField] = &[
    required("symbol", Text),
    required("period_end", Day),
    optional("fiscal_year", Text),
    optional("fiscal_period", Text),
    optional("currency", Text),
    optional("revenue", Number),
    optional("gross_profit", Number),
    optional("operating_income", Number),
    optional("net_income", Number),
    optional("eps", Number),
    optional("eps_diluted", Number),
];

const OPTION: &[CanonicalField] = &[
    required("contract", Text),
    optional("underlying", Text),
    required("kind", Text),
    required("strike", Number),
    required("expiry", Day),
    optional("last_price", Number),
    optional("bid", Number),
    optional("ask", Number),
    optional("volume", Number),
    optional("open_interest", Number),
    optional("implied_volatility", Number),
    optional("delta", Number),
    optional("gamma", Number),
    optional("theta", Number),
    optional("vega", Number),
    optional("time", Instant),
];

const OBSERVATION: &[CanonicalField] =
    &[required("date", Day), optional("value", Number), optional("known_from", Day), optional("known_to", Day)];

const ARTICLE: &[CanonicalField] = &[
    required("url", Text),
    required("title", Text),
    optional("source", Text),
    optional("author", Text),
    optional("description", Text),
    optional("published", Instant),
];

const COLLATERAL: &[CanonicalField] = &[
    required("id", Text),
    optional("kind", Text),
    optional("currency", Text),
    optional("net_amount", Number),
    optional("discounted_net_amount", Number),
    optional("estimated_value", Number),
];

impl CanonicalRecord {
    /// The records with fixed fields.
    pub const NAMED: [Self; 7] = [
        Self::Quote,
        Self::Earnings,
        Self::Fundamentals,
        Self::Option,
        Self::Observation,
        Self::Article,
        Self::Collateral,
    ];

    /// The name, as profiles write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quote => "quote",
            Self::Earnings => "earnings",
            Self::Fundamentals => "fundamentals",
            Self::Option => "option",
            Self::Observation => "observation",
            Self::Article => "article",
            Self::Collateral => "collateral",
            Self::Custom => "custom",
        }
    }

    /// The fields; empty for [`Custom`](Self::Custom), whose fields the mapping declares.
    pub const fn fields(self) -> &'static [CanonicalField] {
        match self {
            Self::Quote => QUOTE,
            Self::Earnings => EARNINGS,
            Self::Fundamentals => FUNDAMENTALS,
            Self::Option => OPTION,
            Self::Observation => OBSERVATION,
            Self::Article => ARTICLE,
            Self::Collateral => COLLATERAL,
            Self::Custom => &[],
        }
    }
}

impl FieldKind {
    /// Converts a provider's value to its canonical form; `None` if it is not of this type.
    pub(super) fn read(self, value: &Value, encoding: TimeEncoding) -> Option<Value> {
        if self == Self::Json {
            return Some(value.clone());
        }
        let text = scalar_text(value)?;
        let text = text.trim();
        Some(Value::String(match self {
            Self::Text | Self::Json => text.to_owned(),
            Self::Decimal => decimal(text)?,
            Self::Date => encoding.day(text)?.to_string(),
            Self::Instant => encoding.instant(text)?.to_string(),
        }))
    }
}

/// A number with all digits and without an exponent.
fn decimal(text: &str) -> Option<String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let plain = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = plain.split_once('.').unwrap_or((plain, "0"));
    if digits(whole) && digits(part) {
        return Some(text.to_owned());
    }
    Decimal::from_scientific(text).ok().map(|number| number.normalize().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: FieldKind, json: &str, encoding: TimeEncoding) -> Option<String> {
        let value: Value = serde_json::from_str(json).unwrap();
        kind.read(&value, encoding).map(|value| value.as_str().unwrap().to_owned())
    }

    #[test]
    fn numbers_keep_digits_and_lose_exponents() {
        for (json, text) in [
            ("1234567890123456789012345678901.10", "1234567890123456789012345678901.10"),
            ("-0.005", "-0.005"),
            ("\"12.50\"", "12.50"),
            ("3.45e12", "3450000000000"),
            ("1E+2", "100"),
        ] {
            assert_eq!(read(Number, json, TimeEncoding::Text).as_deref(), Some(text), "{json}");
        }
        for bad in ["\"\"", "\"1,234\"", "\"NaN\"", "[]", "\"1.\""] {
            assert_eq!(read(Number, bad, TimeEncoding::Text), None, "{bad}");
        }
    }

    #[test]
    fn times_of_every_encoding_become_rfc_3339() {
        let at = "2025-06-24T17:46:40Z";
        for (json, encoding) in [
            ("1750787200", TimeEncoding::EpochSeconds),
            ("1750787200000", TimeEncoding::EpochMilliseconds),
            ("1750787200000000000", TimeEncoding::EpochNanoseconds),
            ("\"2025-06-24T19:46:40+02:00\"", TimeEncoding::Text),
        ] {
            assert_eq!(read(Instant, json, encoding).as_deref(), Some(at), "{json}");
        }
        assert_eq!(read(Day, "\"2025-06-24\"", TimeEncoding::Text).as_deref(), Some("2025-06-24"));
        assert_eq!(read(Day, "\"2025-06-24T23:59:00-05:00\"", TimeEncoding::Text).as_deref(), Some("2025-06-24"));
        assert_eq!(read(Day, "1750787200", TimeEncoding::EpochSeconds).as_deref(), Some("2025-06-24"));
        assert_eq!(read(Instant, "\"yesterday\"", TimeEncoding::Text), None);
    }
}
