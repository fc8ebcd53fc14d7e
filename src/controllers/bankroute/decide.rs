//! What a route's status says. Pure and total.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteStatus, CandidateState, CandidateStatus, Failover};
use crate::api::v1alpha1::common::Tri;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::cluster::events::Note;
use crate::cluster::stores::Watched as _;
use crate::controllers::bankroute::plan;
use crate::controllers::conditions::{Conditions, time};
use crate::controllers::resolve::Problem;
use crate::controllers::{Decision, IDLE, USER_MUST_ACT};
use crate::domain::breaker::Effective;
use crate::domain::route::{self, Change, Evaluation, StandingState};
use crate::domain::time::Now;
use crate::domain::window::Place;

/// The connection of one candidate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// There is none of that name.
    Missing,
    /// It exists and cannot be called: its own conditions say why.
    NotReady,
    /// It can be called.
    Live {
        /// Its circuit.
        effective: Effective,
        /// It is suspended.
        suspended: bool,
        /// Whether it is in a maintenance window.
        maintenance: Place,
    },
}

/// What `observe` saw.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The candidates' connections, in the spec's order.
    pub connections: Vec<ConnectionState>,
}

/// Judges.
pub fn decide(
    object: &BankRoute,
    previous: Option<&BankRouteStatus>,
    observed: &Observed,
    now: Now,
) -> Decision<BankRouteStatus, std::convert::Infallible> {
    let (evaluation, next) = match evaluate(object, observed, now.wall) {
        Ok(evaluated) => evaluated,
        Err(problem) => return stalled(object, previous, &problem, now.wall),
    };
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now.wall);
    let missing = names(object, observed, |c| c == ConnectionState::Missing);
    let all_missing = missing.len() == object.spec.candidates.len();
    if all_missing {
        let message = "no candidate's connection exists: create one of the connections that spec.candidates name, in this namespace";
        conditions.set(ConditionType::Ready, false, Reason::ConnectionNotFound, message);
        conditions.set(ConditionType::Reconciling, true, Reason::ConnectionNotFound, message);
    } else {
        let unread = plan::unread_fields(&object.spec);
        let unread = if unread.is_empty() {
            String::new()
        } else {
            format!("; not used by this version yet: spec.{}", unread.join(", spec."))
        };
        conditions.set(
            ConditionType::Ready,
            true,
            Reason::Accepted,
            format!("the route chooses among its candidates{unread}"),
        );
    }
    // A suspended route answers no payout, whatever its banks could do.
    let active = evaluation.active.clone().filter(|_| !object.spec.suspend);
    let (available, reason, message) = match &active {
        Some(_) => (true, Reason::CandidateAvailable, "a bank can take the reference payout"),
        None if object.spec.suspend => (false, Reason::Suspended, "spec.suspend is true: the route takes no payout"),
        None => (false, Reason::NoBankAvailable, "no candidate can take the reference payout: see status.candidates"),
    };
    conditions.set(ConditionType::Available, available, reason, message);
    conditions.set_if(
        !missing.is_empty() && !all_missing,
        ConditionType::Degraded,
        Reason::CandidatesUnresolved,
        format!("create the connections of these candidates, or remove them: {}", missing.join(", ")),
    );
    conditions.set_if(
        object.spec.suspend,
        ConditionType::Suspended,
        Reason::Suspended,
        "spec.suspend is true: the route takes no payout",
    );

    let before = previous.and_then(|s| s.active.as_deref());
    let last = previous.and_then(|s| s.last_failover.as_ref());
    let change = if object.spec.suspend {
        Change::None
    } else {
        route::change(before, returned(previous, &evaluation), &evaluation)
    };
    let last_failover = match (change, before) {
        (Change::FailedOver | Change::NoneAvailable, Some(from)) => Some(Failover {
            time: time(now.wall),
            from: from.to_owned(),
            to: active.clone(),
            reason: evaluation.standing(from).map_or("CandidateRemoved", |s| s.reason.as_str()).to_owned(),
        }),
        _ => last.cloned(),
    };
    let total = evaluation.standings.len();
    let count = evaluation.available();
    let status = BankRouteStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(previous.map_or(&[], |s| &s.conditions)),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        available: Some(if available { Tri::True } else { Tri::False }),
        active,
        candidates: candidates(previous, &evaluation, now.wall),
        available_candidates: Some(i32::try_from(count).unwrap_or(i32::MAX)),
        total_candidates: Some(i32::try_from(total).unwrap_or(i32::MAX)),
        candidate_summary: Some(format!("{count}/{total}")),
        last_failover,
        held_payouts: previous.and_then(|s| s.held_payouts),
    };
    let notes = notes(change, before, &status);
    Decision { status: Some(status), steps: Vec::new(), notes, next }
}

