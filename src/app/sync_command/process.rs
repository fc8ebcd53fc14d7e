//! What a run in a process of its own needs besides its job.

use crate::app::identity::default_identity;
use crate::clock::Clock;
use crate::ledger::encryption::Keyring;
use crate::metrics::{Metrics, MetricsError};
use crate::tasks::TaskGroups;

/// What a run in this process needs besides its job.
pub(super) struct SyncProcess {
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) tasks: TaskGroups,
    pub(super) keys: Keyring,
    pub(super) identity: String,
}

impl SyncProcess {
    /// Without a name, a generated one.
    pub(super) fn new(identity: Option<String>, keys: Keyring) -> Result<Self, MetricsError> {
        let metrics = Metrics::new();
        let tasks = TaskGroups::new(&metrics)?;
        let identity = identity.unwrap_or_else(default_identity);
        Ok(Self { clock: Clock::system(), metrics, tasks, keys, identity })
    }
}
