//! What the calls of all connections of a registry share: tasks, limits and memory.

use std::sync::Arc;

use crate::provider::cache_budget::CacheBudget;
use crate::provider::memory::MemoryBudget;
use crate::tasks::TaskGroup;

/// The shared resources. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct CallResources {
    /// Where what outlives its caller runs.
    pub(crate) tasks: TaskGroup,
    /// Calls of one connection's callers that may be in flight.
    pub(crate) bulkhead_limit: usize,
    /// The memory of the response caches.
    pub(crate) cache_budget: Arc<CacheBudget>,
    /// The memory of responses.
    pub(crate) memory: MemoryBudget,
}
