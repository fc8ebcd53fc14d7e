//! Metrics of routes, built from the store at scrape time, so that they disappear with the route.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector as _;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::reasons::EventReason;
use crate::cluster::events::EventDraft;
use crate::cluster::resource::WatchedResource as _;
use crate::cluster::stores::KindStore;
use crate::domain::key::ObjectKey;
use crate::metrics::info::MetricInfo;
use crate::metrics::{BATCH_SIZE, BatchCollector, Metrics};

const FAILOVERS: (&str, &str) = (
    "busbar_route_failovers_total",
    "Failovers of a route, counted by the leader: the active bank was excluded and another took its place.",
);
const AVAILABLE: (&str, &str) = (
    "busbar_route_available_candidates",
    "Candidates of a route that could take the reference payout; 0 if its spec cannot be used.",
);
const PROPOSAL: (&str, &str) = (
    "busbar_route_proposal_pending",
    "1 while a failover that the forecast proposes waits for approval (mode Hybrid), else 0.",
);
const LABELS: [&str; 2] = ["namespace", "route"];

/// Failovers since the process started, by route. Cloning shares them.
#[derive(Clone, Default)]
pub struct FailoverCounts(Arc<Mutex<HashMap<ObjectKey, u64>>>);

impl FailoverCounts {
    /// Counts the failovers among the events of a written status.
    pub fn count(&self, route: &ObjectKey, events: &[EventDraft]) {
        for _ in events.iter().filter(|event| event.reason == EventReason::FailedOver) {
            *self.lock().entry(route.clone()).or_default() += 1;
        }
    }

    /// The failovers of all routes.
    pub fn total(&self) -> u64 {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Exports the metrics of every route.
pub struct RouteCollector {
    routes: KindStore<BankRoute>,
    failovers: FailoverCounts,
}

impl RouteCollector {
    /// Registers the collector.
    pub fn register(metrics: &Metrics, routes: KindStore<BankRoute>, failovers: FailoverCounts) {
        metrics.batch_collector(Self { routes, failovers });
    }
}

impl BatchCollector for RouteCollector {
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        self.failovers.lock().retain(|route, _| self.routes.get(route).is_some());
        for batch in self.routes.list().chunks(BATCH_SIZE) {
            let Ok(families) = families(batch, &self.failovers) else { return };
            take(families);
        }
    }

    fn describe(&self) -> Vec<MetricInfo> {
        vec![
            MetricInfo::new(MetricType::COUNTER, FAILOVERS.0, FAILOVERS.1, &LABELS),
            MetricInfo::new(MetricType::GAUGE, AVAILABLE.0, AVAILABLE.1, &LABELS),
            MetricInfo::new(MetricType::GAUGE, PROPOSAL.0, PROPOSAL.1, &LABELS),
        ]
    }
}

fn families(routes: &[Arc<BankRoute>], failovers: &FailoverCounts) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let counter = IntCounterVec::new(Opts::new(FAILOVERS.0, FAILOVERS.1), &LABELS)?;
    let gauge = IntGaugeVec::new(Opts::new(AVAILABLE.0, AVAILABLE.1), &LABELS)?;
    let proposals = IntGaugeVec::new(Opts::new(PROPOSAL.0, PROPOSAL.1), &LABELS)?;
    for route in routes {
        let key = route.key();
        let labels = [&*key.namespace, &*key.name];
        // From the start, so that `increase` sees the first one.
        counter.with_label_values(&labels).inc_by(failovers.lock().get(&key).copied().unwrap_or_default());
        let status = route.status.as_ref();
        if let Some(status) = status.filter(|status| status.observed_generation.is_some_and(|seen| seen >= 0)) {
            gauge.with_label_values(&labels).set(status.available_candidates.unwrap_or_default().into());
        }
        let is_pending = status.is_some_and(|status| status.proposal.is_some());
        proposals.with_label_values(&labels).set(is_pending.into());
    }
    Ok([counter.collect(), gauge.collect(), proposals.collect()].concat())
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn route(name: &str, status: &str) -> Arc<BankRoute> {
        let text = format!(
            r#"{{"apiVersion": "busbar.dev/v1alpha1", "kind": "BankRoute", "metadata": {{"name": "{name}", "namespace": "ns"}},
                "spec": {{"referenceCurrency": "EUR", "candidates": []}}, "status": {status}}}"#
        );
        Arc::new(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_route_counts_failovers_from_zero_and_shows_its_available_candidates() {
        let failovers = FailoverCounts::default();
        let failed_over = EventDraft::warning(EventReason::FailedOver, "x".to_owned());
        let failed_back = EventDraft::normal(EventReason::FailedBack, "x".to_owned());
        for events in [vec![failed_over.clone()], vec![failed_back.clone()], vec![failed_over, failed_back], vec![]] {
            failovers.count(&ObjectKey::new("ns", "moved"), &events);
        }
        let routes = [
            route(
                "moved",
                r#"{"observedGeneration": 1, "availableCandidates": 2,
                    "proposal": {"candidate": "b", "untilTime": "2026-03-01T12:00:00Z"}}"#,
            ),
            route("rejected", r#"{"observedGeneration": 3}"#),
            route("new", r#"{"observedGeneration": -1}"#),
        ];
        let text = TextEncoder::new().encode_to_string(&families(&routes, &failovers).unwrap()).unwrap();
        for line in [
            "busbar_route_failovers_total{namespace=\"ns\",route=\"moved\"} 2\n",
            "busbar_route_failovers_total{namespace=\"ns\",route=\"rejected\"} 0\n",
            "busbar_route_failovers_total{namespace=\"ns\",route=\"new\"} 0\n",
            "busbar_route_available_candidates{namespace=\"ns\",route=\"moved\"} 2\n",
            "busbar_route_available_candidates{namespace=\"ns\",route=\"rejected\"} 0\n",
            "busbar_route_proposal_pending{namespace=\"ns\",route=\"moved\"} 1\n",
            "busbar_route_proposal_pending{namespace=\"ns\",route=\"new\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
        assert!(!text.contains("candidates{namespace=\"ns\",route=\"new\"}"), "not evaluated yet: {text}");
    }
}
