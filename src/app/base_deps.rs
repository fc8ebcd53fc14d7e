//! What the process opens before it connects to the API server, for what is wired of it.

use std::sync::Arc;

use crate::admin::gates::Gates;
use crate::cli::RunArgs;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::profile::Profiles;
use crate::tasks::TaskGroups;
use crate::telemetry::traces::Traces;

/// What the process opened before it connected to the API server.
pub(super) struct BaseDeps<'a> {
    pub(super) args: &'a RunArgs,
    pub(super) clock: Clock,
    pub(super) metrics: &'a Metrics,
    pub(super) gates: &'a Gates,
    pub(super) traces: Traces,
    pub(super) tasks: TaskGroups,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) profiles: Arc<Profiles>,
}
