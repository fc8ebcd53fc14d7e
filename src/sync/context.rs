//! The inputs of a run besides its plan, and the totals it accumulates.

use std::fmt;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::account_tokens::AccountTokens;
use super::fetch::Fetch;
use super::metrics::SyncMetrics;
use super::preview::PreviewSink;
use crate::clock::Clock;
use crate::ledger::runs::RunCounts;
use crate::ledger::{Lease, Ledger, RunId};

/// The dependencies of one run.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// Stores rows and cursors.
    pub ledger: &'a dyn Ledger,
    /// Calls the provider.
    pub fetch: &'a dyn Fetch,
    /// Permits writing; held by the caller.
    pub lease: &'a Lease,
    /// The key of account tokens.
    pub account_tokens: &'a AccountTokens,
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: &'a SyncMetrics,
    /// The run's correlation id.
    pub run: RunId,
    /// Collects what a dry run would write.
    pub preview: Option<&'a PreviewSink>,
    /// Stops the run at the next page boundary; cancels a fetch in flight, never a commit.
    pub cancel: &'a CancellationToken,
}

impl fmt::Debug for RunContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext").field("run", &self.run).field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// Totals of a run so far, over all partitions.
#[derive(Clone, Debug, Default)]
pub(super) struct RunTotals {
    pub(super) counts: RunCounts,
    pub(super) duplicates: u64,
    /// Time that the provider's responses took.
    pub(super) fetch_time: Duration,
    /// What a run that succeeds says all the same.
    pub(super) note: Option<String>,
}
