//! The bulkhead of the connection, and the calls that it rejects.

use std::sync::Arc;

use crate::domain::breaker::{CallClass, Permit};
use crate::provider::bulkhead_limit::Bulkhead;
use crate::provider::failure_reason::FailureReason;
use crate::provider::metrics::ResultCode;
use crate::provider::monitor::ConnectionMonitor;

impl ConnectionMonitor {
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
