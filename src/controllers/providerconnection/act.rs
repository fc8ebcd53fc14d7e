//! Executes the steps of a connection's reconcile on the registry.

use crate::api::v1alpha1::ProviderConnection;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::Ctx;
use crate::controllers::providerconnection::decide::ConnectionStep;
use crate::controllers::providerconnection::observe::ConnectionObservation;

/// Executes `steps`. Applying the current settings again changes nothing.
pub fn act(ctx: &Ctx, object: &ProviderConnection, mut observation: ConnectionObservation, steps: Vec<ConnectionStep>) {
    let key = object.key();
    for step in steps {
        match step {
            ConnectionStep::Apply { circuit, throttled_until } => {
                if let Some(settings) = observation.settings.take() {
                    let uid = object.metadata.uid.as_deref().unwrap_or_default();
                    ctx.registry.apply_restored(&key, uid, settings, circuit.as_ref(), throttled_until);
                    // The object may have been deleted while its Secret was read: its delete event came before this, so
                    // nothing else would stop the connection.
                    let exists =
                        ctx.stores.connections.get(&key).is_some_and(|o| o.metadata.uid == object.metadata.uid);
                    if !exists {
                        drop(ctx.registry.remove(&key));
                    }
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
