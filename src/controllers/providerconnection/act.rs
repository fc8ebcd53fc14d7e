//! Executes the steps of a connection's reconcile on the registry.

use std::sync::Arc;

use kube::ResourceExt as _;

use crate::api::v1alpha1::ProviderConnection;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::Ctx;
use crate::controllers::providerconnection::decide::ConnectionStep;
use crate::controllers::providerconnection::observe::ConnectionObservation;
use crate::provider::restore::Restore;
use crate::settings::Settings;

/// Executes `steps`. Applying the current settings again changes nothing.
pub fn act(ctx: &Ctx, object: &ProviderConnection, mut observation: ConnectionObservation, steps: Vec<ConnectionStep>) {
    let key = object.key();
    for step in steps {
        match step {
            ConnectionStep::Apply { circuit, throttled_until, ever_healthy, unhealthy } => {
                if let Some(settings) = observation.settings.take() {
                    apply(ctx, object, settings, Restore { circuit, throttled_until, ever_healthy, unhealthy });
                }
            }
            ConnectionStep::RestoreRisk(tier) => {
                if let Some(live) = ctx.registry.get(&key) {
                    live.restore_risk(tier);
                }
            }
            ConnectionStep::Remove => drop(ctx.registry.remove(&key)),
            ConnectionStep::Probe => ctx.prober.probe_now(&key),
        }
    }
}

/// Puts `settings` in force for `object`, unless it was deleted meanwhile.
pub fn apply(ctx: &Ctx, object: &ProviderConnection, settings: Arc<Settings>, restore: Restore) {
    let (key, uid) = (object.key(), object.uid().unwrap_or_default());
    ctx.registry.apply(&key, &uid, settings, Some(restore));
    // The object may have been deleted while its Secret was read: its end was reported before this, so nothing else would
    // stop the connection.
    let exists = ctx.stores.connections.get(&key).is_some_and(|stored| stored.uid() == object.uid());
    if !exists {
        drop(ctx.registry.remove_object(&key, &uid));
    }
}