/// The bank that has the payouts now and was kept from them before: going to it is going back. Any bank that a failover
/// left counts, not only the one that the last failover left: two may fail one after the other, and the first recover.
fn returned<'a>(previous: Option<&BankRouteStatus>, evaluation: &'a Evaluation) -> Option<&'a str> {
    let (previous, active) = (previous?, evaluation.active.as_deref()?);
    previous.last_failover.as_ref()?;
    let out = [
        route::Reason::CircuitOpen,
        route::Reason::CircuitHalfOpen,
        route::Reason::ForcedOpen,
        route::Reason::Suspended,
    ];
    let was_out = |c: &CandidateStatus| {
        c.name == active && c.state == CandidateState::Excluded && out.iter().any(|reason| c.reason == reason.as_str())
    };
    previous.candidates.iter().any(was_out).then_some(active)
}

/// The choice, and when a window's edge may change it.
fn evaluate(object: &BankRoute, observed: &Observed, now: Timestamp) -> Result<(Evaluation, Duration), Problem> {
    let reference = plan::reference(&object.spec)?;
    let mut next = IDLE;
    let mut wait_for = |place: Place| next = place.left(now).map_or(next, |left| next.min(left));
    let candidates = object
        .spec
        .candidates
        .iter()
        .zip(&observed.connections)
        .map(|(wire, connection)| {
            let mut candidate = plan::candidate(wire)?;
            let windows = plan::accept_windows(wire)?;
            if !windows.is_empty() {
                let place = Place::of(&windows, now);
                wait_for(place);
                candidate.cut_off = !place.is_inside();
            }
            match *connection {
                ConnectionState::Missing => candidate.circuit = None,
                ConnectionState::NotReady => candidate.exclusion = Some(route::Reason::ConnectionNotReady),
                ConnectionState::Live { effective, suspended, maintenance } => {
                    wait_for(maintenance);
                    let excluded = maintenance.is_inside() && !suspended;
                    candidate.exclusion = excluded.then_some(route::Reason::Maintenance);
                    candidate.circuit = Some(effective);
                    candidate.suspended = suspended;
                }
            }
            Ok(candidate)
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    Ok((route::evaluate(&reference, &candidates), next))
}

fn stalled(
    object: &BankRoute,
    previous: Option<&BankRouteStatus>,
    problem: &Problem,
    now: Timestamp,
) -> Decision<BankRouteStatus, std::convert::Infallible> {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now);
    conditions.set(ConditionType::Ready, false, problem.reason, problem.message.clone());
    conditions.set(ConditionType::Available, false, problem.reason, "no choice is made: see Ready");
    conditions.set(ConditionType::Stalled, true, problem.reason, problem.message.clone());
    conditions.set_if(
        object.spec.suspend,
        ConditionType::Suspended,
        Reason::Suspended,
        "spec.suspend is true: the route takes no payout",
    );
    let old = previous.cloned().unwrap_or_default();
    let status = BankRouteStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(&old.conditions),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        available: Some(Tri::False),
        active: None,
        last_failover: old.last_failover,
        held_payouts: old.held_payouts,
        ..BankRouteStatus::default()
    };
    Decision { status: Some(status), steps: Vec::new(), notes: Vec::new(), next: USER_MUST_ACT }
}

/// The candidates' names whose connection is in a certain state.
fn names(object: &BankRoute, observed: &Observed, wanted: impl Fn(ConnectionState) -> bool) -> Vec<String> {
    let pairs = object.spec.candidates.iter().zip(&observed.connections);
    pairs.filter(|(_, c)| wanted(**c)).map(|(wire, _)| wire.name.to_string()).collect()
}

/// In the order of names; each keeps its transition time while its state is the same.
fn candidates(previous: Option<&BankRouteStatus>, evaluation: &Evaluation, now: Timestamp) -> Vec<CandidateStatus> {
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
            let same = old.iter().find(|c| c.name == standing.name && c.state == state);
            CandidateStatus {
                name: standing.name.clone(),
                state,
                reason: standing.reason.as_str().to_owned(),
                last_transition_time: same.map_or_else(|| time(now), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

fn notes(change: Change, before: Option<&str>, status: &BankRouteStatus) -> Vec<Note> {
    let from = before.unwrap_or("none");
    let to = status.active.as_deref().unwrap_or("none");
    let why = status.last_failover.as_ref().map_or("Excluded", |f| f.reason.as_str());
    match change {
        Change::FailedOver => vec![Note::warning(
            EventReason::FailedOver,
            format!(
                "payouts go to {to}: {from} is excluded ({why}); the route goes back when {from} can take payouts again and costs least"
            ),
        )],
        Change::FailedBack => vec![Note::normal(
            EventReason::FailedBack,
            format!("payouts go to {to} again: it can take them and costs least"),
        )],
        Change::NoneAvailable => vec![Note::warning(
            EventReason::NoBankAvailable,
            format!(
                "no bank can take payouts: {from} is excluded too ({why}); payouts are held or refused as spec.whenNoneAvailable says, see status.candidates"
            ),
        )],
        Change::None | Change::Switched | Change::Available => Vec::new(),
    }
}
