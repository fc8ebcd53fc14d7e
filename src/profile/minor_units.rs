//! The smallest units in which a provider counts money, where they differ from ISO 4217.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::invalid_field::InvalidField;
use crate::domain::money::Currency;

/// The most decimal places: those of an amount in the ledger.
const MAX_PLACES: u8 = 8;

/// Decimal places of the provider's smallest unit, by ISO 4217 code, where they differ from ISO 4217, such as
/// `{ISK: 2, MGA: 0}`. They decide what a `minorInteger` is worth, and how fine an amount of that currency may be.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MinorUnits(BTreeMap<String, u8>);

impl MinorUnits {
    /// Decimal places of `currency` at this provider; `None` for a currency that neither the profile nor ISO 4217 knows.
    pub fn places(&self, currency: Currency) -> Option<u32> {
        self.0.get(currency.as_str()).map(|places| (*places).into()).or_else(|| currency.exponent().ok())
    }

    /// The currency that a provider calls `code`, in upper or lower case, if its places are known.
    pub fn currency(&self, code: &str) -> Option<Currency> {
        let currency = Currency::parse(&code.trim().to_ascii_uppercase()).ok()?;
        self.places(currency).map(|_| currency)
    }

    /// Adds the currencies of `other` that are not set.
    pub(super) fn inherit(&mut self, other: &Self) {
        for (code, places) in &other.0 {
            self.0.entry(code.clone()).or_insert(*places);
        }
    }

    /// Checks codes and places.
    pub(super) fn check(&self) -> Result<(), InvalidField> {
        for (code, places) in &self.0 {
            if Currency::parse(code).is_err() {
                let problem = "is not a currency: write an ISO 4217 code in upper case such as JPY";
                return Err(InvalidField::new([code.as_str()], problem));
            }
            if *places > MAX_PLACES {
                let problem = format!("{places} decimal places are too many: write 0 to {MAX_PLACES}");
                return Err(InvalidField::new([code.as_str()], problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(yaml: &str) -> MinorUnits {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn the_profiles_places_come_before_those_of_iso_4217() {
        let units = units("{ISK: 2, MGA: 0, QQQ: 4}");
        let places = |code: &str| units.places(Currency::parse(code).unwrap());
        assert_eq!([places("ISK"), places("MGA"), places("QQQ")], [Some(2), Some(0), Some(4)]);
        assert_eq!([places("JPY"), places("KWD"), places("EUR"), places("QQX")], [Some(0), Some(3), Some(2), None]);
        assert_eq!(units.currency(" isk ").map(|it| it.to_string()).as_deref(), Some("ISK"));
        assert_eq!(units.currency("qqq").map(|it| it.to_string()).as_deref(), Some("QQQ"));
        assert_eq!(units.currency("qqx"), None);
    }

    #[test]
    fn codes_and_places_out_of_bounds_are_named() {
        for (yaml, named) in [("{jpy: 0}", "jpy"), ("{EURO: 2}", "EURO"), ("{JPY: 9}", "JPY")] {
            assert!(units(yaml).check().unwrap_err().path.to_string().contains(named), "{yaml}");
        }
        assert!(units("{JPY: 8}").check().is_ok());
    }
}
