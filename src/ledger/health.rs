//! Whether the ledger accepts writes, as every write of this process finds it.
//!
//! A fault of the store is not an error of the process: what needs the ledger fails with `unavailable` or waits, and
//! everything else goes on. [`Ledger::ping`](super::store::Ledger::ping) writes, so that a fault and its end are noticed
//! without other writes too.

use tokio::sync::watch;

use super::error::{LedgerError, WriteFault};

/// Whether the ledger accepts writes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum LedgerHealth {
    /// The last write succeeded, or none was attempted.
    #[default]
    Writable,
    /// The last write failed because of this fault.
    Unwritable(WriteFault),
}

impl LedgerHealth {
    /// Whether writes are accepted.
    pub fn is_writable(self) -> bool {
        self == Self::Writable
    }

    /// The fault, if there is one.
    pub fn fault(self) -> Option<WriteFault> {
        match self {
            Self::Writable => None,
            Self::Unwritable(fault) => Some(fault),
        }
    }
}

/// A receiver of the ledger's health: reads the current one, or waits for the next change.
pub type HealthReceiver = watch::Receiver<LedgerHealth>;

/// Records the outcome of each write.
#[derive(Debug, Default)]
pub(super) struct HealthTracker(watch::Sender<LedgerHealth>);

impl HealthTracker {
    /// A receiver of the health.
    pub(super) fn subscribe(&self) -> HealthReceiver {
        self.0.subscribe()
    }

    /// Records the outcome of a write. An error that is not a fault of the store (a lost lease, a statement) says
    /// nothing about the next write.
    pub(super) fn record<T>(&self, outcome: &Result<T, LedgerError>) {
        let health = match outcome {
            Ok(_) => LedgerHealth::Writable,
            Err(error) => match error.write_fault() {
                Some(fault) => LedgerHealth::Unwritable(fault),
                None => return,
            },
        };
        let changed = self.0.send_if_modified(|current| {
            let changed = *current != health;
            *current = health;
            changed
        });
        if changed {
            if let Some(fault) = health.fault() {
                tracing::warn!("ledger not writable: {}; {}; retrying", fault.as_str(), fault.remedy());
            } else {
                tracing::info!("ledger writable again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_the_store_and_successes_change_the_health() {
        let tracker = HealthTracker::default();
        let health = tracker.subscribe();
        let code = |code| Err::<(), _>(LedgerError::failed("testing", sqlite_failure(code)));
        for (outcome, expected) in [
            (Ok(()), LedgerHealth::Writable),
            (code(rusqlite::ffi::SQLITE_FULL), LedgerHealth::Unwritable(WriteFault::Full)),
            (code(rusqlite::ffi::SQLITE_CONSTRAINT), LedgerHealth::Unwritable(WriteFault::Full)),
            (Err(LedgerError::Fenced { name: "job".into() }), LedgerHealth::Unwritable(WriteFault::Full)),
            (code(rusqlite::ffi::SQLITE_IOERR_FSYNC), LedgerHealth::Unwritable(WriteFault::Io)),
            (Ok(()), LedgerHealth::Writable),
            (code(rusqlite::ffi::SQLITE_BUSY), LedgerHealth::Unwritable(WriteFault::Locked)),
        ] {
            tracker.record(&outcome);
            assert_eq!(*health.borrow(), expected, "{outcome:?}");
        }
    }

    fn sqlite_failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
    }
}
