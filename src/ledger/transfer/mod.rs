//! Copies of a whole ledger: backup, restore, and moving to another engine.
//!
//! All of them are one copy of every table from one ledger into an empty one, in one read snapshot of the source and one
//! transaction of the target, which is committed only if each table of it has the rows and the hash of the source's. Tables
//! and columns are found by asking both engines, which use the same names, so a new table is copied without being named
//! here (docs/adr/0025).

mod backup;
pub(super) mod cell;
mod copy;
#[cfg(test)]
mod delivery_tests;
mod digest;
pub(super) mod endpoint;
mod error;
mod summary;
pub(super) mod table;
#[cfg(test)]
mod tests;

pub use backup::{backup, migrate, restore};
pub use error::TransferError;
pub use summary::{Progress, TableSummary, TransferSummary};
