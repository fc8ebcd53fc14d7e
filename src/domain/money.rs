//! Exact money: a decimal amount and a currency with its minor unit. Never a float.
//!
//! Exponents are those of ISO 4217 list one. A well-formed currency that is not in the list has no exponent; operations
//! that need one (minor units, rounding a fee) return an error instead of a guess.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};

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
        let code = self.as_str();
        let has = |list: &str| list.split_ascii_whitespace().any(|c| c == code);
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

/// ISO 4217 list one, by exponent; metals, test codes and funds without a minor unit (XAU, XTS, XDR …) are left out.
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
        let amount =
            Decimal::try_from_i128_with_scale(minor, currency.exponent()?).map_err(|_| MoneyError::TooLarge)?;
        Ok(Self { amount, currency })
    }

    /// The amount in minor units; an error if the amount has more decimal places than the currency.
    pub fn to_minor(self) -> Result<i128, MoneyError> {
        let exponent = self.currency.exponent()?;
        let amount = self.amount.normalize();
        let Some(missing) = exponent.checked_sub(amount.scale()) else {
            return Err(MoneyError::TooFine(self.currency));
        };
        // At most 28 digits times ten thousand: far below i128.
        Ok(amount.mantissa() * 10i128.pow(missing))
    }

    /// The amount rounded to the currency's minor unit.
    pub fn rounded(self, rounding: Rounding) -> Result<Self, MoneyError> {
        let amount = self.amount.round_dp_with_strategy(self.currency.exponent()?, rounding.strategy());
        Ok(Self { amount, ..self })
    }
}

/// Rounding to the minor unit.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
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

    proptest! {
        #[test]
        fn minor_units_survive_a_round_trip(minor in -1_000_000_000_000_000_000i128..1_000_000_000_000_000_000,
                                                      code in prop::sample::select(vec!["EUR", "XOF", "KWD", "CLF"])) {
            let money = Money::from_minor(minor, currency(code)).unwrap();
            prop_assert_eq!(money.to_minor(), Ok(minor));
        }
    }
}
