//! A request that is counted against the limits.

/// A request to admit.
#[derive(Copy, Clone, Debug)]
pub struct QuotaRequest<'a> {
    /// Operation of the request.
    pub operation: &'a str,
    /// Partition of the request; empty is a partition of its own.
    pub partition: &'a str,
    /// Whether this is a money call: it may use the reserve and goes ahead of waiting requests.
    pub money: bool,
    /// Whether the request has waited before (it was added by [`Quota::add_waiter`](super::Quota::add_waiter)).
    pub waited: bool,
}
