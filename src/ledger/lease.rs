//! Leases: exclusive write permission with a fencing number.

use jiff::Timestamp;

/// A held lease: permits writing until another holder acquires it with a higher fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Name of the guarded resource.
    pub name: String,
    /// Identity of the holder.
    pub holder: String,
    /// Fencing number: increases with every acquisition, checked inside each page transaction.
    pub fence: i64,
    /// When other holders may acquire it.
    pub expires: Timestamp,
}

/// A lease as stored, seen by a process that does not hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLease {
    /// Identity of the holder.
    pub holder: String,
    /// Its fencing number.
    pub fence: i64,
    /// When it expires, by the holder's wall clock.
    pub expires: Timestamp,
}
