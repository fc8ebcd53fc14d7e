//! Computes a route's status: the active bank and why the others are not. Pure and total.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteStatus, CandidateState, CandidateStatus, Failover};
use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::cluster::events::EventDraft;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::conditions::{Conditions, time, unused_fields_note};
use crate::controllers::{DEFAULT_REQUEUE, Decision};
use crate::domain::breaker::EffectiveState;
use crate::domain::clock_skew::happened;
use crate::domain::conditions::ConditionStatus;
use crate::domain::route::{
    self, CandidateHealth, CandidateReason, Evaluation, Incumbent, RouteChange, StandingState, UNKNOWN_SUCCESS,
};
use crate::domain::time::Now;
use crate::domain::window::WindowPosition;
use crate::resolve::bank_route::RouteCandidate;
use crate::resolve::{ResolvedRoute, SpecError};

/// How often the costs of several banks are compared again while one of them recovers: the estimate of its success rises
/// with every check, and nothing reports it. While all are well nothing is compared without a cause, so that banks that
/// cost the same do not take turns.
const RECOVERY_INTERVAL: Duration = Duration::from_mins(1);

const SUSPENDED: &str = "spec.suspend is true: the route accepts no payouts";

/// State of one candidate's connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// No object of that name.
    Missing,
    /// The object exists but has no running connection; its conditions say why.
    NotReady,
    /// A connection is running.
    Live {
        /// Effective circuit state.
        effective: EffectiveState,
        /// What its health checks say.
        health: CandidateHealth,
        /// Whether the connection is suspended.
        suspended: bool,
        /// Position relative to its maintenance windows.
        maintenance: WindowPosition,
        /// Estimated share of calls that succeed, in parts per million.
        success: u32,
    },
}

/// Inputs of [`decide`]: the result of `observe`.
#[derive(Clone, Debug)]
pub struct RouteInputs {
    /// What the spec was resolved to, or why it cannot be used.
    pub route: Result<Arc<ResolvedRoute>, SpecError>,
    /// State of each candidate's connection, in the spec's order.
    pub connections: Vec<ConnectionState>,
}

/// Evaluates the candidates and computes status and events.
pub fn decide(
    object: &BankRoute,
    previous: Option<&BankRouteStatus>,
    inputs: &RouteInputs,
    now: Now,
) -> Decision<BankRouteStatus, std::convert::Infallible> {
    let route = match &inputs.route {
        Ok(route) => route,
        Err(error) => return spec_rejected(object, previous, error, now.wall),
    };
    let incumbent = previous.and_then(|status| incumbent(status, now.wall));
    let (evaluation, requeue_after) = evaluate(route, &inputs.connections, incumbent, now.wall);
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now.wall);
    let missing = candidate_names(object, inputs, |c| c == ConnectionState::Missing);
    let all_missing = missing.len() == object.spec.candidates.len();
    if all_missing {
        let message =
            "no candidate connection found: create one of the connections in spec.candidates in this namespace";
        conditions.set(ConditionType::Ready, false, Reason::ConnectionNotFound, message);
        conditions.set(ConditionType::Reconciling, true, Reason::ConnectionNotFound, message);
    } else {
        let unused = unused_fields_note(&route.unused_fields);
        conditions.set(
            ConditionType::Ready,
            true,
            Reason::Accepted,
            format!("spec accepted; candidates are evaluated{}{unused}", unknown_note(&route.unknown_candidates)),
        );
    }
    // A suspended route accepts no payouts even if banks are available.
    let active = evaluation.active.clone().filter(|_| !object.spec.suspend);
    let (available, reason, message) = match &active {
        Some(_) => (true, Reason::CandidateAvailable, "a bank is available for the reference payout"),
        None if object.spec.suspend => (false, Reason::Suspended, SUSPENDED),
        None => (
            false,
            Reason::NoBankAvailable,
            "no candidate is available for the reference payout; see status.candidates",
        ),
    };
    conditions.set(ConditionType::Available, available, reason, message);
    conditions.set_if(
        !missing.is_empty() && !all_missing,
        ConditionType::Degraded,
        Reason::CandidatesUnresolved,
        format!(
            "connections not found for candidates {}: create the connections or remove the candidates",
            missing.join(", ")
        ),
    );
    conditions.set_if(object.spec.suspend, ConditionType::Suspended, Reason::Suspended, SUSPENDED);

    let previously_active = previous.and_then(|s| s.active.as_deref());
    let last = previous.and_then(|s| s.last_failover.as_ref());
    let change = if object.spec.suspend {
        RouteChange::None
    } else {
        route::change(previously_active, failed_back_to(previous, &evaluation), &evaluation)
    };
    let failed = previously_active.and_then(|from| evaluation.failed(from));
    let last_failover = match (change, previously_active, failed) {
        (RouteChange::FailedOver | RouteChange::NoneAvailable, Some(from), Some(reason)) => Some(Failover {
            time: time(now.wall),
            from: from.to_owned(),
            to: active.clone(),
            reason: reason.to_string(),
        }),
        _ => last.cloned().map(|last| as_of(last, now.wall)),
    };
    let is_failover = matches!(change, RouteChange::FailedOver | RouteChange::NoneAvailable) && failed.is_some();
    let left = previously_active.filter(|_| is_failover);
    let total = evaluation.standings.len();
    let count = evaluation.available();
    let status = BankRouteStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(previous.map_or(&[], |s| &s.conditions)),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        available: Some(if available { TriState::True } else { TriState::False }),
        active,
        candidates: candidates(previous, &evaluation, left, now.wall),
        available_candidates: Some(i32::try_from(count).unwrap_or(i32::MAX)),
        total_candidates: Some(i32::try_from(total).unwrap_or(i32::MAX)),
        candidate_summary: Some(format!("{count}/{total}")),
        last_failover,
        held_payouts: previous.and_then(|s| s.held_payouts),
    };
    let events = events(change, previously_active, failed, &status);
    Decision { status: Some(status), steps: Vec::new(), events, requeue_after }
}

