//! Gauges about custom resources, built from the stores at scrape time, so that they disappear with the object.

use std::sync::Arc;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::api::v1alpha1::common::Condition;
use crate::cluster::resource::HasStatus;
use crate::cluster::stores::{KindStore, Stores};
use crate::domain::key::ObjectKey;
use crate::metrics::{BATCH_SIZE, BatchCollector, Metrics};

/// The gauges `busbar_resource_info` and `busbar_resource_condition`.
pub struct ResourceCollector {
    stores: Stores,
}

fn families() -> Result<(IntGaugeVec, IntGaugeVec), prometheus::Error> {
    let info = Opts::new("busbar_resource_info", "1 for every object that Busbar watches.");
    let condition = Opts::new(
        "busbar_resource_condition",
        "1 for the status that each condition of each object has: True, False or Unknown.",
    );
    Ok((
        IntGaugeVec::new(info, &["kind", "namespace", "name", "suspended"])?,
        IntGaugeVec::new(condition, &["kind", "namespace", "name", "type", "status"])?,
    ))
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
}

/// Number of series that this collector exports for one connection.
#[cfg(test)]
pub(crate) fn series_count(object: crate::api::v1alpha1::ProviderConnection) -> usize {
    let (info, condition) = families().expect("names are valid");
    add_objects((&info, &condition), &[Arc::new(object)], &|o: &crate::api::v1alpha1::ProviderConnection| {
        (o.spec.suspend, o.status().map(|s| s.conditions.as_slice()))
    });
    [info.collect(), condition.collect()].concat().iter().map(|family| family.get_metric().len()).sum()
}

fn collect_kind<K: HasStatus>(
    take: &mut dyn FnMut(Vec<MetricFamily>),
    store: &KindStore<K>,
    read: impl Fn(&K) -> (bool, Option<&[Condition]>),
) {
    for chunk in store.list().chunks(BATCH_SIZE) {
        let Ok((info, condition)) = families() else { return };
        add_objects((&info, &condition), chunk, &read);
        take([info.collect(), condition.collect()].concat());
    }
}

fn add_objects<K: HasStatus>(
    (info, condition): (&IntGaugeVec, &IntGaugeVec),
    objects: &[Arc<K>],
    read: &impl Fn(&K) -> (bool, Option<&[Condition]>),
) {
    for object in objects {
        let ObjectKey { namespace, name } = object.key();
        let kind = K::KIND.as_str();
        let (suspended, conditions) = read(object);
        info.with_label_values(&[kind, &*namespace, &*name, if suspended { "true" } else { "false" }]).set(1);
        for c in conditions.unwrap_or_default() {
            condition.with_label_values(&[kind, &*namespace, &*name, c.type_.as_str(), c.status.as_str()]).set(1);
        }
    }
}
