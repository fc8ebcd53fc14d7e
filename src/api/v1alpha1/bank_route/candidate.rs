//! One bank of a route: fees, limits, accept windows.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{LocalRef, TimeWindow};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{
    CountryCode, CurrencyCode, DecimalText, EntryName, Rail, SignedDecimalText, ZoneText,
};

string_enum!(
    /// Tier of a candidate.
    Tier {
        /// Considered first.
        Primary,
        /// Considered only if no Primary passes the filter.
        Fallback,
    }
);

string_enum!(
    /// Rounding of a fee to the minor unit of the currency.
    Rounding {
        /// Half away from zero.
        HalfUp,
        /// Half to the even neighbour.
        HalfEven,
        /// Away from zero.
        Up,
        /// Toward zero.
        Down,
    }
);

/// One candidate bank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::amounts_ordered("minAmount", "maxAmount"))]
pub struct Candidate {
    /// Name of the candidate, unique in the list; required, at most 63 characters. Example: `name: bank-a`.
    pub name: EntryName,
    /// Connection for the payouts; candidates with the same connection share its circuit; required.
    /// Example: `connectionRef: {name: bank-a}`.
    pub connection_ref: LocalRef,
    /// Identifier of the bank in other systems; at most 128 characters. Unset: `name`.
    /// Example: `bankProfileID: bp-001`.
    #[serde(rename = "bankProfileID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub bank_profile_id: Option<String>,
    /// Tier of the candidate: `Primary`, or `Fallback`, which is considered only if no Primary passes the filter.
    /// Unset: `Primary`. Example: `tier: Fallback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Fee list; the entry with the most matching selectors applies, then the smallest `upToAmount`, then the name; at
    /// most
    /// 32. Unset: no fee. Example: `fees: [{name: all, fixed: "0.30"}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub fees: Option<Vec<Fee>>,
    /// Currency of the funding account. Unset: that of the payout, without exchange. Example: `fundingCurrency: USD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub funding_currency: Option<CurrencyCode>,
    /// Cost of the bank's currency exchange. Unset: none. Example: `fx: {spreadBasisPoints: "25"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fx: Option<Fx>,
    /// Days until settlement; from 0 to 30. Unset: 0. Example: `settlementDays: 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 30))]
    pub settlement_days: Option<i32>,
    /// Score to break ties, a decimal from 0 to 1, higher is better. Unset: that of the scorer, else 0.
    /// Example: `score: "0.8"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "1"))]
    pub score: Option<DecimalText>,
    /// Supported payout currencies; at most 64. Unset: all. Example: `currencies: [EUR, SEK]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub currencies: Option<Vec<CurrencyCode>>,
    /// Supported beneficiary countries, quoted; at most 256. Unset: all. Example: `countries: ["NO", "SE"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub countries: Option<Vec<CountryCode>>,
    /// Supported rails; at most 32. Unset: all. Example: `rails: [SEPA]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub rails: Option<Vec<Rail>>,
    /// Smallest payout, in `referenceCurrency`. Unset: no minimum. Example: `minAmount: "1"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_amount: Option<DecimalText>,
    /// Largest payout, in `referenceCurrency`. Unset: no maximum. Example: `maxAmount: "50000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_amount: Option<DecimalText>,
    /// Daily limit of payouts. Unset: unlimited. Example: `dailyLimit: {amount: "1000000"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_limit: Option<DailyLimit>,
    /// Windows in which the bank accepts payouts; outside them the candidate is Excluded with reason `CutOff`; at most
    /// 16. Unset: always.
    /// Example: `acceptWindows: [{name: day, schedule: "0 8 * * 1-5", duration: 8h}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub accept_windows: Option<Vec<TimeWindow>>,
}

/// Fee of a bank for a payout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::amounts_ordered("min", "max"))]
pub struct Fee {
    /// Name of the entry, unique in the list; required, at most 63 characters. Example: `name: sepa`.
    pub name: EntryName,
    /// Rails to which the entry applies; at most 32. Unset: all. Example: `rails: [SEPA]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub rails: Option<Vec<Rail>>,
    /// Payout currencies to which the entry applies; at most 64. Unset: all. Example: `currencies: [EUR]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub currencies: Option<Vec<CurrencyCode>>,
    /// Currency of the amounts of this entry. Unset: that of the payout. Example: `currency: EUR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<CurrencyCode>,
    /// Largest payout to which the entry applies, in its currency, inclusive. Unset: unlimited.
    /// Example: `upToAmount: "1000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to_amount: Option<DecimalText>,
    /// Proportional fee in basis points of the amount, a decimal from 0 to 10000. Unset: 0.
    /// Example: `basisPoints: "12.5"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "10000"))]
    pub basis_points: Option<DecimalText>,
    /// Fixed fee per payout, in its currency, quoted. Unset: 0. Example: `fixed: "0.30"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<DecimalText>,
    /// Minimum fee, in its currency. Unset: none. Example: `min: "0.50"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<DecimalText>,
    /// Maximum fee, in its currency. Unset: none. Example: `max: "25"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<DecimalText>,
    /// Rounding of the fee to the minor unit: `HalfEven`, `HalfUp`, `Up` or `Down`. Unset: `HalfEven`.
    /// Example: `rounding: HalfUp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Rounding>,
}

/// Cost of a bank's currency exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fx {
    /// Spread to the mid-market rate in basis points, a decimal from -10000 to 10000; negative is a gain.
    /// Unset: 0. Example: `spreadBasisPoints: "25"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("-10000", "10000"))]
    pub spread_basis_points: Option<SignedDecimalText>,
}

/// Daily limit of payouts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DailyLimit {
    /// Total amount per day, in `referenceCurrency`, greater than 0. Unset: unlimited. Example: `amount: "1000000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::positive())]
    pub amount: Option<DecimalText>,
    /// Number of payouts per day; from 1 to 10000000. Unset: unlimited. Example: `count: 500`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub count: Option<i32>,
    /// IANA time zone of the calendar day. Unset: UTC. Example: `timeZone: Europe/Paris`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<ZoneText>,
}
