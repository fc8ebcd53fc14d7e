//! The steps of a transaction: what can fail.

/// One step of a transaction.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Begin,
    Statement,
    Commit,
    Rollback,
}
