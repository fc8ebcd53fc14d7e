//! Gauges about custom resources, built from the stores at scrape time, so that they disappear with the object.

use std::sync::Arc;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::api::v1alpha1::common::Condition;
use crate::cluster::resource::HasStatus;
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
    }

    fn describe(&self) -> Vec<MetricInfo> {
        ResourceGauges::new().map(|gauges| gauges.describe()).unwrap_or_default()
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

impl ResourceGauges {
    fn new() -> Result<Self, prometheus::Error> {
        let info = Opts::new("busbar_resource_info", "1 for every object that Busbar watches.");
        let condition = Opts::new(
            "busbar_resource_condition",
            "1 for the status that each condition of each object has: True, False or Unknown.",
        );
        Ok(Self {
            info: IntGaugeVec::new(info, &["kind", "namespace", "name", "suspended"])?,
            condition: IntGaugeVec::new(condition, &["kind", "namespace", "name", "type", "status"])?,
        })
    }

    /// Adds `objects`; `read` returns whether one is suspended, and its conditions.
    fn add_objects<K: HasStatus>(&self, objects: &[Arc<K>], read: &impl Fn(&K) -> (bool, Option<&[Condition]>)) {
        for object in objects {
            let ObjectKey { namespace, name } = object.key();
            let kind = K::KIND.as_str();
            let (suspended, conditions) = read(object);
            self.info.with_label_values(&[kind, &*namespace, &*name, if suspended { "true" } else { "false" }]).set(1);
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
