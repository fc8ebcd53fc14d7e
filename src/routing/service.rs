//! The decision service: what its calls share.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::route::{CandidatePrediction, RouteMode, RouteRules};
use crate::ledger::Ledger;
use crate::metrics::{Metrics, MetricsError};
use crate::notify::KeyQueue;
use crate::provider::payouts::PayoutMetrics;
use crate::resolve::ResolvedRoute;
use crate::routing::committer::{CommitQueue, Committer, commit_channel};
use crate::routing::metrics::{DecisionMetrics, DecisionTotals};
use crate::routing::ops::OpsState;
use crate::routing::ops_refresh::OpsRefresh;
use crate::routing::payouts::state::PayoutContext;
use crate::routing::payouts::totals::{PayoutCollector, PayoutTotals, PayoutTotalsRefresh};
use crate::routing::snapshot_cache::SnapshotCache;
use crate::routing::source::RouteSource;
use crate::routing::untold::Untold;
use crate::tasks::TaskGroup;

/// Who asks for a decision; stored with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor {
    /// The request's ID, for correlation.
    pub request_id: Option<Uuid>,
    /// The caller, as authenticated.
    pub subject: String,
}

/// What the service is built on.
pub struct RoutingDeps {
    /// Time.
    pub clock: Clock,
    /// The ledger: the audit of decisions, and all that operations staff store.
    pub ledger: Arc<dyn Ledger>,
    /// Routes and connections.
    pub routes: Arc<dyn RouteSource>,
    /// Where panics of commits are counted.
    pub tasks: TaskGroup,
}

/// The tasks that the service needs: its owner runs them.
pub struct RoutingTasks {
    /// Commits decisions; to be stopped after the last server, before the ledger is closed.
    pub committer: Committer,
    /// Reads the rules of operations staff.
    pub ops_refresh: OpsRefresh,
    /// Reads how many payouts are not final.
    pub payout_totals: PayoutTotalsRefresh,
}

/// Decides which bank takes a payout, and keeps the audit of it.
pub struct DecisionService {
    pub(super) clock: Clock,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) routes: Arc<dyn RouteSource>,
    pub(super) queue: CommitQueue,
    pub(super) ops: OpsState,
    pub(super) cache: Arc<SnapshotCache>,
    pub(super) metrics: DecisionMetrics,
    pub(super) payouts: PayoutContext,
    /// Outcomes that may be stored without anybody having been told.
    pub(super) untold: Untold,
    /// Simulations that may run at a time.
    pub(super) simulations: Semaphore,
    /// Held while the audit is verified.
    pub(super) verifying: tokio::sync::Mutex<()>,
}

impl DecisionService {
    /// The service, and the tasks that it needs.
    ///
    /// # Errors
    /// If a metric is registered already.
    pub fn new(deps: RoutingDeps, metrics: &Metrics) -> Result<(Arc<Self>, RoutingTasks), MetricsError> {
        let RoutingDeps { clock, ledger, routes, tasks } = deps;
        let (queue, committer) = commit_channel(Arc::clone(&ledger), tasks);
        let ops = OpsState::new(Arc::clone(&ledger), clock, Arc::clone(&routes));
        let cache = Arc::new(SnapshotCache::new(Arc::clone(&routes)));
        let payout_metrics = PayoutMetrics::new(metrics)?;
        let totals = Arc::<PayoutTotals>::default();
        PayoutCollector::register(metrics, Arc::clone(&totals));
        let metrics = DecisionMetrics::new(metrics, Arc::clone(&routes))?;
        let ops_refresh = OpsRefresh { state: ops.clone(), cache: Arc::clone(&cache), metrics: metrics.clone() };
        let payout_totals =
            PayoutTotalsRefresh { clock, ledger: Arc::clone(&ledger), ops: ops.clone(), totals: Arc::clone(&totals) };
        let service = Arc::new(Self {
            clock,
            ledger,
            routes,
            queue,
            ops,
            cache,
            metrics,
            payouts: PayoutContext { follower: OnceLock::new(), metrics: payout_metrics, totals },
            untold: Untold::default(),
            simulations: Semaphore::new(1),
            verifying: tokio::sync::Mutex::default(),
        });
        Ok((service, RoutingTasks { committer, ops_refresh, payout_totals }))
    }

    /// Sums over all decisions since the process started.
    pub fn totals(&self) -> DecisionTotals {
        self.metrics.totals()
    }

    /// How many payouts of the route wait for a person; `None` before the ledger was read.
    pub fn held_payouts(&self, route: &ObjectKey) -> Option<u64> {
        self.payouts.totals.held(route)
    }

    /// The rules of a route, with the adjustments, pins and approvals that the ledger holds.
    pub fn rules_of(&self, route: &ObjectKey, resolved: &Arc<ResolvedRoute>) -> Arc<RouteRules> {
        self.cache.rules(route, resolved, &self.ops.current())
    }

    /// The predictions for a connection of the route `key` that hold at `now`; none in mode `Reactive`.
    pub fn predictions_of(
        &self,
        key: &ObjectKey,
        connection: &str,
        resolved: &ResolvedRoute,
        now: Timestamp,
    ) -> Vec<CandidatePrediction> {
        match resolved.rules.mode {
            RouteMode::Reactive => Vec::new(),
            RouteMode::Predictive | RouteMode::Hybrid => {
                self.routes.predictions(&key.sibling(connection), resolved.scorer.as_ref(), now)
            }
        }
    }

    /// The routes whose adjustments, pins, approvals or proposals change from now on.
    pub fn subscribe_changes(&self) -> Arc<KeyQueue<ObjectKey>> {
        self.ops.subscribe()
    }
}
