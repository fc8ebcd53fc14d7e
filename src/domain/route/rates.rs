//! Exchange rates, by way of the route's reference currency.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::domain::money::Currency;

/// Rates of currencies in the reference currency.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rates {
    reference: Currency,
    /// Value of one unit of the currency in the reference currency; above 0.
    values: BTreeMap<Currency, Decimal>,
    /// Instant from which on they are too old; `None` = never.
    expires: Option<Timestamp>,
}

impl Rates {
    /// No rates but those of the reference currency itself.
    pub const fn none(reference: Currency) -> Self {
        Self { reference, values: BTreeMap::new(), expires: None }
    }

    /// The value of one unit of each currency in `reference`; values that are not above 0 are left out. They are too old
    /// from `expires` on.
    pub fn new(
        reference: Currency,
        values: impl IntoIterator<Item = (Currency, Decimal)>,
        expires: Option<Timestamp>,
    ) -> Self {
        let values = values.into_iter().filter(|(_, value)| *value > Decimal::ZERO).collect();
        Self { reference, values, expires }
    }

    /// The reference currency.
    pub const fn reference(&self) -> Currency {
        self.reference
    }

    /// When they become too old, if they do.
    pub const fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// The rates that count at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> std::borrow::Cow<'_, Self> {
        match self.expires {
            Some(expires) if now >= expires => std::borrow::Cow::Owned(Self::none(self.reference)),
            _ => std::borrow::Cow::Borrowed(self),
        }
    }

    /// `amount` of `from` in `to`; `None` if a rate is missing or the result overflows.
    pub fn convert(&self, amount: Decimal, from: Currency, to: Currency) -> Option<Decimal> {
        if from == to {
            return Some(amount);
        }
        amount.checked_mul(self.value(from)?)?.checked_div(self.value(to)?)
    }

    fn value(&self, currency: Currency) -> Option<Decimal> {
        if currency == self.reference { Some(Decimal::ONE) } else { self.values.get(&currency).copied() }
    }
}
