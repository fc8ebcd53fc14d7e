//! Exact money: a decimal amount and a currency with its minor unit. Never a float.
//!
//! Exponents are those of ISO 4217 list one. A well-formed currency that is not in the list has no exponent; operations
//! that need one (minor units, rounding a fee) return an error instead of a guess.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};

use crate::domain::decimal_digits::DecimalDigits;

/// An ISO 4217 alphabetic code: three upper-case letters.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Reason for which a value is not a valid amount of money.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MoneyError {
    /// Not three upper-case letters.
    #[error("currency must be three upper-case letters, for example EUR")]
    Currency,
    /// Not in ISO 4217: the minor unit is not known.
    #[error("currency {0} is not in ISO 4217, so its minor unit is not known")]
    UnknownExponent(Currency),
    /// Not a plain decimal: `^-?[0-9]{1,15}(\.[0-9]{1,8})?$`.
    #[error("amount must be a decimal with up to 15 digits and 8 places, quoted, for example \"12.50\"")]
    Amount,
    /// Too large to be represented exactly.
    #[error("amount is too large")]
    TooLarge,
    /// More decimal places than the currency's minor unit.
    #[error("amount has more decimal places than the minor unit of {0}")]
    TooFine(Currency),
}

impl Currency {
    /// Parses a code. Membership in ISO 4217 is checked by [`exponent`](Self::exponent).
    pub fn parse(code: &str) -> Result<Self, MoneyError> {
        match code.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(MoneyError::Currency),
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }

    /// Decimal places of the minor unit.
    pub fn exponent(self) -> Result<u32, MoneyError> {
        let has = |list: &str| has_code(list.as_bytes(), self.0);
        if has(TWO) {
            Ok(2)
        } else if has(ZERO) {
            Ok(0)
        } else if has(THREE) {
            Ok(3)
        } else if has(FOUR) {
            Ok(4)
        } else {
            Err(MoneyError::UnknownExponent(self))
        }
    }
}

/// Whether an ordered list of codes, each of three letters and a space, has this one.
fn has_code(list: &[u8], code: [u8; 3]) -> bool {
    let (mut low, mut high) = (0, list.len().div_ceil(4));
    while low < high {
        let middle = low.midpoint(high);
        match list.get(middle * 4..middle * 4 + 3).unwrap_or_default().cmp(code.as_slice()) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    false
}

/// ISO 4217 list one, by exponent, ordered; metals, test codes and funds without a minor unit (XAU, XTS, XDR …) are left out.
const TWO: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD \
    CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD \
    HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR \
    MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP \
    SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR \
    ZMW ZWG ZWL";
const ZERO: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
const THREE: &str = "BHD IQD JOD KWD LYD OMR TND";
const FOUR: &str = "CLF UYW";

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An exact amount of one currency.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Money {
    /// Amount in major units (`12.50` EUR is twelve and a half euros). May be negative.
    pub amount: Decimal,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// Money from an amount in major units.
    pub const fn new(amount: Decimal, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Money from an amount in minor units: 1250 EUR → 12.50, 1250 XOF → 1250.
    pub fn from_minor(minor: i128, currency: Currency) -> Result<Self, MoneyError> {
        Self::from_units(minor, currency, currency.exponent()?)
    }

    /// Money from an amount in units with `places` decimal places, whatever the currency's own minor unit is.
    pub fn from_units(units: i128, currency: Currency, places: u32) -> Result<Self, MoneyError> {
        let amount = Decimal::try_from_i128_with_scale(units, places).map_err(|_| MoneyError::TooLarge)?;
        Ok(Self { amount, currency })
    }

    /// The amount in minor units; an error if the amount has more decimal places than the currency.
    pub fn to_minor(self) -> Result<i128, MoneyError> {
        self.to_units(self.currency.exponent()?)
    }

    /// The amount in units with `places` decimal places; an error if it has more, or if there are more than 8.
    pub fn to_units(self, places: u32) -> Result<i128, MoneyError> {
        let amount = self.amount.normalize();
        let Some(missing) = places.min(8).checked_sub(amount.scale()) else {
            return Err(MoneyError::TooFine(self.currency));
        };
        // At most 28 digits times a hundred million: below i128.
        Ok(amount.mantissa() * 10i128.pow(missing))
    }

    /// The same amount with as many places as the currency has: 7 EUR → 7.00. An error if it has more that are not
    /// zero.
    pub fn with_minor_places(self) -> Result<Self, MoneyError> {
        self.with_places(self.currency.exponent()?)
    }

    /// The same amount with `places` decimal places. An error if it has more that are not zero, or too many digits
    /// then.
    pub fn with_places(self, places: u32) -> Result<Self, MoneyError> {
        let mut amount = self.amount.normalize();
        if amount.scale() > places {
            return Err(MoneyError::TooFine(self.currency));
        }
        amount.rescale(places);
        if amount.scale() != places {
            return Err(MoneyError::TooLarge);
        }
        // A zero would print as -0.
        amount.set_sign_positive(amount.is_sign_positive() || amount.is_zero());
        Ok(Self { amount, ..self })
    }

    /// The amount rounded to the currency's minor unit.
    pub fn rounded(self, rounding: Rounding) -> Result<Self, MoneyError> {
        let amount = self.amount.round_dp_with_strategy(self.currency.exponent()?, rounding.strategy());
        Ok(Self { amount, ..self })
    }
}

/// Rounding to the minor unit.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub enum Rounding {
    /// To the nearest; half to even.
    #[default]
    HalfEven,
    /// To the nearest; half away from zero.
    HalfUp,
    /// Away from zero.
    Up,
    /// Towards zero.
    Down,
}

impl Rounding {
    const fn strategy(self) -> RoundingStrategy {
        match self {
            Self::HalfEven => RoundingStrategy::MidpointNearestEven,
            Self::HalfUp => RoundingStrategy::MidpointAwayFromZero,
            Self::Up => RoundingStrategy::AwayFromZero,
            Self::Down => RoundingStrategy::ToZero,
        }
    }
}

/// Parses a decimal of a spec or profile: up to 15 digits, up to 8 places, no exponent, no plus sign.
pub fn parse_decimal(text: &str) -> Result<Decimal, MoneyError> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, places) = unsigned.split_once('.').map_or((unsigned, None), |(w, p)| (w, Some(p)));
    let digits = |part: &str, max: usize| (1..=max).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 15) || !places.is_none_or(|p| digits(p, 8)) {
        return Err(MoneyError::Amount);
    }
    Decimal::from_str_exact(text).map_err(|_| MoneyError::Amount)
}

