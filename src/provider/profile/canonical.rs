//! The records that operations answer in, the same whichever provider was asked.
//!
//! A field that a provider does not tell is null, never left out: whoever reads one provider's record can read
//! another's. Numbers are decimals as text, so that no digit is lost on the way.

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, Zoned};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::errors::scalar;

/// A canonical record.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CanonicalRecord {
    /// A price now.
    Quote,
    /// A company's result against what was expected.
    Earnings,
    /// A company's income of one period.
    Fundamentals,
    /// An option contract and its trade.
    Option,
    /// One value of an economic series.
    Observation,
    /// A news article.
    Article,
    /// A collateral of a loan.
    Collateral,
    /// Fields of the profile's own choice.
    Custom,
}

/// What a field holds.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FieldKind {
    /// A text.
    #[default]
    Text,
    /// A number, as text with all its digits.
    Decimal,
    /// A day.
    Date,
    /// An instant in UTC.
    Instant,
    /// Whatever the provider sent, as it is.
    Json,
}

/// One field of a canonical record.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CanonicalField {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether a record without it is none.
    pub required: bool,
}

const fn must(name: &'static str, kind: FieldKind) -> CanonicalField {
    CanonicalField { name, kind, required: true }
}

const fn may(name: &'static str, kind: FieldKind) -> CanonicalField {
    CanonicalField { name, kind, required: false }
}

use FieldKind::{Date as Day, Decimal as Number, Instant, Text};

const QUOTE: &[CanonicalField] = &[
    must("symbol", Text),
    may("name", Text),
    may("currency", Text),
    must("price", Number),
    may("change", Number),
    may("change_percent", Number),
    may("open", Number),
    may("day_high", Number),
    may("day_low", Number),
    may("previous_close", Number),
    may("volume", Number),
    may("market_cap", Number),
    may("time", Instant),
];

const EARNINGS: &[CanonicalField] = &[
    must("symbol", Text),
    must("date", Day),
    may("fiscal_period", Text),
    may("currency", Text),
    may("eps_actual", Number),
    may("eps_estimated", Number),
    may("revenue_actual", Number),
    may("revenue_estimated", Number),
    may("updated", Day),
];

const FUNDAMENTALS: &[CanonicalField] = &[
    must("symbol", Text),
    must("period_end", Day),
    may("fiscal_year", Text),
    may("fiscal_period", Text),
    may("currency", Text),
    may("revenue", Number),
    may("gross_profit", Number),
    may("operating_income", Number),
    may("net_income", Number),
    may("eps", Number),
    may("eps_diluted", Number),
];

const OPTION: &[CanonicalField] = &[
    must("contract", Text),
    may("underlying", Text),
    must("kind", Text),
    must("strike", Number),
    must("expiry", Day),
    may("last_price", Number),
    may("bid", Number),
    may("ask", Number),
    may("volume", Number),
    may("open_interest", Number),
    may("implied_volatility", Number),
    may("delta", Number),
    may("gamma", Number),
    may("theta", Number),
    may("vega", Number),
    may("time", Instant),
];

const OBSERVATION: &[CanonicalField] =
    &[must("date", Day), may("value", Number), may("known_from", Day), may("known_to", Day)];

const ARTICLE: &[CanonicalField] = &[
    must("url", Text),
    must("title", Text),
    may("source", Text),
    may("author", Text),
    may("description", Text),
    may("published", Instant),
];

const COLLATERAL: &[CanonicalField] = &[
    must("id", Text),
    may("kind", Text),
    may("currency", Text),
    may("net_amount", Number),
    may("discounted_net_amount", Number),
    may("estimated_value", Number),
];

impl CanonicalRecord {
    /// Those whose fields are given here.
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

    /// Its fields; none for [`Custom`](Self::Custom), whose fields the mapping names.
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

/// How a provider writes a time.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TimeForm {
    /// RFC 3339, or a date.
    #[default]
    Text,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMilliseconds,
    /// Nanoseconds since 1970.
    EpochNanoseconds,
}

impl TimeForm {
    /// The instant that a scalar of this form names.
    pub fn instant(self, text: &str) -> Option<Timestamp> {
        let number = || text.parse::<i64>().ok();
        match self {
            Self::Text => {
                text.parse::<Timestamp>().ok().or_else(|| text.parse::<Zoned>().ok().map(|zoned| zoned.timestamp()))
            }
            Self::EpochSeconds => Timestamp::from_second(number()?).ok(),
            Self::EpochMilliseconds => Timestamp::from_millisecond(number()?).ok(),
            Self::EpochNanoseconds => Timestamp::from_nanosecond(i128::from(number()?)).ok(),
        }
    }

    fn day(self, text: &str) -> Option<Date> {
        match self {
            Self::Text => text.parse::<DateTime>().map(DateTime::date).ok().or_else(|| {
                // The day as it is written, in the provider's own zone.
                text.get(..10)?.parse::<Date>().ok()
            }),
            _ => Some(self.instant(text)?.to_zoned(jiff::tz::TimeZone::UTC).date()),
        }
    }
}

impl FieldKind {
    /// The value as canonical records write it; `None` if it is none of this kind.
    pub(super) fn read(self, value: &Value, form: TimeForm) -> Option<Value> {
        if self == Self::Json {
            return Some(value.clone());
        }
        let text = scalar(value)?;
        let text = text.trim();
        Some(Value::String(match self {
            Self::Text | Self::Json => text.to_owned(),
            Self::Decimal => decimal(text)?,
            Self::Date => form.day(text)?.to_string(),
            Self::Instant => form.instant(text)?.to_string(),
        }))
    }
}

/// A number with all its digits and without an exponent.
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

    fn read(kind: FieldKind, json: &str, form: TimeForm) -> Option<String> {
        let value: Value = serde_json::from_str(json).unwrap();
        kind.read(&value, form).map(|value| value.as_str().unwrap().to_owned())
    }

    #[test]
    fn numbers_keep_their_digits_and_lose_their_exponents() {
        for (json, text) in [
            ("1234567890123456789012345678901.10", "1234567890123456789012345678901.10"),
            ("-0.005", "-0.005"),
            ("\"12.50\"", "12.50"),
            ("3.45e12", "3450000000000"),
            ("1E+2", "100"),
        ] {
            assert_eq!(read(Number, json, TimeForm::Text).as_deref(), Some(text), "{json}");
        }
        for bad in ["\"\"", "\"1,234\"", "\"NaN\"", "[]", "\"1.\""] {
            assert_eq!(read(Number, bad, TimeForm::Text), None, "{bad}");
        }
    }

    #[test]
    fn times_of_every_form_are_one_form() {
        let at = "2025-06-24T17:46:40Z";
        for (json, form) in [
            ("1750787200", TimeForm::EpochSeconds),
            ("1750787200000", TimeForm::EpochMilliseconds),
            ("1750787200000000000", TimeForm::EpochNanoseconds),
            ("\"2025-06-24T19:46:40+02:00\"", TimeForm::Text),
        ] {
            assert_eq!(read(Instant, json, form).as_deref(), Some(at), "{json}");
        }
        assert_eq!(read(Day, "\"2025-06-24\"", TimeForm::Text).as_deref(), Some("2025-06-24"));
        assert_eq!(read(Day, "\"2025-06-24T23:59:00-05:00\"", TimeForm::Text).as_deref(), Some("2025-06-24"));
        assert_eq!(read(Day, "1750787200", TimeForm::EpochSeconds).as_deref(), Some("2025-06-24"));
        assert_eq!(read(Instant, "\"yesterday\"", TimeForm::Text), None);
    }
}
