//! The payout that a bank is chosen for.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::canonical::decimal;
use crate::domain::money::Currency;

/// The payout for which a route is evaluated. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payout {
    /// Amount in `currency`.
    #[serde(with = "decimal")]
    pub amount: Decimal,
    /// Country of the beneficiary; not filtered by country if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Currency of the payout.
    pub currency: Currency,
    /// The merchant, for adjustments of one merchant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<String>,
    /// Payment rail; not filtered by rail if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rail: Option<String>,
}