/// The bank that takes payouts so far, if one does, and since when.
fn incumbent(previous: &BankRouteStatus, now: Timestamp) -> Option<Incumbent<'_>> {
    let name = previous.active.as_deref()?;
    let status = previous.candidates.iter().find(|c| c.name == name && c.state == CandidateState::Preferred)?;
    Some(Incumbent { name, since: happened(status.last_transition_time.0, now) })
}

/// What Ready says of fields that operations staff own and that name no candidate.
fn unknown_note(fields: &[String]) -> String {
    if fields.is_empty() {
        String::new()
    } else {
        format!("; ignored, because spec.candidates has no such name: spec.{}", fields.join(", spec."))
    }
}

/// The active bank, if it was excluded before and has recovered: switching to it is a failback. Any bank that a
/// failover left counts, not only the last one: two may fail one after the other, and the first recover. It counts too if
/// it was dearer for a while after its recovery. A bank that was excluded without being active is not failed back to.
fn failed_back_to<'a>(previous: Option<&BankRouteStatus>, evaluation: &'a Evaluation) -> Option<&'a str> {
    let (previous, active) = (previous?, evaluation.active.as_deref()?);
    // Versions before this one stored only which bank the last failover left.
    let last = previous.last_failover.as_ref()?.from.as_str();
    let outage_reasons = [
        CandidateReason::CircuitOpen,
        CandidateReason::CircuitHalfOpen,
        CandidateReason::ForcedOpen,
        CandidateReason::Suspended,
        CandidateReason::Unhealthy,
    ];
    let was_left = |c: &CandidateStatus| {
        let is_marked = c.failed_over == Some(true);
        let in_outage = || outage_reasons.iter().any(|reason| c.reason == reason.as_str());
        let recovered = if c.state == CandidateState::Excluded { in_outage() } else { is_marked };
        c.name == active && (is_marked || c.name == last) && recovered
    };
    previous.candidates.iter().any(was_left).then_some(active)
}

/// The evaluation, and the delay until it may change by itself: at the edge of a window, at the end of a weight, of the
/// pin, of the rates or of a hold, and with the success of the banks.
fn evaluate(
    route: &ResolvedRoute,
    connections: &[ConnectionState],
    incumbent: Option<Incumbent<'_>>,
    now: Timestamp,
) -> (Evaluation, Duration) {
    let recovers =
        |state: &ConnectionState| matches!(state, ConnectionState::Live { success, .. } if *success < UNKNOWN_SUCCESS);
    let compares = connections.len() > 1 && connections.iter().any(recovers);
    let mut requeue_after = if compares { RECOVERY_INTERVAL } else { DEFAULT_REQUEUE };
    let mut requeue_at_edge = |window: WindowPosition| {
        requeue_after = window.time_left(now).map_or(requeue_after, |left| requeue_after.min(left));
    };
    let candidates: Vec<_> = route
        .candidates
        .iter()
        .zip(connections)
        .map(|(RouteCandidate { candidate, accept_windows }, connection)| {
            let mut candidate = candidate.clone();
            if !accept_windows.is_empty() {
                let window = WindowPosition::at(accept_windows, now);
                requeue_at_edge(window);
                candidate.cut_off = !window.is_inside();
            }
            match *connection {
                ConnectionState::Missing => candidate.circuit = None,
                ConnectionState::NotReady => candidate.exclusion = Some(CandidateReason::ConnectionNotReady),
                ConnectionState::Live { effective, health, suspended, maintenance, success } => {
                    requeue_at_edge(maintenance);
                    let excluded = maintenance.is_inside() && !suspended;
                    candidate.exclusion = excluded.then_some(CandidateReason::Maintenance);
                    (candidate.circuit, candidate.health) = (Some(effective), health);
                    candidate.suspended = suspended;
                    candidate.success = Some(success);
                }
            }
            candidate
        })
        .collect();
    let evaluation = route::evaluate(&route.reference, &route.rules, &candidates, incumbent, now);
    let changes = route.rules.next_change(now).into_iter().chain(evaluation.held_until);
    for at in changes {
        let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        requeue_after = requeue_after.min(left.max(Duration::from_secs(1)));
    }
    (evaluation, requeue_after)
}

