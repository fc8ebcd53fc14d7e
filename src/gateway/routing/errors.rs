//! The error of each failure of the decision service, and of invalid fields of a payout.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::canonical;
use crate::domain::decision::RequestError;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::routing::candidate_view::view;
use crate::gateway::routing::payouts::errors::refused;
use crate::ledger::decisions::MAX_OUTCOMES;
use crate::routing::{NoBank, RoutingError};

/// `Retry-After` of what a person must correct first: the spec of a route, payouts after a restore.
const CORRECTED_RETRY_AFTER: Duration = Duration::from_mins(1);

/// `Retry-After` while the audit is verified for another call.
const VERIFY_RETRY_AFTER: Duration = Duration::from_secs(10);

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let text = error.to_string();
        Self::new(ErrorCode::InvalidRequest, text)
            .with("parameter", error.field)
            .with("problem", error.problem.as_str())
            .with("remedy", error.problem.remedy())
    }
}

impl From<RoutingError> for Problem {
    fn from(error: RoutingError) -> Self {
        let text = error.to_string();
        let problem = |code| Self::new(code, text.clone());
        match error {
            RoutingError::RouteNotFound { namespace, route } => {
                problem(ErrorCode::RouteNotFound).with("namespace", namespace).with("route", route)
            }
            RoutingError::RouteNotUsable { route, .. } => problem(ErrorCode::NoRoute)
                .with("namespace", &*route.namespace)
                .with("route", &*route.name)
                .with("candidates", Value::Array(Vec::new()))
                .with("state", "Stalled")
                .retry_in(CORRECTED_RETRY_AFTER),
            RoutingError::NoBank(no_bank) => no_route(problem(ErrorCode::NoRoute), &no_bank),
            RoutingError::Conflict { requested, stored } => problem(ErrorCode::IdempotencyConflict)
                .with("request_hash", canonical::hex(&requested))
                .with("stored_request_hash", canonical::hex(&stored)),
            RoutingError::Unresolved(unresolved) => problem(ErrorCode::AttemptUnresolved)
                .with("attempt_no", unresolved.attempt_no)
                .with("reason", unresolved.why.as_str()),
            RoutingError::PayoutsSuspended => problem(ErrorCode::PayoutsSuspended).retry_in(CORRECTED_RETRY_AFTER),
            RoutingError::Followed { payout_id } => {
                problem(ErrorCode::Conflict).with("state", "followed").with("payout_id", payout_id)
            }
            RoutingError::PayoutNotFound { payout_id } => {
                problem(ErrorCode::PayoutNotFound).with("payout_id", payout_id)
            }
            RoutingError::ActRefused { payout, refusal } => refused(text, &payout, &refusal),
            RoutingError::KeyReused { payout_id } => {
                problem(ErrorCode::IdempotencyConflict).with("payout_id", payout_id)
            }
            RoutingError::NotReviewed => problem(ErrorCode::Unavailable),
            RoutingError::DecisionNotFound { id } => {
                problem(ErrorCode::DecisionNotFound).with("decision_id", id.to_string())
            }
            RoutingError::OutcomesFull { id } => problem(ErrorCode::Conflict)
                .with("state", "too_many")
                .with("limit", MAX_OUTCOMES)
                .with("decision_id", id.to_string()),
            RoutingError::AlreadySuperseded { by } => {
                problem(ErrorCode::Conflict).with("state", "superseded").with("superseded_by", by.to_string())
            }
            RoutingError::CandidateNotFound { bank } => {
                problem(ErrorCode::InvalidRequest).with("parameter", "candidate").with("candidate", bank)
            }
            RoutingError::CandidateExcluded { candidate, reason } => problem(ErrorCode::Conflict)
                .with("state", "Excluded")
                .with("candidate", candidate)
                .with("reason", reason.as_str()),
            RoutingError::Invalid { field, .. } => problem(ErrorCode::InvalidRequest).with("parameter", field),
            RoutingError::AdjustmentNotFound { .. } | RoutingError::ProposalNotFound { .. } => {
                problem(ErrorCode::NotFound)
            }
            RoutingError::ProposalClosed { state, .. } => problem(ErrorCode::Conflict).with("state", state.as_str()),
            RoutingError::TooMany { limit, .. } => {
                problem(ErrorCode::Conflict).with("state", "too_many").with("limit", limit)
            }
            RoutingError::Unavailable { retry_after, .. } => problem(ErrorCode::Unavailable).retry_in(retry_after),
            RoutingError::Verifying | RoutingError::Simulating => {
                problem(ErrorCode::Unavailable).retry_in(VERIFY_RETRY_AFTER)
            }
            RoutingError::Unreplayable { id, .. } => {
                tracing::error!(decision = %id, error = text, "a stored decision cannot be explained");
                problem(ErrorCode::Internal).with("decision_id", id.to_string())
            }
            RoutingError::Defect(_) => {
                tracing::error!(error = text, "a decision cannot be recorded");
                problem(ErrorCode::Internal)
            }
        }
    }
}

/// The error of a payout that no bank can take, with the reason of each.
fn no_route(problem: Problem, no_bank: &NoBank) -> Problem {
    let NoBank { evaluation, holds, retry_after, route, .. } = no_bank;
    let snapshot = no_bank.snapshot.as_deref();
    let of = |name: &str| snapshot.and_then(|snapshot| snapshot.snapshot.candidate(name));
    let standings = evaluation.iter().flat_map(|evaluation| evaluation.ranked());
    // Every candidate is printed, as in an answer. They are plain values: writing them cannot fail.
    let candidates: Vec<Value> = standings.map(|one| json!(view(one, of(&one.name)))).collect();
    let state = if evaluation.is_some() { "Excluded" } else { "Suspended" };
    let problem = problem
        .with("namespace", &*route.namespace)
        .with("route", &*route.name)
        .with("candidates", candidates)
        .with("state", state);
    if *holds { problem.retry_in(*retry_after) } else { problem.into_final() }
}
