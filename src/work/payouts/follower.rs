//! Carries out what follows from the acts of people and submitters, on the replica that stored them.

use std::sync::Arc;

use tokio::sync::Notify;

use super::effects::{EffectRunner, PayoutDeps};
use super::metrics::FollowMetrics;
use crate::domain::payout::{Effect, Payout};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::payouts::PayoutFollower;
use crate::tasks::TaskGroup;

/// Carries out effects in the background. Clones share everything, with the payout clock too.
#[derive(Clone)]
pub struct Follower {
    pub(super) runner: EffectRunner,
    pub(super) wakeup: Arc<Notify>,
    tasks: TaskGroup,
}

impl Follower {
    /// A follower. Registers its metrics.
    pub fn new(deps: PayoutDeps, metrics: &Metrics) -> Result<Self, MetricsError> {
        let tasks = deps.tasks.clone();
        let runner = EffectRunner::new(deps, FollowMetrics::new(metrics)?);
        Ok(Self { runner, wakeup: Arc::default(), tasks })
    }
}

impl PayoutFollower for Follower {
    fn follow(&self, payout: &Payout, effects: &[Effect]) {
        // The act may have made something due.
        self.wakeup.notify_one();
        let stored = |effect: &Effect| matches!(effect, Effect::Freeze | Effect::Emit(_) | Effect::Audit);
        let effects: Vec<Effect> = effects.iter().filter(|effect| !stored(effect)).cloned().collect();
        if effects.is_empty() {
            return;
        }
        let (runner, payout, wakeup) = (self.runner.clone(), payout.clone(), Arc::clone(&self.wakeup));
        // A person asked for it, with or without a lease: the payout's own version guards what is stored.
        self.tasks.spawn("payout effects", async move {
            runner.run(payout, effects, &|| true).await;
            wakeup.notify_one();
        });
    }
}