/// The status of a route whose spec cannot be used.
fn spec_rejected(
    object: &BankRoute,
    previous: Option<&BankRouteStatus>,
    error: &SpecError,
    now: Timestamp,
) -> Decision<BankRouteStatus, std::convert::Infallible> {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now);
    let unevaluated = [(ConditionType::Available, ConditionStatus::False)];
    let requeue_after = conditions.reject_spec(error, &unevaluated, DEFAULT_REQUEUE);
    conditions.set_if(object.spec.suspend, ConditionType::Suspended, Reason::Suspended, SUSPENDED);
    let old = previous.cloned().unwrap_or_default();
    let status = BankRouteStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(&old.conditions),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        available: Some(TriState::False),
        active: None,
        last_failover: old.last_failover.map(|last| as_of(last, now)),
        held_payouts: old.held_payouts,
        ..BankRouteStatus::default()
    };
    Decision { status: Some(status), steps: Vec::new(), events: Vec::new(), requeue_after }
}

/// A failover as of `now`: one that is ahead of the clock happened now.
fn as_of(failover: Failover, now: Timestamp) -> Failover {
    Failover { time: time(happened(failover.time.0, now)), ..failover }
}

/// Names of the candidates whose connection state matches.
fn candidate_names(object: &BankRoute, inputs: &RouteInputs, matches: impl Fn(ConnectionState) -> bool) -> Vec<String> {
    let pairs = object.spec.candidates.iter().zip(&inputs.connections);
    pairs.filter(|(_, c)| matches(**c)).map(|(wire, _)| wire.name.to_string()).collect()
}

/// Candidate statuses in the order of names; each keeps its transition time while its state is unchanged, and that a
/// failover left it, as it leaves `left` now, until it is active again.
fn candidates(
    previous: Option<&BankRouteStatus>,
    evaluation: &Evaluation,
    left: Option<&str>,
    now: Timestamp,
) -> Vec<CandidateStatus> {
    let old = previous.map_or(&[][..], |s| &s.candidates);
    evaluation
        .standings
        .iter()
        .map(|standing| {
            let state = match standing.state {
                StandingState::Preferred => CandidateState::Preferred,
                StandingState::Standby => CandidateState::Standby,
                StandingState::Fallback => CandidateState::Fallback,
                StandingState::Excluded => CandidateState::Excluded,
            };
            let before = old.iter().find(|c| c.name == standing.name);
            let same = before.filter(|c| c.state == state);
            let was_left = left == Some(&*standing.name) || before.is_some_and(|c| c.failed_over == Some(true));
            CandidateStatus {
                name: standing.name.clone(),
                state,
                reason: standing.reason.as_str().to_owned(),
                last_transition_time: time(same.map_or(now, |c| happened(c.last_transition_time.0, now))),
                failed_over: (was_left && state != CandidateState::Preferred).then_some(true),
            }
        })
        .collect()
}

/// The events of a change; `failed` is why the previously active bank cannot be used any more, if it failed.
fn events(
    change: RouteChange,
    previously_active: Option<&str>,
    failed: Option<CandidateReason>,
    status: &BankRouteStatus,
) -> Vec<EventDraft> {
    let from = previously_active.unwrap_or("none");
    let to = status.active.as_deref().unwrap_or("none");
    let cause = failed.map_or("Excluded", CandidateReason::as_str);
    let last = match failed {
        Some(reason) => format!("{from} is excluded too ({reason})"),
        None => format!("{from} does not take the reference payout since the route was edited"),
    };
    match change {
        RouteChange::FailedOver => vec![EventDraft::warning(
            EventReason::FailedOver,
            format!(
                "failed over from {from} to {to}: {from} is excluded ({cause}); fails back when {from} is available \
                 and cheapest"
            ),
        )],
        RouteChange::FailedBack => vec![EventDraft::normal(
            EventReason::FailedBack,
            format!("failed back to {to}: it is available and cheapest"),
        )],
        RouteChange::NoneAvailable => vec![EventDraft::warning(
            EventReason::NoBankAvailable,
            format!(
                "no bank available: {last}; payouts are held or rejected per \
                 spec.whenNoneAvailable; see status.candidates"
            ),
        )],
        RouteChange::None | RouteChange::Switched | RouteChange::Available => Vec::new(),
    }
}
