//! What the decision service keeps for payouts.

use std::sync::{Arc, OnceLock};

use crate::provider::payouts::{PayoutFollower, PayoutMetrics};
use crate::routing::payouts::totals::PayoutTotals;

/// What the decision service keeps for payouts.
pub(crate) struct PayoutContext {
    /// Carries out what follows from acts; unset: that is left to the clock.
    pub(crate) follower: OnceLock<Arc<dyn PayoutFollower>>,
    pub(crate) metrics: PayoutMetrics,
    pub(crate) totals: Arc<PayoutTotals>,
}
