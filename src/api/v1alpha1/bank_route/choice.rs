//! Cost and selection settings of a route, manual overrides, and handling of payouts without a response.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Instant, LocalRef};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{CountryCode, CurrencyCode, DecimalText, DurationText, EntryName, Rail, ReasonText};

/// Payouts to which a route applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::amounts_ordered("minAmount", "maxAmount"))]
pub struct RouteMatch {
    /// Payout currencies; at most 64. Unset: all. Example: `currencies: [EUR]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub currencies: Option<Vec<CurrencyCode>>,
    /// Beneficiary countries, quoted; at most 256. Unset: all. Example: `countries: ["NO"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub countries: Option<Vec<CountryCode>>,
    /// Rails; at most 32. Unset: all. Example: `rails: [SEPA]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub rails: Option<Vec<Rail>>,
    /// Smallest amount, in `referenceCurrency`. Unset: no minimum. Example: `minAmount: "10"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_amount: Option<DecimalText>,
    /// Largest amount, in `referenceCurrency`. Unset: no maximum. Example: `maxAmount: "50000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_amount: Option<DecimalText>,
}

/// Reference payout, for which `status` is evaluated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferencePayout {
    /// Amount, greater than 0. Unset: 1000. Example: `amount: "250"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::positive())]
    pub amount: Option<DecimalText>,
    /// Currency. Unset: `referenceCurrency`. Example: `currency: EUR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<CurrencyCode>,
    /// Beneficiary country, quoted. Unset: candidates are not filtered by country. Example: `country: "NO"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<CountryCode>,
    /// Rail. Unset: candidates are not filtered by rail. Example: `rail: SEPA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rail: Option<Rail>,
}

/// Cost components besides fee and exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Cost of a retry in basis points of the amount, times the probability of failure; a decimal from 0 to 10000.
    /// Unset: 100.
    /// Example: `retryBasisPoints: "100"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "10000"))]
    pub retry_basis_points: Option<DecimalText>,
    /// Penalty in `referenceCurrency`, times the probability of failure. Unset: 10. Example: `healthPenalty: "10"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_penalty: Option<DecimalText>,
    /// Cost of delay in basis points of the amount per day until settlement; a decimal from 0 to 10000. Unset: 0.
    /// Example: `delayBasisPoints: "2"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "10000"))]
    pub delay_basis_points: Option<DecimalText>,
}

/// Exchange rates, used if the request has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceRates {
    /// One rate per currency; required, at most 200. Example: `rates: [{currency: USD, rate: "0.92"}]`.
    #[schemars(length(max = 200))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["currency".into()]))]
    pub rates: Vec<ExchangeRate>,
    /// Effective time of the rates, RFC 3339 with any offset; required. Example: `asOfTime: "2029-05-01T00:00:00Z"`.
    pub as_of_time: Instant,
    /// Maximum age of the rates; older rates are not used; from 1m to 8784h. Unset: unlimited. Example: `maxAge: 24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1m", "8784h"))]
    pub max_age: Option<DurationText>,
}

/// One exchange rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExchangeRate {
    /// Currency, unique in the list; required. Example: `currency: USD`.
    pub currency: CurrencyCode,
    /// Value of one unit of the currency in `referenceCurrency`, greater than 0; required. Example: `rate: "0.92"`.
    #[x_kube(validation = rule::positive())]
    pub rate: DecimalText,
}

/// External scoring service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scorer {
    /// Connection to the service; required. Example: `connectionRef: {name: sira}`.
    pub connection_ref: LocalRef,
    /// Maximum age of a score; older scores are not used; from 1s to 24h. Unset: 10m. Example: `maxAge: 10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "24h"))]
    pub max_age: Option<DurationText>,
}

/// Hysteresis: keeps the active bank although another is slightly cheaper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hysteresis {
    /// Percentage by which another bank must be cheaper; from 0 to 100. Unset: 0. Example: `switchPercent: 5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub switch_percent: Option<i32>,
    /// Minimum time between two changes of the active bank; from 0s to 24h. Unset: 0s. Example: `minHold: 1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "24h"))]
    pub min_hold: Option<DurationText>,
}

/// Temporary cost weight of a candidate. An unknown candidate is ignored and reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adjustment {
    /// Name of the entry, unique in the list; required, at most 63 characters. Example: `name: slow-a`.
    pub name: EntryName,
    /// Name of the candidate; required. Example: `candidate: bank-a`.
    pub candidate: EntryName,
    /// Payouts to which the weight applies. Unset: all. Example: `scope: {country: "SN"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<AdjustmentScope>,
    /// Factor on the cost, a decimal from 0.1 to 10; below 1 favors, above 1 penalizes; required.
    /// Example: `weight: "1.5"`.
    #[x_kube(validation = rule::decimal("0.1", "10"))]
    pub weight: DecimalText,
    /// Expiry, RFC 3339 with any offset; required. Example: `untilTime: "2030-01-31T18:00:00Z"`.
    pub until_time: Instant,
    /// Reason for the audit log; required, 1 to 256 characters. Example: `reason: slow settlement`.
    pub reason: ReasonText,
}

/// Payouts to which an adjustment applies: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::exactly_one(&["country", "merchant"]))]
pub struct AdjustmentScope {
    /// Payouts to this country, quoted. Unset: `merchant` is set. Example: `country: "SN"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<CountryCode>,
    /// Payouts of this merchant; at most 128 characters. Unset: `country` is set. Example: `merchant: m-001`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub merchant: Option<String>,
}

/// Temporary pin of a route to one candidate. An unknown candidate is ignored and reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Pin {
    /// Name of the candidate; required. Example: `candidate: bank-a`.
    pub candidate: EntryName,
    /// Expiry, RFC 3339 with any offset; required. Example: `untilTime: "2030-01-31T18:00:00Z"`.
    pub until_time: Instant,
    /// Reason for the audit log; required, 1 to 256 characters. Example: `reason: incident at bank-b`.
    pub reason: ReasonText,
}

string_enum!(
    /// Handling of a payout without a response.
    StuckPolicy {
        /// A status inquiry is sent.
        Inquire,
        /// A status inquiry is sent, then the payout is recalled.
        InquireThenRecall,
        /// No automatic action; a manual review decides.
        ManualOnly,
    }
);

/// Handling of payouts without a response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("checkInterval", "after"))]
pub struct Stuck {
    /// Time after which a sent payout without a response is stuck; from 10s (instant payments) to 168h. Unset: 30m.
    /// Example: `after: 30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10s", "168h"))]
    pub after: Option<DurationText>,
    /// Interval between checks for stuck payouts; from 10s to 1h. Unset: 60s. Example: `checkInterval: 60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10s", "1h"))]
    pub check_interval: Option<DurationText>,
    /// Handling of a stuck payout: `Inquire`, `InquireThenRecall` or `ManualOnly`. Unset: `InquireThenRecall`.
    /// Example: `policy: ManualOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<StuckPolicy>,
    /// Largest additional cost of another bank without a manual review, in basis points of the amount; a decimal from 0
    /// to
    /// 10000. Unset: any additional cost needs a review. Example: `maxRerouteCostBasisPoints: "50"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("0", "10000"))]
    pub max_reroute_cost_basis_points: Option<DecimalText>,
}
