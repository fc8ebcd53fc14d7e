//! The payout that a bank is chosen for.

use rust_decimal::Decimal;

use crate::domain::money::Currency;

/// The payout for which a route is evaluated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payout {
    /// Amount in `currency`.
    pub amount: Decimal,
    /// Currency of the payout.
    pub currency: Currency,
    /// Payment rail; not filtered by rail if unset.
    pub rail: Option<String>,
    /// Country of the beneficiary; not filtered by country if unset.
    pub country: Option<String>,
    /// The merchant, for adjustments of one merchant.
    pub merchant: Option<String>,
}
