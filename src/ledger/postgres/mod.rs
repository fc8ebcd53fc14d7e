//! The ledger on a PostgreSQL server, shared by replicas: the schema of the embedded one, and the same contract.
//!
//! A write is one transaction on one connection of a bounded pool (docs/adr/0020). What must not happen at the same
//! time is kept apart by locks on the server: a lease's row for every write under it, and advisory locks for the pages
//! of a stream and the runs of a job. A connection on which anything failed is closed, and a COMMIT whose answer is
//! lost is resolved by reading.

mod adopt_source;
mod audit;
mod clock_skew;
mod closing;
mod codec;
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
mod failure;
mod history;
mod identities;
mod lease;
mod migrations;
mod money_totals;
mod outbox;
mod page;
mod partitions;
mod payouts;
mod piece;
mod pool;
mod probes;
mod queries;
mod quotas;
mod raw;
mod read;
mod records;
mod requests;
mod rows;
mod runs;
mod scores;
mod select;
mod server;
mod staging;
mod store;
mod transaction;
pub(super) mod transfer;
pub(super) mod url;

#[cfg(test)]
mod tests;
