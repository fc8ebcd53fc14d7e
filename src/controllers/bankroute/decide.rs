//! Computes a route's status: the active bank and why the others are not. Pure and total.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteStatus, CandidateState};
use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::cluster::events::EventDraft;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::bankroute::evaluation::{evaluate, is_without_forecast, until};
use crate::controllers::bankroute::failover::{ActiveBankChange, as_of, candidates, none_available};
pub use crate::controllers::bankroute::inputs::RouteInputs;
use crate::controllers::bankroute::inputs::RouteStep;
use crate::controllers::bankroute::payouts;
use crate::controllers::bankroute::proposal;
use crate::controllers::conditions::{Conditions, reason_of, unused_fields_note};
use crate::controllers::{DEFAULT_REQUEUE, Decision};
use crate::domain::clock_skew::happened;
use crate::domain::conditions::ConditionStatus;
pub use crate::domain::route::ConnectionState;
use crate::domain::route::{Evaluation, Incumbent, IneffectivePin, PinSource, RouteMode};
use crate::domain::time::Now;
use crate::resolve::{ResolvedRoute, SpecError};

/// When a step that the ledger did not take is decided again.
const STEP_RETRY: Duration = Duration::from_secs(10);

const SUSPENDED: &str = "spec.suspend is true: the route accepts no payouts";

/// Evaluates the candidates and computes status, steps and events.
pub fn decide(
    object: &BankRoute,
    previous: Option<&BankRouteStatus>,
    inputs: &RouteInputs,
    now: Now,
) -> Decision<BankRouteStatus, RouteStep> {
    let now = now.wall;
    let route = match &inputs.route {
        Ok(route) => route,
        Err(error) => return spec_rejected(object, previous, inputs, error, now),
    };
    let incumbent = previous.and_then(|status| incumbent(status, now));
    let (evaluation, mut requeue_after) = evaluate(route, inputs, incumbent, now);
    // A suspended route accepts no payouts even if banks are available.
    let active = evaluation.active.clone().filter(|_| !object.spec.suspend);
    let is_hybrid = route.rules.mode == RouteMode::Hybrid && !object.spec.suspend;
    let proposal = proposal::proposal(previous, &inputs.proposal, &evaluation, is_hybrid, now);
    requeue_after = proposal.until.map_or(requeue_after, |at| requeue_after.min(until(at, now)));
    if proposal.step.is_some() {
        requeue_after = requeue_after.min(STEP_RETRY);
    }

    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now);
    ready(&mut conditions, object, inputs, route, &evaluation);
    let available = available(&mut conditions, object, active.as_deref(), &evaluation.ineffective_pins);
    degraded(&mut conditions, object, inputs);
    conditions.set_if(object.spec.suspend, ConditionType::Suspended, Reason::Suspended, SUSPENDED);

    let held_payouts = payouts::shown(previous, inputs.held_payouts);
    payouts::condition(&mut conditions, held_payouts);

    let change = ActiveBankChange::of(previous, &evaluation, object.spec.suspend);
    let left = change.failover().map(|(from, _)| from);
    let (count, total) = (evaluation.available(), evaluation.standings.len());
    let status = BankRouteStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(previous.map_or(&[], |s| &s.conditions)),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        available: Some(if available { TriState::True } else { TriState::False }),
        candidates: candidates(previous, &evaluation, left, now),
        available_candidates: Some(i32::try_from(count).unwrap_or(i32::MAX)),
        total_candidates: Some(i32::try_from(total).unwrap_or(i32::MAX)),
        candidate_summary: Some(format!("{count}/{total}")),
        last_failover: change.last_failover(previous, active.as_deref(), now),
        failovers: change.failovers(previous),
        proposal: proposal.shown,
        held_payouts,
        active,
    };
    let mut events = change.events(status.active.as_deref(), object.spec.when_none_available);
    events.extend(pin_event(previous, &status, &evaluation.ineffective_pins));
    events.extend(payouts::event(previous, held_payouts));
    let shown = status.proposal.as_ref();
    events.extend(proposal::event(previous, &inputs.proposal, shown, status.active.as_deref()));
    Decision { status: Some(status), steps: proposal.step.into_iter().collect(), events, requeue_after }
}

/// The bank that takes payouts so far, if one does, and since when.
fn incumbent(previous: &BankRouteStatus, now: Timestamp) -> Option<Incumbent<'_>> {
    let name = previous.active.as_deref()?;
    let status = previous.candidates.iter().find(|c| c.name == name && c.state == CandidateState::Preferred)?;
    Some(Incumbent { name, since: happened(status.last_transition_time.0, now) })
}

fn ready(
    conditions: &mut Conditions,
    object: &BankRoute,
    inputs: &RouteInputs,
    route: &ResolvedRoute,
    evaluation: &Evaluation,
) {
    let missing = missing_connections(object, inputs).len();
    if missing == object.spec.candidates.len() {
        let message =
            "no candidate connection found: create one of the connections in spec.candidates in this namespace";
        conditions.set(ConditionType::Ready, false, Reason::ConnectionNotFound, message);
        conditions.set(ConditionType::Reconciling, true, Reason::ConnectionNotFound, message);
        return;
    }
    let unused = unused_fields_note(&route.unused_fields);
    let unknown = unknown_note(&route.unknown_candidates);
    let mode = if is_without_forecast(route.rules.mode, evaluation) {
        "; no prediction is in use: banks are chosen as in mode Reactive"
    } else {
        ""
    };
    let message = format!("spec accepted; candidates are evaluated{unknown}{mode}{unused}");
    conditions.set(ConditionType::Ready, true, Reason::Accepted, message);
}

