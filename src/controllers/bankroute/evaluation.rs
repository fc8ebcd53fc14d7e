//! Evaluates a route for its reference payout: banks in their present state, rules, predictions. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::controllers::DEFAULT_REQUEUE;
use crate::controllers::bankroute::inputs::RouteInputs;
use crate::domain::route::{self, ConnectionState, Evaluation, ForecastUse, Incumbent, RouteMode, UNKNOWN_SUCCESS};
use crate::domain::window::WindowPosition;
use crate::resolve::ResolvedRoute;
use crate::resolve::bank_route::RouteCandidate;

/// How often the costs of several banks are compared again while one of them recovers: the estimate of its success
/// rises with every check, and nothing reports it. While all are well nothing is compared without a cause, so that
/// banks that cost the same do not take turns.
const RECOVERY_INTERVAL: Duration = Duration::from_mins(1);

/// Least delay of an evaluation that is due by itself.
const MIN_REQUEUE: Duration = Duration::from_secs(1);

/// The evaluation, and the delay until it may change by itself: at the edge of a window, at the end of a weight, of a
/// pin, of an approval, of a prediction, of the rates or of a hold, and with the success of the banks.
pub(super) fn evaluate(
    route: &ResolvedRoute,
    inputs: &RouteInputs,
    incumbent: Option<Incumbent<'_>>,
    now: Timestamp,
) -> (Evaluation, Duration) {
    let connections = &inputs.connections;
    let recovers =
        |state: &ConnectionState| matches!(state, ConnectionState::Live { success, .. } if *success < UNKNOWN_SUCCESS);
    let compares = connections.len() > 1 && connections.iter().any(recovers);
    let mut requeue_after = if compares { RECOVERY_INTERVAL } else { DEFAULT_REQUEUE };
    let mut requeue_at_edge = |window: WindowPosition| {
        requeue_after = window.time_left(now).map_or(requeue_after, |left| requeue_after.min(left));
    };
    let rules = inputs.rules.as_deref().unwrap_or(&route.rules);
    let candidates: Vec<_> = route
        .candidates
        .iter()
        .zip(connections)
        .enumerate()
        .map(|(place, (RouteCandidate { candidate, accept_windows, .. }, connection))| {
            let mut candidate = candidate.clone();
            if !accept_windows.is_empty() {
                let window = WindowPosition::at(accept_windows, now);
                requeue_at_edge(window);
                candidate.cut_off = !window.is_inside();
            }
            if let ConnectionState::Live { maintenance, .. } = *connection {
                requeue_at_edge(maintenance);
            }
            connection.apply(&mut candidate);
            candidate.predictions = inputs.predictions.get(place).cloned().unwrap_or_default();
            candidate
        })
        .collect();
    let evaluation = route::evaluate(&route.reference, rules, &candidates, incumbent, now);
    let predictions = candidates.iter().flat_map(|candidate| &candidate.predictions).map(|one| one.valid_until);
    let changes = rules.next_change(now).into_iter().chain(evaluation.held_until).chain(predictions);
    for at in changes.filter(|at| *at > now) {
        requeue_after = requeue_after.min(until(at, now));
    }
    (evaluation, requeue_after)
}

/// The delay until `at`.
pub(super) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(MIN_REQUEUE)
}

/// What the mode comes to while no prediction counts: that of `Reactive`.
pub(super) fn is_without_forecast(mode: RouteMode, evaluation: &Evaluation) -> bool {
    let counts = |forecast| matches!(forecast, ForecastUse::Used | ForecastUse::Proposing);
    mode != RouteMode::Reactive && !evaluation.standings.iter().any(|standing| counts(standing.forecast))
}
