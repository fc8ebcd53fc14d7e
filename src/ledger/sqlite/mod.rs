//! The embedded ledger: one SQLite file, one writer, a few readers.
//!
//! Writes go through one thread with one connection and `BEGIN IMMEDIATE`, so that no transaction fails on a lock
//! upgrade and commits happen in call order. The journal is a WAL, flushed at each commit (`synchronous=FULL`): a page
//! reported as committed survives a power failure. Readers use threads and read-only connections of their own and never
//! wait for the writer. A connection on which anything failed is replaced (docs/adr/0011).

mod adopt_source;
mod audit;
mod clock_skew;
#[cfg(test)]
mod clock_skew_tests;
mod closing;
mod codec;
mod connection;
mod credentials;
mod cursor;
pub(super) mod database;
mod dead_letters;
mod dead_requests;
mod decisions;
mod delete_job;
mod delivery;
mod documents;
mod epoch;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod full_volume_tests;
mod identities;
mod lease;
mod migrations;
mod money_totals;
mod outbox;
mod owned_page;
mod page;
mod partitions;
mod payouts;
mod piece;
mod probes;
mod queries;
mod quotas;
mod raw;
mod read;
mod records;
mod requests;
mod rows;
#[cfg(test)]
mod rows_tests;
mod runs;
mod scores;
mod staging;
mod step;
mod store;
#[cfg(test)]
mod tests;
pub(super) mod transfer;
mod worker;
