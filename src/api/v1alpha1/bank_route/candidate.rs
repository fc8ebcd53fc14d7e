//! One bank of a route: its fees, its limits, its hours.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{LocalRef, Window};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{
    CountryCode, CurrencyCode, DecimalText, EntryName, Rail, SignedDecimalText, ZoneText,
};

closed_enum!(
    /// When a candidate is considered.
    Tier {
        /// Always.
        Primary,
        /// Only when no Primary passes the filter.
        Fallback,
    }
);

closed_enum!(
    /// How a fee is rounded to the currency's minor unit.
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

/// One bank to choose from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::amounts_ordered("minAmount", "maxAmount"))]
pub struct Candidate {
    /// Name of the bank in this route, unique in the list; required. At most 63 characters. Example: `name: bank-a`.
    pub name: EntryName,
    /// The connection that carries its payouts; two candidates on one connection share its circuit; required.
    /// Example: `connectionRef: {name: bank-a}`.
    pub connection_ref: LocalRef,
    /// How other systems call this bank; at most 128 characters. Unset: `name`. Example: `bankProfileID: bp-001`.
    #[serde(rename = "bankProfileID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub bank_profile_id: Option<String>,
    /// `Primary`, or `Fallback` to be considered only when no Primary passes the filter. Unset: `Primary`.
    /// Example: `tier: Fallback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// What the bank takes; the entry with the most matching selectors counts, then the smallest `upToAmount`, then the
    /// name; at most 32. Unset: no fee. Example: `fees: [{name: all, fixed: "0.30"}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub fees: Option<Vec<Fee>>,
    /// Currency of the account that pays. Unset: the payout's, without exchange. Example: `fundingCurrency: USD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub funding_currency: Option<CurrencyCode>,
    /// What the bank's exchange costs. Unset: nothing. Example: `fx: {spreadBasisPoints: "25"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fx: Option<Fx>,
    /// Days until the money arrives; from 0 to 30. Unset: 0. Example: `settlementDays: 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 30))]
    pub settlement_days: Option<i32>,
    /// Score between equals, a decimal from 0 to 1, the higher the better. Unset: the scorer's, else 0. Example: `score: "0.8"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "1"))]
    pub score: Option<DecimalText>,
    /// Payout currencies it takes; at most 64. Unset: all. Example: `currencies: [EUR, SEK]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub currencies: Option<Vec<CurrencyCode>>,
    /// Beneficiary countries it serves; quote them; at most 256. Unset: all. Example: `countries: ["NO", "SE"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub countries: Option<Vec<CountryCode>>,
    /// Rails it offers; at most 32. Unset: all. Example: `rails: [SEPA]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub rails: Option<Vec<Rail>>,
    /// Smallest payout, in `referenceCurrency`. Unset: not limited. Example: `minAmount: "1"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_amount: Option<DecimalText>,
    /// Largest payout, in `referenceCurrency`. Unset: not limited. Example: `maxAmount: "50000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_amount: Option<DecimalText>,
    /// What it may take per day. Unset: not limited. Example: `dailyLimit: {amount: "1000000"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_limit: Option<DailyLimit>,
    /// Windows in which it takes payouts; outside them it is Excluded `CutOff`; at most 16. Unset: always.
    /// Example: `acceptWindows: [{name: day, schedule: "0 8 * * 1-5", duration: 8h}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub accept_windows: Option<Vec<Window>>,
}

/// What a bank takes for a payout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::amounts_ordered("min", "max"))]
pub struct Fee {
    /// Name of the entry, unique in the list; required. At most 63 characters. Example: `name: sepa`.
    pub name: EntryName,
    /// Rails it is for; at most 32. Unset: all. Example: `rails: [SEPA]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub rails: Option<Vec<Rail>>,
    /// Payout currencies it is for; at most 64. Unset: all. Example: `currencies: [EUR]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub currencies: Option<Vec<CurrencyCode>>,
    /// Currency of the amounts of this entry. Unset: the payout's. Example: `currency: EUR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<CurrencyCode>,
    /// Largest payout it is for, in its currency, inclusive. Unset: no bound. Example: `upToAmount: "1000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to_amount: Option<DecimalText>,
    /// Hundredths of a percent of the amount, a decimal from 0 to 10000. Unset: 0. Example: `basisPoints: "12.5"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "10000"))]
    pub basis_points: Option<DecimalText>,
    /// Added to every payout, in its currency; quote it. Unset: 0. Example: `fixed: "0.30"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<DecimalText>,
    /// Least fee, in its currency. Unset: none. Example: `min: "0.50"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<DecimalText>,
    /// Greatest fee, in its currency. Unset: none. Example: `max: "25"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<DecimalText>,
    /// How the fee is rounded to the minor unit: `HalfEven`, `HalfUp`, `Up` or `Down`. Unset: `HalfEven`.
    /// Example: `rounding: HalfUp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Rounding>,
}

/// What a bank's exchange costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fx {
    /// Distance from the middle rate in hundredths of a percent, a decimal from -10000 to 10000; negative is a gain.
    /// Unset: 0. Example: `spreadBasisPoints: "25"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("-10000", "10000"))]
    pub spread_basis_points: Option<SignedDecimalText>,
}

/// What a bank may take per day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DailyLimit {
    /// Sum of a day, in `referenceCurrency`, greater than 0. Unset: not limited. Example: `amount: "1000000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::positive())]
    pub amount: Option<DecimalText>,
    /// Payouts of a day; from 1 to 10000000. Unset: not limited. Example: `count: 500`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub count: Option<i32>,
    /// IANA time zone in which a day begins. Unset: UTC. Example: `timeZone: Europe/Paris`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<ZoneText>,
}
