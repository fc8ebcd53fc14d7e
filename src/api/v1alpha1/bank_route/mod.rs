//! `BankRoute`: which bank takes a payout.
//!
//! [`candidate`] is one bank with its fees and limits, [`choice`] how the choice is weighed, [`status`] what the reference
//! payout would get now. All amounts are in `referenceCurrency`, bounds inclusive, except `fees[]`. Git owns the
//! candidates, Ops own `pin`, `adjustments` and `suspend`: so no rule here spans the two.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub mod candidate;
pub mod choice;
pub mod status;

pub use candidate::{Candidate, DailyLimit, Fee, Fx, Rounding, Tier};
pub use choice::{
    Adjustment, AdjustmentScope, Cost, Hysteresis, Pin, Rate, Reference, ReferenceRates, RouteMatch, Scorer, Stuck,
    StuckPolicy,
};
pub use status::{BankRouteStatus, CandidateState, CandidateStatus, Failover};

use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::CurrencyCode;

closed_enum!(
    /// When a route leaves a bank.
    RouteMode = Reactive {
        /// When the bank fails.
        Reactive,
        /// When it is forecast to fail.
        Predictive,
        /// The forecast proposes, a person approves, or it lapses.
        Hybrid,
    }
);

closed_enum!(
    /// What happens to a payout that no bank can take.
    WhenNoneAvailable = Hold {
        /// It waits.
        Hold,
        /// It is refused.
        Reject,
    }
);

/// What a `BankRoute` should be.
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
    doc = "Which bank takes a payout: the cheapest candidate whose circuit is closed.",
    validation = rule::object_name(),
    selectable = ".status.available",
    selectable = ".status.active",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Spec accepted and at least one candidate resolves."),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.available", description = "A bank can take the reference payout now."),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.active", description = "The bank that the reference payout would take now."),
    printcolumn(name = "Candidates", type_ = "string", json_path = ".status.candidateSummary", description = "Available and total."),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Reactive, Predictive or Hybrid."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Last-Failover", type_ = "date", json_path = ".status.lastFailover.time", priority = 1, description = "When the active bank was last lost."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1, description = "Message of Ready.")
)]
#[cfg_attr(feature = "test-support", kube(cel))]
pub struct BankRouteSpec {
    /// Payouts the route is for. Unset: all. Example: `match: {currencies: [EUR]}`.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub match_: Option<RouteMatch>,
    /// Which route a request that names none takes: the matching one of highest priority, then the oldest, then by name;
    /// from 0 to 1000. Default: 0. Example: `priority: 10`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: i32,
    /// Currency of limits, of the health penalty and of comparisons, ISO 4217 in capitals; required.
    /// Example: `referenceCurrency: EUR`.
    pub reference_currency: CurrencyCode,
    /// The payout that `status.active` speaks of. Unset: 1000 in `referenceCurrency`. Example: `reference: {amount: "250"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// The banks to choose from; required, 1 to 16. Example: `candidates: [{name: bank-a, connectionRef: {name: bank-a}}]`.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub candidates: Vec<Candidate>,
    /// What is added to fee and exchange when costs are compared. Unset: 100, 10 and 0. Example: `cost: {healthPenalty: "5"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Exchange rates that are used after the request's own. Unset: none; what needs a rate is excluded or ranked last.
    /// Example: `referenceRates: {rates: [{currency: USD, rate: "0.92"}], asOfTime: "2029-05-01T00:00:00Z"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_rates: Option<ReferenceRates>,
    /// `Reactive` (leave a failing bank), `Predictive` (leave before it fails) or `Hybrid` (propose, a person approves).
    /// Default: `Reactive`. Example: `mode: Hybrid`.
    #[serde(default)]
    pub mode: RouteMode,
    /// An external scoring service. Unset: the built-in forecaster. Example: `scorer: {connectionRef: {name: sira}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scorer: Option<Scorer>,
    /// What keeps the active bank although another is a little better; breaker exclusion ignores it. Unset: exactly the
    /// lowest cost. Example: `hysteresis: {switchPercent: 5, minHold: 1m}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hysteresis: Option<Hysteresis>,
    /// Weights that Ops put on candidates for a while; at most 64. Unset: none.
    /// Example: `adjustments: [{name: a, candidate: bank-a, weight: "1.5", untilTime: "2030-01-31T18:00:00Z", reason: slow}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub adjustments: Option<Vec<Adjustment>>,
    /// One candidate that takes everything it can until a time. Unset: none.
    /// Example: `pin: {candidate: bank-a, untilTime: "2030-01-31T18:00:00Z", reason: incident}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// `Hold` lets a payout that no bank can take wait, `Reject` refuses it; it is never sent anyway. Default: `Hold`.
    /// Example: `whenNoneAvailable: Reject`.
    #[serde(default)]
    pub when_none_available: WhenNoneAvailable,
    /// What happens to payouts without an answer. Unset: after 30m, looked for every 60s, asked and then called back.
    /// Example: `stuck: {after: 45m}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck: Option<Stuck>,
    /// Decisions answer `no_route`; open payouts are still followed; the spec stays validated. Default: false.
    /// Example: `suspend: true`.
    #[serde(default)]
    pub suspend: bool,
}
