//! What a caller asks: which bank for this payout? Pure.

use std::borrow::Cow;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::canonical::{Hash, decimal, instant, sha256, to_bytes};
use crate::domain::money::Currency;
use crate::domain::route::{PairRate, Payout, Rates};

/// What a caller asks; validated by [`RequestDraft`](super::draft::RequestDraft). The fields are in the order of
/// canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// Number of the attempt, from 1.
    pub attempt_no: u32,
    /// Namespace of the route.
    pub namespace: String,
    /// The payout.
    pub payout: Payout,
    /// The caller's id of the payout.
    pub payout_id: String,
    /// Rates that count before those of the route, in the order of their currencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RequestRate>,
    /// Name of the route; `None`: the route that matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// A rate that comes with a request. The fields are in the order of canonical JSON.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRate {
    /// When it was taken; `None` = with the request.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "instant::option")]
    pub at: Option<Timestamp>,
    /// The currency of which one unit is valued.
    pub from: Currency,
    /// The value of one unit of `from`, in `to`.
    #[serde(with = "decimal")]
    pub rate: Decimal,
    /// The currency of the value.
    pub to: Currency,
}

impl From<&RequestRate> for PairRate {
    fn from(&RequestRate { at, from, rate, to }: &RequestRate) -> Self {
        Self { at, from, rate, to }
    }
}

/// What identifies an attempt to pay a payout. The same key with the same request is the same decision.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AttemptKey {
    /// Namespace of the route.
    pub namespace: String,
    /// The caller's id of the payout.
    pub payout_id: String,
    /// Number of the attempt, from 1.
    pub attempt_no: u32,
}

/// A request without the number of its attempt, which the key has. The fields are in the order of canonical JSON.
#[derive(Serialize)]
struct Content<'a> {
    namespace: &'a str,
    payout: &'a Payout,
    payout_id: &'a str,
    #[serde(skip_serializing_if = "<[RequestRate]>::is_empty")]
    rates: &'a [RequestRate],
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
}

impl DecisionRequest {
    /// The canonical JSON of what is asked, without the number of the attempt.
    pub fn canonical(&self) -> Vec<u8> {
        to_bytes(&Content {
            namespace: &self.namespace,
            payout: &self.payout,
            payout_id: &self.payout_id,
            rates: &self.rates,
            route: self.route.as_deref(),
        })
    }

    /// The hash of [`canonical`](Self::canonical): the same for every spelling of the same request.
    pub fn hash(&self) -> Hash {
        sha256(&self.canonical())
    }

    /// The rates that count at `now`: those of the request before those of the `route`.
    pub fn rates_over<'a>(&self, route: &'a Rates, now: Timestamp) -> Cow<'a, Rates> {
        if self.rates.is_empty() {
            return route.at(now);
        }
        Cow::Owned(route.preceded_by(self.rates.iter().map(PairRate::from), now))
    }

    /// What identifies the attempt.
    pub fn key(&self) -> AttemptKey {
        AttemptKey { namespace: self.namespace.clone(), payout_id: self.payout_id.clone(), attempt_no: self.attempt_no }
    }
}
