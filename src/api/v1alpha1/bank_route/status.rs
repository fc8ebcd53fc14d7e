//! Observed status of a `BankRoute` for its reference payout. Payouts and decisions are rows in the ledger, not
//! objects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Condition, Time, TriState, conditions_schema};

string_enum!(
    /// State of a candidate for the reference payout.
    CandidateState {
        /// Chosen for the payout.
        Preferred,
        /// Available, but not chosen.
        Standby,
        /// Available if no Primary is.
        Fallback,
        /// Not available for the payout.
        Excluded,
    }
);

/// Observed status of a `BankRoute`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BankRouteStatus {
    /// The metadata.generation that this status was computed from; -1 until the operator has observed the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready and Available always; Reconciling, Stalled, Degraded and Suspended only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Last handled value of the annotation `busbar.dev/requestedAt` (or `reconcile.fluxcd.io/requestedAt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Whether a bank is available for the reference payout: `True`, `False` or `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<TriState>,
    /// Name of the candidate chosen for the reference payout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub active: Option<String>,
    /// State of each candidate, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub candidates: Vec<CandidateStatus>,
    /// Number of candidates available for the reference payout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub available_candidates: Option<i32>,
    /// Number of candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_candidates: Option<i32>,
    /// Available and total candidates, formatted for a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub candidate_summary: Option<String>,
    /// Last failover; other changes of `active` are not failovers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Failover>,
    /// Number of failovers since the route was created, those that found no other bank included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failovers: Option<i64>,
    /// Failover that the forecast proposes in mode `Hybrid`, until it is approved, rejected or lapses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<FailoverProposal>,
    /// Number of payouts held for a bank or for a review, in steps: 0, 1, 10, 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub held_payouts: Option<i32>,
}

/// State of one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateStatus {
    /// Name of the candidate.
    #[schemars(length(max = 63))]
    pub name: String,
    /// State: `Preferred`, `Standby`, `Fallback` or `Excluded`.
    pub state: CandidateState,
    /// Reason for the state: one of docs/reference/reasons.md.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Time of the last change of the state.
    pub last_transition_time: Time,
    /// True if a failover left the candidate, and it has not been active since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_over: Option<bool>,
}

/// A failover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// Time of the failover.
    pub time: Time,
    /// Previous candidate, which was excluded.
    #[schemars(length(max = 63))]
    pub from: String,
    /// New candidate; absent if none was available.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub to: Option<String>,
    /// Reason for the exclusion: one of docs/reference/reasons.md.
    #[schemars(length(max = 128))]
    pub reason: String,
}

/// A failover that waits for approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverProposal {
    /// Candidate that would take the payouts.
    #[schemars(length(max = 63))]
    pub candidate: String,
    /// Time at which the proposal lapses.
    pub until_time: Time,
}
