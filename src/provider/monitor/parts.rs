//! The parts of a connection that have no outcome: its clock, its metrics, its caches, its bulkhead.

use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::breaker::{CallClass, Permit};
use crate::domain::key::ObjectKey;
use crate::provider::bulkhead_limit::Bulkhead;
use crate::provider::day_quota::DayQuota;
use crate::provider::failure_reason::FailureReason;
use crate::provider::metrics::{ProviderMetrics, ResultCode};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::response_cache::ResponseCache;
use crate::tasks::TaskGroup;
use crate::telemetry::traces::Traces;

impl ConnectionMonitor {
    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Where a call or a token refresh that outlives its caller runs: the shutdown waits for it.
    pub(crate) fn tasks(&self) -> &TaskGroup {
        &self.resources.tasks
    }

    /// Counts daily limits with `day_quota`. Only the first call has an effect.
    pub(crate) fn set_day_quota(&self, day_quota: DayQuota) {
        let _first_wins = self.day_quota.set(Box::new(day_quota));
    }

    /// Where daily limits are counted.
    pub(crate) fn day_quota(&self) -> Option<&DayQuota> {
        self.day_quota.get().map(|day_quota| &**day_quota)
    }

    /// The tracer for its calls.
    pub(crate) fn traces(&self) -> &Traces {
        self.metrics.traces()
    }

    /// The cached responses.
    pub(crate) fn response_cache(&self) -> &ResponseCache {
        let budget = &self.resources.cache_budget;
        self.response_cache.get_or_init(|| ResponseCache::register(Arc::clone(&self.key.namespace), budget))
    }

    pub(crate) fn metrics(&self) -> &ProviderMetrics {
        &self.metrics
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// The limit on its callers' calls in flight.
    pub(crate) fn bulkhead(&self) -> &Bulkhead {
        &self.bulkhead
    }

    /// Returns the permit of a call that the bulkhead rejected, and counts the call: it is no outcome and has no latency.
    pub(crate) fn record_bulkhead_full(&self, class: CallClass, permit: Permit, operation: &Arc<str>) {
        self.record_abandoned(class, permit);
        self.lock().counts.request(operation, ResultCode::Reason(FailureReason::BulkheadFull.as_str()), "refused");
    }
}
