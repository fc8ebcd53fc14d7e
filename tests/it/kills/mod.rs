//! `busbar sync` processes that are killed, frozen or cut off from their ledger: whatever happens to them, the rows, amounts
//! and events in the end are those of a process that nothing happened to.
//!
//! `make soak ARGS=kills` kills 500 times for each ledger; `KILLS` and `KILLS_SEED` choose the number and the seed here.

mod commit_proxy;
mod commits;
pub(crate) mod env;
mod frozen;
mod oracle;
mod random;
