//! Gauges about our objects, built from the stores at scrape time, so that they vanish with the object.

use std::sync::Arc;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::api::v1alpha1::common::Condition;
use crate::cluster::status::Reported;
use crate::cluster::stores::{KindStore, Stores};
use crate::domain::key::ObjectKey;
use crate::metrics::{Metrics, PIECE, Pieces};

/// The gauges `busbar_resource_info` and `busbar_resource_condition`.
pub struct Objects {
    stores: Stores,
}

fn families() -> Result<(IntGaugeVec, IntGaugeVec), prometheus::Error> {
    let info = Opts::new("busbar_resource_info", "1 for every object that Busbar has seen.");
    let condition = Opts::new(
        "busbar_resource_condition",
        "1 for the status that each condition of each object has: True, False or Unknown.",
    );
    Ok((
        IntGaugeVec::new(info, &["kind", "namespace", "name", "suspended"])?,
        IntGaugeVec::new(condition, &["kind", "namespace", "name", "type", "status"])?,
    ))
}

impl Objects {
    /// Registers the gauges.
    pub fn register(metrics: &Metrics, stores: Stores) {
        metrics.pieces(Self { stores });
    }
}

impl Pieces for Objects {
    fn each(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        let Stores { connections, jobs, routes, policies, .. } = &self.stores;
        each(take, connections, |o| (o.spec.suspend, o.status().map(|s| s.conditions.as_slice())));
        each(take, jobs, |o| (o.spec.suspend, o.status().map(|s| s.conditions.as_slice())));
        each(take, routes, |o| (o.spec.suspend, o.status().map(|s| s.conditions.as_slice())));
        each(take, policies, |o| (false, o.status().map(|s| s.conditions.as_slice())));
    }
}

/// How many series name this connection because it is an object.
#[cfg(test)]
pub(crate) fn series_of(object: crate::api::v1alpha1::ProviderConnection) -> usize {
    let (info, condition) = families().expect("names are valid");
    add((&info, &condition), &[Arc::new(object)], &|o: &crate::api::v1alpha1::ProviderConnection| {
        (o.spec.suspend, o.status().map(|s| s.conditions.as_slice()))
    });
    [info.collect(), condition.collect()].concat().iter().map(|family| family.get_metric().len()).sum()
}

fn each<K: Reported>(
    take: &mut dyn FnMut(Vec<MetricFamily>),
    store: &KindStore<K>,
    read: impl Fn(&K) -> (bool, Option<&[Condition]>),
) {
    for some in store.list().chunks(PIECE) {
        let Ok((info, condition)) = families() else { return };
        add((&info, &condition), some, &read);
        take([info.collect(), condition.collect()].concat());
    }
}

fn add<K: Reported>(
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
