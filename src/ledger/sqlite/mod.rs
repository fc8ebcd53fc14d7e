//! The embedded ledger: one SQLite file, one writer, a few readers.
//!
//! Writes go through a pool of a single connection and `BEGIN IMMEDIATE`, so that no transaction fails on a lock
//! upgrade and commits happen in call order. The journal is a WAL, flushed at each commit (`synchronous=FULL`): a page
//! reported as committed survives a power failure. Readers use separate read-only connections and never wait for the
//! writer.

mod audit;
mod codec;
mod credentials;
mod cursor;
pub(super) mod database;
mod dead_requests;
mod delete_job;
mod documents;
mod lease;
mod page;
mod probes;
mod read;
mod runs;
mod store;
#[cfg(test)]
mod tests;
mod upsert;
