//! Gauges about custom resources, built from the stores at scrape time, so that they disappear with the object.

use std::sync::Arc;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::Condition;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::cluster::resource::{HasStatus, WatchedResource as _};
use crate::cluster::stores::{KindStore, Stores};
use crate::domain::key::ObjectKey;
use crate::metrics::info::MetricInfo;
use crate::metrics::{BATCH_SIZE, BatchCollector, Metrics};

/// The gauges `busbar_resource_info` and `busbar_resource_condition`.
pub struct ResourceCollector {
    stores: Stores,
}

/// The gauges of one batch of objects.
struct ResourceGauges {
    info: IntGaugeVec,
    condition: IntGaugeVec,
}

impl ResourceCollector {
    /// Registers the collector.
    pub fn register(metrics: &Metrics, stores: Stores) {
        metrics.batch_collector(Self { stores });
    }
}

impl BatchCollector for ResourceCollector {
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        let Stores { connections, jobs, routes, policies, .. } = &self.stores;
        collect_kind(take, connections, |o| (o.spec.suspend, o.status().map(|s| s.conditions.as_slice())));
        collect_kind(take, jobs, |o| (o.spec.suspend, o.status().map(|s| s.conditions.as_slice())));
        collect_kind(take, routes, |o| (o.spec.suspend, o.status().map(|s| s.conditions.as_slice())));
        collect_kind(take, policies, |o| (false, o.status().map(|s| s.conditions.as_slice())));
        collect_dry_runs(take, &jobs.list());
    }

    fn describe(&self) -> Vec<MetricInfo> {
        let gauges = ResourceGauges::new().map(|gauges| gauges.describe()).unwrap_or_default();
        gauges.into_iter().chain(dry_runs().iter().flat_map(|gauge| MetricInfo::of(gauge))).collect()
    }
}

/// The jobs with `dryRun`: a synthetic fetch, whose failures are urgent although no data becomes stale.
fn dry_runs() -> Result<IntGaugeVec, prometheus::Error> {
    let opts =
        Opts::new("busbar_sync_dry_run", "1 for every SyncJob that writes nothing (spec.dryRun): a synthetic fetch.");
    IntGaugeVec::new(opts, &["namespace", "syncjob"])
}

fn collect_dry_runs(take: &mut dyn FnMut(Vec<MetricFamily>), jobs: &[Arc<SyncJob>]) {
    let Ok(gauge) = dry_runs() else { return };
    let mut any = false;
    for job in jobs.iter().filter(|job| job.spec.dry_run) {
        let ObjectKey { namespace, name } = job.key();
        gauge.with_label_values(&[&*namespace, &*name]).set(1);
        any = true;
    }
    // A family without series cannot be encoded.
    if any {
        take(gauge.collect());
    }
}

/// Number of series that this collector exports for one connection.
#[cfg(test)]
pub(crate) fn series_count(object: crate::api::v1alpha1::ProviderConnection) -> usize {
    let gauges = ResourceGauges::new().expect("names are valid");
    gauges.add_objects(&[Arc::new(object)], &|o: &crate::api::v1alpha1::ProviderConnection| {
        (o.spec.suspend, o.status().map(|s| s.conditions.as_slice()))
    });
    gauges.collect().iter().map(|family| family.get_metric().len()).sum()
}

fn collect_kind<K: HasStatus>(
    take: &mut dyn FnMut(Vec<MetricFamily>),
    store: &KindStore<K>,
    read: impl Fn(&K) -> (bool, Option<&[Condition]>),
) {
    for chunk in store.list().chunks(BATCH_SIZE) {
        let Ok(gauges) = ResourceGauges::new() else { return };
        gauges.add_objects(chunk, &read);
        take(gauges.collect());
    }
}

/// Whether the condition says that the connection is in a maintenance window, in which no alert is to be raised.
fn is_maintenance(condition: &Condition) -> bool {
    condition.type_ == ConditionType::Healthy.as_str() && condition.reason == Reason::Maintenance.as_str()
}

fn flag(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

impl ResourceGauges {
    fn new() -> Result<Self, prometheus::Error> {
        let info = Opts::new(
            "busbar_resource_info",
            "1 for every object that Busbar watches; whether it is suspended, and whether its connection is in maintenance.",
        );
        let condition = Opts::new(
            "busbar_resource_condition",
            "1 for the status that each condition of each object has: True, False or Unknown.",
        );
        Ok(Self {
            info: IntGaugeVec::new(info, &["kind", "namespace", "name", "suspended", "maintenance"])?,
            condition: IntGaugeVec::new(condition, &["kind", "namespace", "name", "type", "status"])?,
        })
    }

    /// Adds `objects`; `read` returns whether one is suspended, and its conditions.
    fn add_objects<K: HasStatus>(&self, objects: &[Arc<K>], read: &impl Fn(&K) -> (bool, Option<&[Condition]>)) {
        for object in objects {
            let ObjectKey { namespace, name } = object.key();
            let kind = K::KIND.as_str();
            let (suspended, conditions) = read(object);
            let maintenance = conditions.unwrap_or_default().iter().any(is_maintenance);
            self.info.with_label_values(&[kind, &*namespace, &*name, flag(suspended), flag(maintenance)]).set(1);
            for c in conditions.unwrap_or_default() {
                let labels = [kind, &*namespace, &*name, c.type_.as_str(), c.status.as_str()];
                self.condition.with_label_values(&labels).set(1);
            }
        }
    }

    fn describe(&self) -> Vec<MetricInfo> {
        [MetricInfo::of(&self.info), MetricInfo::of(&self.condition)].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        [self.info.collect(), self.condition.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::api::v1alpha1::ProviderConnection;

    #[test]
    fn an_object_says_whether_it_is_suspended_or_in_maintenance() {
        let connection = |name: &str, suspend: bool, reason: &str| -> Arc<ProviderConnection> {
            let text = format!(
                r#"{{"metadata": {{"name": "{name}", "namespace": "ns"}},
                    "spec": {{"provider": "acme", "environment": "Sandbox", "suspend": {suspend}}},
                    "status": {{"conditions": [{{"type": "Healthy", "status": "Unknown", "reason": "{reason}", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}}]}}}}"#
            );
            Arc::new(serde_json::from_str(&text).unwrap())
        };
        let gauges = ResourceGauges::new().unwrap();
        let all = [
            connection("checked", false, "NotChecked"),
            connection("maintained", false, "Maintenance"),
            connection("suspended", true, "NotChecked"),
        ];
        gauges
            .add_objects(&all, &|o: &ProviderConnection| (o.spec.suspend, o.status().map(|s| s.conditions.as_slice())));
        let text = TextEncoder::new().encode_to_string(&gauges.collect()).unwrap();
        for (name, maintenance, suspended) in
            [("checked", false, false), ("maintained", true, false), ("suspended", false, true)]
        {
            let line = format!(
                "busbar_resource_info{{kind=\"ProviderConnection\",maintenance=\"{maintenance}\",name=\"{name}\",\
                 namespace=\"ns\",suspended=\"{suspended}\"}} 1\n"
            );
            assert!(text.contains(&line), "{line} {text}");
        }
    }
}