/// What Ready says of fields that operations staff own and that name no candidate.
fn unknown_note(fields: &[String]) -> String {
    if fields.is_empty() {
        String::new()
    } else {
        format!("; ignored, because spec.candidates has no such name: spec.{}", fields.join(", spec."))
    }
}

/// Sets Available; returns whether it is True.
fn available(conditions: &mut Conditions, object: &BankRoute, active: Option<&str>, pins: &[IneffectivePin]) -> bool {
    let pins: Vec<_> = pins.iter().filter_map(pin_note).collect();
    let (available, reason, message) = match active {
        Some(_) if !pins.is_empty() => {
            let message = format!("a bank is available for the reference payout; {}", pins.join("; "));
            (true, Reason::PinWithoutEffect, message)
        }
        Some(_) => (true, Reason::CandidateAvailable, "a bank is available for the reference payout".to_owned()),
        None if object.spec.suspend => (false, Reason::Suspended, SUSPENDED.to_owned()),
        None => {
            let answer = none_available(object.spec.when_none_available);
            let message =
                format!("no candidate is available for the reference payout; {answer}; see status.candidates");
            (false, Reason::NoBankAvailable, message)
        }
    };
    conditions.set(ConditionType::Available, available, reason, message);
    available
}

/// What the status says of a pin whose bank is excluded. A name that the route does not have is reported by Ready, or
/// was refused by the API.
fn pin_note(pin: &IneffectivePin) -> Option<String> {
    let IneffectivePin { candidate, reason, source } = pin;
    let reason = reason.as_ref()?;
    let subject = match source {
        PinSource::Spec => "the pin (spec.pin)",
        PinSource::Api => "the pin of the API",
        PinSource::Approval => "the approved proposal",
    };
    Some(format!("{subject} to {candidate} has no effect: {candidate} is excluded ({reason})"))
}

/// The event of a pin that has no effect any more, or had none from the start.
fn pin_event(
    previous: Option<&BankRouteStatus>,
    status: &BankRouteStatus,
    pins: &[IneffectivePin],
) -> Option<EventDraft> {
    let is_reported = |status: &BankRouteStatus| {
        reason_of(&status.conditions, ConditionType::Available) == Some(Reason::PinWithoutEffect.as_str())
    };
    if !is_reported(status) || previous.is_some_and(is_reported) {
        return None;
    }
    let notes: Vec<_> = pins.iter().filter_map(pin_note).collect();
    let message = format!("{}; it takes effect when the bank is available", notes.join("; "));
    Some(EventDraft::warning(EventReason::PinWithoutEffect, message))
}

fn degraded(conditions: &mut Conditions, object: &BankRoute, inputs: &RouteInputs) {
    let missing = missing_connections(object, inputs);
    let some_missing = !missing.is_empty() && missing.len() < object.spec.candidates.len();
    if some_missing {
        let message = format!(
            "connections not found for candidates {}: create the connections or remove the candidates",
            missing.join(", ")
        );
        conditions.set(ConditionType::Degraded, true, Reason::CandidatesUnresolved, message);
    } else if inputs.scorer_missing {
        let message = "connection of spec.scorer not found: the built-in forecaster is used; create the connection or \
                       remove spec.scorer";
        conditions.set(ConditionType::Degraded, true, Reason::ScorerNotFound, message);
    }
}

/// Names of the candidates whose connection does not exist.
fn missing_connections(object: &BankRoute, inputs: &RouteInputs) -> Vec<String> {
    let pairs = object.spec.candidates.iter().zip(&inputs.connections);
    pairs.filter(|(_, state)| **state == ConnectionState::Missing).map(|(wire, _)| wire.name.to_string()).collect()
}

/// The status of a route whose spec cannot be used.
fn spec_rejected(
    object: &BankRoute,
    previous: Option<&BankRouteStatus>,
    inputs: &RouteInputs,
    error: &SpecError,
    now: Timestamp,
) -> Decision<BankRouteStatus, RouteStep> {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now);
    let unevaluated = [(ConditionType::Available, ConditionStatus::False)];
    let requeue_after: Duration = conditions.reject_spec(error, &unevaluated, DEFAULT_REQUEUE);
    conditions.set_if(object.spec.suspend, ConditionType::Suspended, Reason::Suspended, SUSPENDED);
    let held_payouts = payouts::shown(previous, inputs.held_payouts);
    payouts::condition(&mut conditions, held_payouts);
    let events = payouts::event(previous, held_payouts).into_iter().collect();
    let old = previous.cloned().unwrap_or_default();
    let status = BankRouteStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(&old.conditions),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        available: Some(TriState::False),
        active: None,
        last_failover: old.last_failover.map(|last| as_of(last, now)),
        failovers: old.failovers,
        held_payouts,
        ..BankRouteStatus::default()
    };
    Decision { status: Some(status), steps: Vec::new(), events, requeue_after }
}
