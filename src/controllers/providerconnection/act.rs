//! Brings the registry to what was decided.

use kube::ResourceExt as _;

use crate::api::v1alpha1::ProviderConnection;
use crate::cluster::stores::Watched as _;
use crate::controllers::Ctx;
use crate::controllers::providerconnection::decide::Step;
use crate::controllers::providerconnection::observe::Seen;

/// Does the steps. Applying settings that are in force already changes nothing.
pub fn act(ctx: &Ctx, object: &ProviderConnection, mut observed: Seen, steps: Vec<Step>) {
    let key = object.key();
    for step in steps {
        match step {
            Step::Apply(restore, paused_until) => {
                if let Some(settings) = observed.settings.take() {
                    let uid = object.uid().unwrap_or_default();
                    ctx.registry.start(&key, &uid, settings, restore.as_ref(), paused_until);
                    // The object may have gone while its Secret was read: then the word of its end came before this, and
                    // nobody else would end what has just begun.
                    let there = ctx.stores.connections.get(&key).is_some_and(|o| o.uid() == object.uid());
                    if !there {
                        drop(ctx.registry.remove(&key));
                    }
                }
            }
            Step::Recall(tier) => {
                if let Some(live) = ctx.registry.get(&key) {
                    live.recall(tier);
                }
            }
            Step::Remove => drop(ctx.registry.remove(&key)),
            Step::Probe => ctx.prober.probe_now(&key),
        }
    }
}
