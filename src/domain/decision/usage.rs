//! What daily limits have been used by, and what a decision reserves of one. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::canonical::decimal;
use crate::domain::money::Currency;

/// What a candidate takes of payouts in a calendar day, in the route's reference currency. The fields are in the order
/// of canonical JSON.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DailyLimit {
    /// The sum of their amounts, inclusive; `None` = unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub amount: Option<Decimal>,
    /// Their number, inclusive; `None` = unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The time zone of the day, as in the IANA database.
    pub zone: String,
}

impl DailyLimit {
    /// The day of `now`, in UTC if this machine does not know the zone.
    pub fn day(&self, now: Timestamp) -> Date {
        let zone = TimeZone::get(&self.zone).unwrap_or(TimeZone::UTC);
        zone.to_datetime(now).date()
    }

    /// Whether a payout of `amount` in the reference currency is within the limit after `used`.
    pub fn admits(&self, used: &DayUsage, amount: Decimal) -> bool {
        let counts = self.count.is_none_or(|limit| used.count < limit);
        counts && self.amount.is_none_or(|limit| used.amount.checked_add(amount).is_some_and(|sum| sum <= limit))
    }
}

/// What a daily limit has been used by on one day. The fields are in the order of canonical JSON.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DayUsage {
    /// The sum of the amounts in the reference currency.
    #[serde(with = "decimal")]
    pub amount: Decimal,
    /// The number of payouts.
    pub count: u32,
    /// The day in the limit's zone.
    pub day: Date,
}

impl DayUsage {
    /// Nothing on `day`.
    pub const fn none(day: Date) -> Self {
        Self { amount: Decimal::ZERO, count: 0, day }
    }

    /// Adds a payout.
    pub fn reserve(&mut self, amount: Decimal) {
        self.amount = self.amount.checked_add(amount).unwrap_or(Decimal::MAX);
        self.count = self.count.saturating_add(1);
    }

    /// Takes a payout back.
    pub fn release(&mut self, amount: Decimal) {
        self.amount = self.amount.checked_sub(amount).unwrap_or_default().max(Decimal::ZERO);
        self.count = self.count.saturating_sub(1);
    }
}

/// What the daily limits of a route have been used by, by candidate; a limited candidate without an entry has used
/// nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usage(pub BTreeMap<String, DayUsage>);

/// What a decision reserves of a daily limit. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// The payout's amount in the reference currency.
    #[serde(with = "decimal")]
    pub amount: Decimal,
    /// The candidate.
    pub candidate: String,
    /// The reference currency: amounts of another one are counted apart.
    pub currency: Currency,
    /// The day in the limit's zone.
    pub day: Date,
}
