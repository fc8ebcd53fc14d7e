//! How a choice is weighed, bent by people, and what becomes of payouts without an answer.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Instant, LocalRef};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{CountryCode, CurrencyCode, DecimalText, DurationText, EntryName, Rail, ReasonText};

/// Payouts a route is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::amounts_ordered("minAmount", "maxAmount"))]
pub struct RouteMatch {
    /// Payout currencies; at most 64. Unset: all. Example: `currencies: [EUR]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub currencies: Option<Vec<CurrencyCode>>,
    /// Beneficiary countries; quote them; at most 256. Unset: all. Example: `countries: ["NO"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub countries: Option<Vec<CountryCode>>,
    /// Rails; at most 32. Unset: all. Example: `rails: [SEPA]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub rails: Option<Vec<Rail>>,
    /// Smallest amount, in `referenceCurrency`. Unset: no bound. Example: `minAmount: "10"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_amount: Option<DecimalText>,
    /// Largest amount, in `referenceCurrency`. Unset: no bound. Example: `maxAmount: "50000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_amount: Option<DecimalText>,
}

/// The payout that `status.active` speaks of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Its amount, greater than 0. Unset: 1000. Example: `amount: "250"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::positive())]
    pub amount: Option<DecimalText>,
    /// Its currency. Unset: `referenceCurrency`. Example: `currency: EUR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<CurrencyCode>,
    /// Its beneficiary country; quote it. Unset: candidates are not filtered by country. Example: `country: "NO"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<CountryCode>,
    /// Its rail. Unset: candidates are not filtered by rail. Example: `rail: SEPA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rail: Option<Rail>,
}

/// What is added to fee and exchange when costs are compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Hundredths of a percent of the amount, times the chance of failure; a decimal from 0 to 10000. Unset: 100.
    /// Example: `retryBasisPoints: "100"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "10000"))]
    pub retry_basis_points: Option<DecimalText>,
    /// Amount in `referenceCurrency`, times the chance of failure. Unset: 10. Example: `healthPenalty: "10"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_penalty: Option<DecimalText>,
    /// Hundredths of a percent of the amount per day until the money arrives; a decimal from 0 to 10000. Unset: 0.
    /// Example: `delayBasisPoints: "2"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "10000"))]
    pub delay_basis_points: Option<DecimalText>,
}

/// Exchange rates that are used after the request's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceRates {
    /// One rate per currency; required, at most 200. Example: `rates: [{currency: USD, rate: "0.92"}]`.
    #[schemars(length(max = 200))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["currency".into()]))]
    pub rates: Vec<Rate>,
    /// When the rates were true, RFC 3339 with any offset; required. Example: `asOfTime: "2029-05-01T00:00:00Z"`.
    pub as_of_time: Instant,
    /// Age from which the rates are not used; from 1m to 8784h. Unset: they never grow too old. Example: `maxAge: 24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1m", "8784h"))]
    pub max_age: Option<DurationText>,
}

/// One exchange rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// The currency, unique in the list; required. Example: `currency: USD`.
    pub currency: CurrencyCode,
    /// What one unit of it is worth in `referenceCurrency`, greater than 0; required. Example: `rate: "0.92"`.
    #[x_kube(validation = rule::positive())]
    pub rate: DecimalText,
}

/// An external scoring service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scorer {
    /// The connection to the service; required. Example: `connectionRef: {name: sira}`.
    pub connection_ref: LocalRef,
    /// Age from which a score is not used; from 1s to 24h. Unset: 10m. Example: `maxAge: 10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "24h"))]
    pub max_age: Option<DurationText>,
}

/// What keeps the active bank although another is a little better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hysteresis {
    /// Percent by which another must be cheaper; from 0 to 100. Unset: 0. Example: `switchPercent: 5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub switch_percent: Option<i32>,
    /// Least time between two changes; from 0s to 24h. Unset: 0s. Example: `minHold: 1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "24h"))]
    pub min_hold: Option<DurationText>,
}

/// A weight that Ops put on a candidate for a while. An unknown candidate is ignored and reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adjustment {
    /// Name of the entry, unique in the list; required. At most 63 characters. Example: `name: slow-a`.
    pub name: EntryName,
    /// Name of the candidate; required. Example: `candidate: bank-a`.
    pub candidate: EntryName,
    /// What payouts it is for. Unset: all. Example: `scope: {country: "SN"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<AdjustmentScope>,
    /// Factor on the cost, a decimal from 0.1 to 10; below 1 favours, above 1 penalises; required. Example: `weight: "1.5"`.
    #[x_kube(validation = rule::decimal("0.1", "10"))]
    pub weight: DecimalText,
    /// When it loses its effect, RFC 3339 with any offset; required. Example: `untilTime: "2030-01-31T18:00:00Z"`.
    pub until_time: Instant,
    /// Why, for the audit log; required, 1 to 256 characters. Example: `reason: slow settlement`.
    pub reason: ReasonText,
}

/// What payouts an adjustment is for: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::exactly_one(&["country", "merchant"]))]
pub struct AdjustmentScope {
    /// Payouts to this country; quote it. Unset: `merchant` is set. Example: `country: "SN"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<CountryCode>,
    /// Payouts of this merchant; at most 128 characters. Unset: `country` is set. Example: `merchant: m-001`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub merchant: Option<String>,
}

/// One candidate that takes everything it can until a time. An unknown candidate is ignored and reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Pin {
    /// Name of the candidate; required. Example: `candidate: bank-a`.
    pub candidate: EntryName,
    /// When it loses its effect, RFC 3339 with any offset; required. Example: `untilTime: "2030-01-31T18:00:00Z"`.
    pub until_time: Instant,
    /// Why, for the audit log; required, 1 to 256 characters. Example: `reason: incident at bank-b`.
    pub reason: ReasonText,
}

closed_enum!(
    /// What is done about a payout without an answer.
    StuckPolicy {
        /// The bank is asked.
        Inquire,
        /// The bank is asked, then the payout is called back.
        InquireThenRecall,
        /// Nothing; a person decides.
        ManualOnly,
    }
);

/// What happens to payouts without an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("checkInterval", "after"))]
pub struct Stuck {
    /// From when a sent payout without an answer counts as stuck; from 1m to 168h. Unset: 30m. Example: `after: 30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1m", "168h"))]
    pub after: Option<DurationText>,
    /// How often stuck payouts are looked for; from 10s to 1h. Unset: 60s. Example: `checkInterval: 60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10s", "1h"))]
    pub check_interval: Option<DurationText>,
    /// `Inquire`, `InquireThenRecall` or `ManualOnly`. Unset: `InquireThenRecall`. Example: `policy: ManualOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<StuckPolicy>,
    /// How much dearer another bank may be before a person is asked, in hundredths of a percent of the amount; a decimal
    /// from 0 to 10000. Unset: a person is asked about any rise. Example: `maxRerouteCostBasisPoints: "50"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "10000"))]
    pub max_reroute_cost_basis_points: Option<DecimalText>,
}