/// Most characters of an amount; longer texts are no amounts.
const MAX_AMOUNT_TEXT: usize = 128;
/// Most digits before the point, most places after it, and most digits in all: what a decimal of 96 bits holds exactly.
const MAX_DIGITS: i64 = 20;
const MAX_PLACES: i64 = 18;
const MAX_LENGTH: i64 = 28;

/// Parses an amount as a provider writes it, to the same value for every spelling: `7`, `7.0`, `+7`, `0.7e1`. Zeros
/// count for no limit, whether they lead or trail (`12.450000000000`); any other digit beyond 20 before the point, 18
/// after it or 28 in all is an error, never rounded.
pub fn parse_amount(text: &str) -> Result<Decimal, MoneyError> {
    if text.len() > MAX_AMOUNT_TEXT {
        return Err(MoneyError::Amount);
    }
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..)),
        Some(b'+') => (false, text.get(1..)),
        _ => (false, Some(text)),
    };
    let number = unsigned.and_then(DecimalDigits::parse).ok_or(MoneyError::Amount)?;
    let (digits, point) = (number.digits.as_str(), number.point);
    let places = i64::try_from(digits.len()).unwrap_or(i64::MAX).saturating_sub(point);
    if point > MAX_DIGITS || places > MAX_PLACES || point.max(0) + places.max(0) > MAX_LENGTH {
        return Err(MoneyError::Amount);
    }
    let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| MoneyError::Amount)? };
    // Zeros before the point that the digits do not have: 1e2.
    let missing = u32::try_from(places.min(0).unsigned_abs()).map_err(|_| MoneyError::Amount)?;
    let scale = u32::try_from(places.max(0)).map_err(|_| MoneyError::Amount)?;
    let value = mantissa * 10_i128.pow(missing);
    Decimal::try_from_i128_with_scale(if negative { -value } else { value }, scale).map_err(|_| MoneyError::Amount)
}

/// Parses a whole number as a provider writes it: digits, or a number with an exponent that has no fraction (`1e2`). A
/// fraction that is written out is none of a whole number, even if it is zero: `12.00` may be of another unit.
pub fn parse_whole(text: &str) -> Option<i128> {
    if !text.contains(['e', 'E']) {
        return text.parse().ok();
    }
    let value = parse_amount(text).ok()?;
    (value.normalize().scale() == 0).then(|| value.normalize().mantissa())
}

