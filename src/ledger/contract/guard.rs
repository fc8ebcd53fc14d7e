//! What keeps the write of a process that was replaced from doing harm.

/// What guards a write against one of a process that was replaced.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A lease, whose fence is checked in the transaction.
    Lease,
    /// It takes effect only on rows that are in the expected state or have the expected id.
    State,
    /// It only adds.
    Addition,
}
