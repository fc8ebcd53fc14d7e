//! What the reference payout of a route would get now. Payouts and decisions are rows in the ledger, never objects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Condition, Time, Tri, conditions_schema};

closed_enum!(
    /// Where a candidate stands for the reference payout.
    CandidateState {
        /// It would take it.
        Preferred,
        /// It could take it.
        Standby,
        /// It could take it if no Primary were left.
        Fallback,
        /// It cannot take it.
        Excluded,
    }
);

/// What the operator observed of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BankRouteStatus {
    /// The metadata.generation this status speaks of; -1 until the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready and Available always; Reconciling, Stalled, Degraded, PayoutsHeld and Suspended only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `busbar.dev/requestedAt` (or Flux's) that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Whether a bank can take the reference payout now: `True`, `False` or `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<Tri>,
    /// Name of the candidate that the reference payout would take now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub active: Option<String>,
    /// Where each candidate stands, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub candidates: Vec<CandidateStatus>,
    /// Candidates that could take the reference payout now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub available_candidates: Option<i32>,
    /// All candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_candidates: Option<i32>,
    /// Available and total as one text for a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub candidate_summary: Option<String>,
    /// The last time the active bank was lost; other changes of `active` are plain transitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Failover>,
    /// Payouts that wait for a bank or for a person, in steps: 0, 1, 10, 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub held_payouts: Option<i32>,
}

/// Where one candidate stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateStatus {
    /// Name of the candidate.
    #[schemars(length(max = 63))]
    pub name: String,
    /// `Preferred`, `Standby`, `Fallback` or `Excluded`.
    pub state: CandidateState,
    /// Why: one word of docs/reference/reasons.md.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// When the state last changed.
    pub last_transition_time: Time,
}

/// A loss of the active bank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// When it happened.
    pub time: Time,
    /// The candidate that was lost.
    #[schemars(length(max = 63))]
    pub from: String,
    /// The candidate that took over; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub to: Option<String>,
    /// Why the former one was excluded: one word of docs/reference/reasons.md.
    #[schemars(length(max = 128))]
    pub reason: String,
}
