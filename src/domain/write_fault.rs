//! Why a store cannot be written.

/// A fault of a store, which ends without a change of Busbar or of a spec.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum WriteFault {
    /// The volume, or a quota, is full.
    Full,
    /// The file or its volume is read-only.
    ReadOnly,
    /// Reading or writing the volume failed.
    Io,
    /// The file cannot be opened.
    CannotOpen,
    /// The file is damaged.
    Damaged,
    /// Another process holds the file's lock.
    Locked,
    /// Not enough memory.
    OutOfMemory,
    /// The database server cannot be reached, or ended the connection.
    Unreachable,
    /// The database server refused the credentials or a right.
    Unauthorized,
    /// TLS with the database server failed, such as for its certificate.
    Untrusted,
    /// The database server is a standby, or was made read-only.
    ServerReadOnly,
    /// The database server did not answer a statement in time.
    TimedOut,
}

impl WriteFault {
    /// All faults.
    pub const ALL: [Self; 12] = [
        Self::Full,
        Self::ReadOnly,
        Self::Io,
        Self::CannotOpen,
        Self::Damaged,
        Self::Locked,
        Self::OutOfMemory,
        Self::Unreachable,
        Self::Unauthorized,
        Self::Untrusted,
        Self::ServerReadOnly,
        Self::TimedOut,
    ];

    /// The fault, as the cause in a message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "disk full",
            Self::ReadOnly => "read-only file or volume",
            Self::Io => "I/O error",
            Self::CannotOpen => "file cannot be opened",
            Self::Damaged => "file damaged",
            Self::Locked => "locked by another process",
            Self::OutOfMemory => "out of memory",
            Self::Unreachable => "database server not reachable",
            Self::Unauthorized => "database server refused the user",
            Self::Untrusted => "TLS with the database server failed",
            Self::ServerReadOnly => "database server is read-only",
            Self::TimedOut => "database server timed out",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Full => "free or enlarge the volume of --ledger",
            Self::ReadOnly | Self::CannotOpen => "check the permissions and the mount of the volume of --ledger",
            Self::Io => "check the volume of --ledger and its node",
            Self::Damaged => "restore the ledger from a backup",
            Self::Locked => "end the other process that writes to --ledger",
            Self::OutOfMemory => "raise the memory limit",
            Self::Unreachable => "check the database server of --ledger and the network to it",
            Self::Unauthorized => "check --ledger-password-file and the user's rights in the database of --ledger",
            Self::Untrusted => "check sslmode and sslrootcert of --ledger and the certificate of the database server",
            Self::ServerReadOnly => "connect --ledger to the primary server",
            Self::TimedOut => "check the load and the locks of the database server of --ledger",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_fault_has_a_text_of_its_own_and_a_remedy() {
        let texts: HashSet<_> = WriteFault::ALL.into_iter().map(WriteFault::as_str).collect();
        assert_eq!(texts.len(), WriteFault::ALL.len());
        assert!(WriteFault::ALL.into_iter().all(|fault| !fault.remedy().is_empty()));
    }
}
