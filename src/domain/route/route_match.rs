//! The payouts that a route applies to. Pure.

use rust_decimal::Decimal;

use super::payout::Payout;
use super::rates::Rates;
use crate::domain::money::Currency;

/// The payouts that a route applies to, when a request names no route. Each list that is not empty must hold the
/// payout's value: a payout that does not say its rail matches no route for certain rails.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouteMatch {
    /// Payout currencies; empty = all.
    pub currencies: Vec<Currency>,
    /// Beneficiary countries; empty = all.
    pub countries: Vec<String>,
    /// Rails; empty = all.
    pub rails: Vec<String>,
    /// Smallest amount in the route's reference currency, inclusive.
    pub min_amount: Option<Decimal>,
    /// Largest amount in the route's reference currency, inclusive.
    pub max_amount: Option<Decimal>,
}

impl RouteMatch {
    /// Whether the route applies to `payout`. An amount that `rates` cannot convert is not within a limit.
    pub fn applies(&self, payout: &Payout, rates: &Rates) -> bool {
        let holds = |list: &[String], value: Option<&String>| {
            list.is_empty() || value.is_some_and(|value| list.iter().any(|one| one == value))
        };
        (self.currencies.is_empty() || self.currencies.contains(&payout.currency))
            && holds(&self.countries, payout.country.as_ref())
            && holds(&self.rails, payout.rail.as_ref())
            && self.holds_amount(payout, rates)
    }

    fn holds_amount(&self, payout: &Payout, rates: &Rates) -> bool {
        if self.min_amount.is_none() && self.max_amount.is_none() {
            return true;
        }
        rates.convert(payout.amount, payout.currency, rates.reference()).is_some_and(|amount| {
            self.min_amount.is_none_or(|min| amount >= min) && self.max_amount.is_none_or(|max| amount <= max)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    fn payout(amount: i64, code: &str, country: Option<&str>, rail: Option<&str>) -> Payout {
        Payout {
            amount: amount.into(),
            currency: currency(code),
            rail: rail.map(str::to_owned),
            country: country.map(str::to_owned),
            merchant: None,
        }
    }

    fn rates() -> Rates {
        Rates::new(currency("EUR"), [(currency("USD"), Decimal::new(5, 1))], None)
    }

    #[test]
    fn a_route_without_a_match_applies_to_every_payout() {
        let all = RouteMatch::default();
        assert!(all.applies(&payout(1, "JPY", None, None), &rates()), "no rate is needed");
        assert!(all.applies(&payout(1, "EUR", Some("NO"), Some("SEPA")), &rates()));
    }

    #[test]
    fn each_list_must_hold_the_payouts_value_and_an_unknown_one_is_not_held() {
        let eur = RouteMatch { currencies: vec![currency("EUR")], ..RouteMatch::default() };
        assert!(eur.applies(&payout(1, "EUR", None, None), &rates()));
        assert!(!eur.applies(&payout(1, "USD", None, None), &rates()));
        let norway = RouteMatch { countries: vec!["NO".to_owned()], ..RouteMatch::default() };
        assert!(norway.applies(&payout(1, "USD", Some("NO"), None), &rates()));
        assert!(!norway.applies(&payout(1, "USD", Some("SE"), None), &rates()));
        assert!(!norway.applies(&payout(1, "USD", None, None), &rates()));
        let sepa = RouteMatch { rails: vec!["SEPA".to_owned()], ..norway };
        assert!(sepa.applies(&payout(1, "USD", Some("NO"), Some("SEPA")), &rates()));
        assert!(!sepa.applies(&payout(1, "USD", Some("NO"), Some("SWIFT")), &rates()));
        assert!(!sepa.applies(&payout(1, "USD", Some("SE"), Some("SEPA")), &rates()));
    }

    #[test]
    fn amounts_are_compared_in_the_reference_currency_with_inclusive_bounds() {
        let amounts = RouteMatch { min_amount: Some(10.into()), max_amount: Some(20.into()), ..RouteMatch::default() };
        for (amount, code, applies) in [
            (9, "EUR", false),
            (10, "EUR", true),
            (20, "EUR", true),
            (21, "EUR", false),
            (19, "USD", false),
            (20, "USD", true),
            (40, "USD", true),
            (41, "USD", false),
            (15, "JPY", false),
        ] {
            assert_eq!(amounts.applies(&payout(amount, code, None, None), &rates()), applies, "{amount} {code}");
        }
    }
}
