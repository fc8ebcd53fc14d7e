//! Wires the decision service: what it reads, the external scorers, the following of payouts, and the tasks that they
//! need.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::base_deps::BaseDeps;
use crate::app::error::AppError;
use crate::app::route_source::ProcessRoutes;
use crate::app::tasks::Tasks;
use crate::cluster::stores::Stores;
use crate::controllers::resolutions::Resolutions;
use crate::provider::payouts::{NextAttempts, PayoutFollower, RegistryBanks};
use crate::provider::predictions::Predictions;
use crate::provider::registry::Registry;
use crate::routing::{DecisionService, RouteSource, RoutingDeps, RoutingTasks};
use crate::work::payouts::{Follower, PayoutClock, PayoutDeps};
use crate::work::scorer::{ScoredRoutes, ScorerDeps, ScorerPuller, ScorerWorker};

/// The decision service of this replica, and what belongs to it.
pub(super) struct Decisions {
    /// The service.
    pub(super) service: Arc<DecisionService>,
    /// What it reads of this process.
    pub(super) routes: Arc<ProcessRoutes>,
    /// The tasks of every replica.
    pub(super) tasks: DecisionTasks,
    /// The tasks of the leader.
    pub(super) leader: LeaderDecisionTasks,
}

/// The tasks that only the leader runs.
pub(super) struct LeaderDecisionTasks {
    /// Pulls predictions from scorers.
    scorer_puller: ScorerPuller,
    /// Does what is due about open payouts.
    payout_clock: PayoutClock,
}

/// The tasks that every replica runs: the gateway of a standby decides too.
pub(super) struct DecisionTasks {
    routing: RoutingTasks,
    scorer: ScorerWorker,
}

/// Builds the decision service.
///
/// # Errors
/// If a metric is registered already.
pub(super) fn decisions(
    base: &BaseDeps<'_>,
    stores: &Stores,
    registry: &Registry,
    resolutions: &Arc<Resolutions>,
    identity: &str,
) -> Result<Decisions, AppError> {
    let predictions = Predictions::new(base.clock, registry.clone(), base.metrics)?;
    let (resolutions, shared) = (Arc::clone(resolutions), Arc::clone(&predictions));
    let routes = Arc::new(ProcessRoutes::new(base.clock, stores.clone(), registry.clone(), resolutions, shared));
    let scorer = ScorerDeps {
        clock: base.clock,
        registry: registry.clone(),
        ledger: Arc::clone(&base.ledger),
        predictions,
        routes: Arc::clone(&routes) as Arc<dyn ScoredRoutes>,
    };
    let deps = RoutingDeps {
        clock: base.clock,
        ledger: Arc::clone(&base.ledger),
        routes: Arc::clone(&routes) as Arc<dyn RouteSource>,
        tasks: base.tasks.ledger.clone(),
    };
    let (service, routing) = DecisionService::new(deps, base.metrics)?;
    let leader = LeaderDecisionTasks {
        scorer_puller: ScorerPuller::new(&scorer, base.metrics)?,
        payout_clock: payout_clock(base, registry, &service, identity)?,
    };
    let tasks = DecisionTasks { routing, scorer: ScorerWorker::new(scorer) };
    Ok(Decisions { service, routes, tasks, leader })
}

/// The clock of payouts. What follows from acts through the gateway is carried out by each replica.
fn payout_clock(
    base: &BaseDeps<'_>,
    registry: &Registry,
    service: &Arc<DecisionService>,
    identity: &str,
) -> Result<PayoutClock, AppError> {
    let tasks = &base.tasks.effects;
    let deps = PayoutDeps {
        banks: Arc::new(RegistryBanks::new(registry.clone(), base.clock)),
        clock: base.clock,
        counts: service.payout_metrics(),
        ledger: Arc::clone(&base.ledger),
        next: Arc::clone(service) as Arc<dyn NextAttempts>,
        tasks: tasks.clone(),
    };
    let follower = Follower::new(deps, base.metrics)?;
    service.set_follower(Arc::new(follower.clone()) as Arc<dyn PayoutFollower>);
    Ok(PayoutClock::new(follower, identity, tasks.clone()))
}

/// Starts the tasks of every replica. Decisions are committed until the gateway has ended.
pub(super) fn start(decisions: DecisionTasks, stop: &CancellationToken, tasks: &Tasks) {
    let DecisionTasks { routing, scorer } = decisions;
    tasks.effect("route adjustments", routing.ops_refresh.run(stop.clone()));
    tasks.effect("payout totals", routing.payout_totals.run(stop.clone()));
    tasks.writer("decisions", routing.committer.run(tasks.writers_stop()));
    tasks.writer("predictions", scorer.run(tasks.writers_stop()));
}

/// Starts the tasks of the leader.
pub(super) fn lead(leader: LeaderDecisionTasks, stop: &CancellationToken, tasks: &Tasks) {
    let LeaderDecisionTasks { scorer_puller, payout_clock } = leader;
    tasks.effect("scorers", scorer_puller.run(stop.clone()));
    tasks.effect("payout clock", payout_clock.run(stop.clone()));
}
