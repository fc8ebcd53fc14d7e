//! What the parts of the relay share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::broker::Broker;
use super::metrics::RelayMetrics;
use super::topology::{TopologyOptions, TopologyStatus};
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::ledger::delivery::Consumer;

/// Reads of pending events whose events are in memory at once: some thousand events each, however many are pending.
pub(super) const PAGES: usize = 4;

/// The consumers, once they are read.
pub(super) type ConsumerList = Option<Arc<Vec<Consumer>>>;

/// What the parts of the relay share.
pub(super) struct Relay {
    /// The broker.
    pub(super) broker: Arc<dyn Broker>,
    /// The clock.
    pub(super) clock: Clock,
    /// The ledger.
    pub(super) ledger: Arc<dyn Ledger>,
    /// The metrics.
    pub(super) metrics: RelayMetrics,
    /// One permit for each read of pending events.
    pub(super) pages: Semaphore,
    /// Whether the broker's topology is the declared one.
    pub(super) status: TopologyStatus,
    /// Names and limits of the queues.
    pub(super) topology: TopologyOptions,
}
