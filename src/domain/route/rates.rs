//! Exchange rates, by way of the route's reference currency.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::canonical::{decimals_by_currency, instant, millis};
use crate::domain::money::Currency;

/// Rates of currencies in the reference currency. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Instant from which on they are too old; `None` = never.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "instant::option")]
    expires: Option<Timestamp>,
    /// Oldest age of a rate that comes with a request; `None` = any.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "millis::option", rename = "max_age_ms")]
    max_age: Option<Duration>,
    /// Rates that come with a request: they count first, and as they are given. Never stored with a route.
    #[serde(skip)]
    pairs: Vec<PairRate>,
    reference: Currency,
    /// Value of one unit of the currency in the reference currency; above 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "decimals_by_currency")]
    values: BTreeMap<Currency, Decimal>,
}

/// A rate between two currencies.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PairRate {
    /// When it was taken; `None` = now.
    pub at: Option<Timestamp>,
    /// The currency of which one unit is valued.
    pub from: Currency,
    /// The value of one unit of `from`, in `to`; above 0.
    pub rate: Decimal,
    /// The currency of the value.
    pub to: Currency,
}

impl Rates {
    /// No rates but those of the reference currency itself.
    pub const fn none(reference: Currency) -> Self {
        Self { expires: None, max_age: None, pairs: Vec::new(), reference, values: BTreeMap::new() }
    }

    /// The value of one unit of each currency in `reference`; values that are not above 0 are left out. They are too
    /// old from `expires` on.
    pub fn new(
        reference: Currency,
        values: impl IntoIterator<Item = (Currency, Decimal)>,
        expires: Option<Timestamp>,
    ) -> Self {
        let values = values.into_iter().filter(|(_, value)| *value > Decimal::ZERO).collect();
        Self { expires, max_age: None, pairs: Vec::new(), reference, values }
    }

    /// The same, with a bound on the age of rates that come with a request.
    #[must_use]
    pub fn with_max_age(self, max_age: Option<Duration>) -> Self {
        Self { max_age, ..self }
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
    pub fn at(&self, now: Timestamp) -> Cow<'_, Self> {
        match self.expires {
            Some(expires) if now >= expires => {
                let none = Self::none(self.reference);
                Cow::Owned(Self { max_age: self.max_age, pairs: self.pairs.clone(), ..none })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// The rates that count at `now`, preceded by those of a request: a pair that is given counts before the route's
    /// own rates of its currencies. One that is older than the route allows is left out.
    #[must_use]
    pub fn preceded_by(&self, pairs: impl IntoIterator<Item = PairRate>, now: Timestamp) -> Self {
        let mut rates = self.at(now).into_owned();
        let is_recent = |at: Timestamp, max_age| at.checked_add(max_age).is_ok_and(|expires| now < expires);
        rates.pairs.extend(pairs.into_iter().filter(|pair| {
            let bound = pair.at.zip(self.max_age);
            pair.rate > Decimal::ZERO && bound.is_none_or(|(at, max_age)| is_recent(at, max_age))
        }));
        rates
    }

    /// `amount` of `from` in `to`; `None` if a rate is missing or the result overflows.
    pub fn convert(&self, amount: Decimal, from: Currency, to: Currency) -> Option<Decimal> {
        if from == to {
            return Some(amount);
        }
        if self.pairs.is_empty() {
            return amount.checked_mul(self.value(from)?)?.checked_div(self.value(to)?);
        }
        if let Some(factor) = self.pair(from, to) {
            return factor.of(amount);
        }
        let in_reference = self.factor(from, self.reference)?.of(amount)?;
        self.factor(self.reference, to)?.of(in_reference)
    }

    /// The factor of a rate of the request between the two.
    fn pair(&self, from: Currency, to: Currency) -> Option<Factor> {
        let direct = self.pairs.iter().find(|pair| pair.from == from && pair.to == to);
        let inverse = || self.pairs.iter().find(|pair| pair.from == to && pair.to == from);
        direct.map(|pair| Factor::Times(pair.rate)).or_else(|| inverse().map(|pair| Factor::Over(pair.rate)))
    }

    /// The factor between the reference currency and another one.
    fn factor(&self, from: Currency, to: Currency) -> Option<Factor> {
        if let Some(factor) = self.pair(from, to) {
            return Some(factor);
        }
        if to == self.reference { self.value(from).map(Factor::Times) } else { self.value(to).map(Factor::Over) }
    }

    fn value(&self, currency: Currency) -> Option<Decimal> {
        if currency == self.reference { Some(Decimal::ONE) } else { self.values.get(&currency).copied() }
    }
}

/// What an amount is multiplied with or divided by.
enum Factor {
    Times(Decimal),
    Over(Decimal),
}

impl Factor {
    fn of(&self, amount: Decimal) -> Option<Decimal> {
        match *self {
            Self::Times(rate) => amount.checked_mul(rate),
            Self::Over(rate) => amount.checked_div(rate),
        }
    }
}
