//! `BankRoute`: choice of the bank for a payout.
//!
//! [`candidate`] is one bank with its fees and limits, [`choice`] has the cost and selection settings, [`status`] the
//! result for the reference payout. All amounts are in `referenceCurrency`, bounds inclusive, except in `fees[]`. Git
//! owns the candidates, operations staff own `pin`, `adjustments` and `suspend`; so no validation rule spans the two.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub mod candidate;
pub mod choice;
pub mod status;

pub use candidate::{Candidate, DailyLimit, Fee, Fx, Rounding, Tier};
pub use choice::{
    Adjustment, AdjustmentScope, Cost, ExchangeRate, Hysteresis, Pin, ReferencePayout, ReferenceRates, RouteMatch,
    Scorer, Stuck, StuckPolicy,
};
pub use status::{BankRouteStatus, CandidateState, CandidateStatus, Failover, FailoverProposal};

use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::CurrencyCode;

string_enum!(
    /// When a route fails over.
    RouteMode = Reactive {
        /// When the active bank fails.
        Reactive,
        /// When the active bank is predicted to fail.
        Predictive,
        /// A prediction proposes a failover, which requires approval and otherwise expires.
        Hybrid,
    }
);

string_enum!(
    /// Handling of a payout while no bank is available.
    WhenNoneAvailable = Hold {
        /// The payout is held.
        Hold,
        /// The payout is rejected.
        Reject,
    }
);

/// Spec of a `BankRoute`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "busbar.dev",
    version = "v1alpha1",
    kind = "BankRoute",
    plural = "bankroutes",
    shortname = "broute",
    category = "busbar",
    namespaced,
    status = "BankRouteStatus",
    derive = "PartialEq",
    doc = "Choice of the bank for a payout: the cheapest available candidate.",
    validation = rule::object_name(),
    selectable = ".status.available",
    selectable = ".status.active",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Spec accepted and at least one candidate resolved."),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.available", description = "A bank is available for the reference payout."),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.active", description = "The bank chosen for the reference payout."),
    printcolumn(name = "Candidates", type_ = "string", json_path = ".status.candidateSummary", description = "Available and total candidates."),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Reactive, Predictive or Hybrid."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Last-Failover", type_ = "date", json_path = ".status.lastFailover.time", priority = 1, description = "Time of the last failover."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1, description = "Message of Ready.")
)]
#[cfg_attr(feature = "test-support", kube(cel))]
pub struct BankRouteSpec {
    /// Payouts to which the route applies. Unset: all. Example: `match: {currencies: [EUR]}`.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub match_: Option<RouteMatch>,
    /// Priority among the matching routes of a request without a route name: highest first, then oldest, then by name;
    /// from 0 to 1000. Default: 0.
    /// Example: `priority: 10`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: i32,
    /// Currency of limits, health penalty and cost comparison, ISO 4217 in capitals; required.
    /// Example: `referenceCurrency: EUR`.
    pub reference_currency: CurrencyCode,
    /// Reference payout, for which `status` is evaluated. Unset: 1000 in `referenceCurrency`.
    /// Example: `reference: {amount: "250"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferencePayout>,
    /// Candidate banks; required, 1 to 16. Example: `candidates: [{name: bank-a, connectionRef: {name: bank-a}}]`.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub candidates: Vec<Candidate>,
    /// Cost components besides fee and exchange. Unset: 100, 10 and 0. Example: `cost: {healthPenalty: "5"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Exchange rates, used if the request has none. Unset: none; candidates that need a rate are excluded or ranked
    /// last.
    /// Example: `referenceRates: {rates: [{currency: USD, rate: "0.92"}], asOfTime: "2029-05-01T00:00:00Z"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_rates: Option<ReferenceRates>,
    /// When the route fails over: `Reactive` (on failure), `Predictive` (on a predicted failure) or `Hybrid` (predicted
    /// failovers require approval). Default: `Reactive`. Example: `mode: Hybrid`.
    #[serde(default)]
    pub mode: RouteMode,
    /// External scoring service. Unset: the built-in forecaster. Example: `scorer: {connectionRef: {name: sira}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scorer: Option<Scorer>,
    /// Hysteresis: keeps the active bank although another is slightly cheaper; excluded banks are left regardless.
    /// Unset: always the lowest cost.
    /// Example: `hysteresis: {switchPercent: 5, minHold: 1m}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hysteresis: Option<Hysteresis>,
    /// Temporary cost weights of candidates; at most 64. Unset: none.
    /// Example: `adjustments: [{name: a, candidate: bank-a, weight: "1.5", untilTime: "2030-01-31T18:00:00Z", reason: slow}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub adjustments: Option<Vec<Adjustment>>,
    /// Temporarily pins the route to one candidate. Unset: none.
    /// Example: `pin: {candidate: bank-a, untilTime: "2030-01-31T18:00:00Z", reason: incident}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// Handling of a payout while no bank is available: `Hold` holds it, `Reject` rejects it. Default: `Hold`.
    /// Example: `whenNoneAvailable: Reject`.
    #[serde(default)]
    pub when_none_available: WhenNoneAvailable,
    /// Handling of payouts without a response. Unset: after 30m, checked every 60s, inquired and then recalled.
    /// Example: `stuck: {after: 45m}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck: Option<Stuck>,
    /// Suspends the route: decisions return `no_route`; open payouts are still tracked, and the spec is still
    /// validated. Default: false.
    /// Example: `suspend: true`.
    #[serde(default)]
    pub suspend: bool,
}