/// Like [`parse_decimal`], but rejects negative values.
pub fn parse_unsigned(text: &str) -> Result<Decimal, MoneyError> {
    if text.starts_with('-') { Err(MoneyError::Amount) } else { parse_decimal(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn minor_units_follow_the_currency() {
        for (minor, code, amount) in
            [(1250, "EUR", "12.50"), (1250, "XOF", "1250"), (1250, "KWD", "1.250"), (-5, "USD", "-0.05")]
        {
            let money = Money::from_minor(minor, currency(code)).unwrap();
            assert_eq!(money.amount.to_string(), amount, "{code}");
            assert_eq!(money.to_minor(), Ok(minor));
        }
    }

    #[test]
    fn every_code_of_the_lists_is_found_with_its_minor_unit() {
        for (list, exponent) in [(TWO, 2), (ZERO, 0), (THREE, 3), (FOUR, 4)] {
            let codes: Vec<_> = list.split_ascii_whitespace().collect();
            assert!(codes.is_sorted() && list.len() == codes.len() * 4 - 1, "{list}");
            for code in codes {
                assert_eq!(currency(code).exponent(), Ok(exponent), "{code}");
            }
        }
    }

    #[test]
    fn an_unknown_currency_has_no_minor_unit() {
        let unknown = currency("QQQ");
        assert_eq!(Money::from_minor(1, unknown), Err(MoneyError::UnknownExponent(unknown)));
        assert_eq!(Currency::parse("eur"), Err(MoneyError::Currency));
        assert_eq!(Currency::parse("EURO"), Err(MoneyError::Currency));
        assert_eq!(Currency::parse("É1"), Err(MoneyError::Currency));
    }

    #[test]
    fn an_amount_with_too_many_places_is_an_error() {
        let money = Money::new(parse_decimal("1.005").unwrap(), currency("USD"));
        assert_eq!(money.to_minor(), Err(MoneyError::TooFine(currency("USD"))));
        let rounded = |r| money.rounded(r).unwrap().amount.to_string();
        assert_eq!(
            [Rounding::HalfEven, Rounding::HalfUp, Rounding::Up, Rounding::Down].map(rounded),
            ["1.00", "1.01", "1.01", "1.00"]
        );
        assert_eq!(Money::new(parse_decimal("1.500").unwrap(), currency("USD")).to_minor(), Ok(150));
    }

    #[test]
    fn amounts_too_large_to_be_exact_are_rejected() {
        assert_eq!(Money::from_minor(i128::MAX, currency("EUR")), Err(MoneyError::TooLarge));
    }

    #[test]
    fn decimals_are_parsed_only_in_the_documented_form() {
        for good in ["0", "0.30", "123456789012345.12345678", "-1.5", "007"] {
            assert!(parse_decimal(good).is_ok(), "{good}");
        }
        for bad in ["", ".5", "1.", "1e3", "+1", "--1", "1,5", "1234567890123456", "0.123456789", " 1", "NaN", "٣"] {
            assert_eq!(parse_decimal(bad), Err(MoneyError::Amount), "{bad:?}");
        }
        assert_eq!(parse_unsigned("-1"), Err(MoneyError::Amount));
    }

    #[test]
    fn an_amount_is_the_same_in_every_spelling() {
        for (value, spellings) in [
            ("7", &["7", "7.0", "7.00", "+7", "007", "0.7e1", "70E-1", "7.000000000000000000"][..]),
            ("12.45", &["12.45", "12.450000000000", "1245e-2", "0000000000000000012.45"]),
            ("100", &["100", "1e2", "1E+2", "1.0e2", "0.001e5"]),
            ("0", &["0", "-0.00", "0e9", "0.000000000000", "-0"]),
            ("-0.00000001", &["-0.00000001", "-1e-8"]),
            ("123456789012345.12345678", &["123456789012345.12345678", "12345678901234512345678e-8"]),
            ("90071992547409.93", &["90071992547409.93", "9007199254740993e-2"]),
            ("9007199254740993", &["9007199254740993", "9007199254740993.00", "9.007199254740993e15"]),
            ("12345678901234567.89", &["12345678901234567.89", "12345678901234567.8900"]),
            ("99999999999999999999.99999999", &["99999999999999999999.99999999"]),
            ("0.000000000000000001", &["1e-18", "0.000000000000000001"]),
        ] {
            for text in spellings {
                assert_eq!(parse_amount(text).unwrap(), value.parse().unwrap(), "{text}");
            }
        }
        let long = format!("1.{}", "0".repeat(200));
        for bad in [
            "",
            "-",
            "+",
            ".5",
            "1.",
            "--1",
            "+-1",
            "1,5",
            "1,234.00",
            " 1",
            "NaN",
            "Infinity",
            "0x10",
            "\u{663}",
            "1e",
            "1e+",
            "1e99999999999999999999",
            "1e21",
            "123456789012345678901",
            "0.1234567890123456789",
            "12345678901.123456789012345678",
            "1e-19",
            "1_0",
            &long,
        ] {
            assert_eq!(parse_amount(bad), Err(MoneyError::Amount), "{bad:?}");
        }
    }

    #[test]
    fn a_whole_number_has_no_written_fraction() {
        for (text, value) in [("1250", 1250), ("-5", -5), ("1e2", 100), ("1.25e3", 1250), ("-0", 0)] {
            assert_eq!(parse_whole(text), Some(value), "{text}");
        }
        for bad in ["12.00", "1e-1", "1.255e2", "", "1e99", "x"] {
            assert_eq!(parse_whole(bad), None, "{bad}");
        }
        let seven = Money::new(parse_amount("7").unwrap(), currency("EUR"));
        assert_eq!(seven.with_minor_places().unwrap().amount.to_string(), "7.00");
        let zero = Money::new("-0.000".parse().unwrap(), currency("JPY"));
        assert_eq!(zero.with_minor_places().unwrap().amount.to_string(), "0");
    }

    proptest! {
        #[test]
        fn minor_units_survive_a_round_trip(minor in -1_000_000_000_000_000_000i128..1_000_000_000_000_000_000,
                                                      code in prop::sample::select(vec!["EUR", "XOF", "KWD", "CLF"])) {
            let money = Money::from_minor(minor, currency(code)).unwrap();
            prop_assert_eq!(money.to_minor(), Ok(minor));
        }
    }
}
