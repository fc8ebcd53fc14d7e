//! The ledger: durable storage for rows, cursors, runs, leases, dead requests and the audit log.
//!
//! [`Ledger`] is the interface, [`open()`] the only way to one; `sqlite` is the embedded engine, `postgres` the one on a
//! server that replicas share. Both implement the traits and pass the suite in `contract`. Methods are pages,
//! windows and leases, never statements: each atomic unit is one method. An engine never reads a clock (instants are
//! arguments) and never receives an unmasked account number or a raw provider body. [`LeaseHolder`] does read one: it
//! takes and renews a lease for the work that writes under it.
//!
//! Invariant: rows and the cursor that covers them are written in one transaction, which first checks that the writer
//! still holds the lease ([`Lease::fence`]) and expects the stored version ([`CursorState::version`]). A killed, frozen
//! or duplicated process can then neither lose nor duplicate a page.

pub mod audit;
#[cfg(test)]
pub(crate) mod contract;
pub mod credentials;
pub mod dead_requests;
pub mod decisions;
pub mod delivery;
pub mod document;
pub mod encryption;
mod engine;
pub mod epoch;
pub mod error;
#[cfg(test)]
pub(crate) mod faulty;
pub mod health;
pub mod lease;
pub mod lease_holder;
mod migration;
pub mod money_totals;
pub mod open;
pub mod outbox;
pub mod page;
pub mod payouts;
mod postgres;
pub mod probes;
pub mod pruning_lease;
pub mod queries;
pub mod quotas;
pub mod raw;
pub mod record;
pub mod requests;
pub mod runs;
pub mod scores;
pub mod sources;
mod sqlite;
pub mod store;
pub mod transfer;

pub use credentials::{CredentialStore, StoredCredential};
pub use epoch::{EpochStore, LedgerEpoch};
pub use error::{LedgerError, LedgerFuture, WriteFault};
pub use health::{HealthReceiver, LedgerHealth};
pub use lease::{Lease, LeaseOutcome, LeaseStore, StoredLease};
pub use lease_holder::{HeldLease, LeaseHolder, LeaseOptions, TakeOutcome};
pub use open::{LedgerUrl, open};
pub use page::{CommitScope, PageCommit, PageCounts, PageOutcome};
pub use probes::{ProbeResult, StoredProbe};
pub use pruning_lease::PruningLease;
pub use record::{ReplaceIdentity, RowIdentity};
pub use runs::{
    JobHistory, PartitionEnd, PartitionStreak, ResyncEnd, RunEnd, RunId, RunRecord, RunResult, RunStart, RunTrigger,
    UnknownValue,
};
pub use sources::{Erasure, ExistingJobs, KeptRows, SourceAdoption};
pub use store::{Ledger, OpenMode};

pub use crate::domain::cursor::{CursorKey, CursorState, StreamKey, SyncWindow};
pub use crate::domain::document::{DocumentKind, DocumentRecord};
pub use crate::domain::record::{BookingTime, DeadLetter, Granularity, KeyQuality, RowStatus, TransactionRecord};
