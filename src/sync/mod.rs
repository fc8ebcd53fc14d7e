//! A sync: one stream of one provider, page by page, into the ledger.
//!
//! [`run`] walks every partition of a [`SyncPlan`]: fetch a page, read it without losing a digit, make canonical
//! records of it, mask them, and commit rows and cursor together. It decides nothing about *when* (that is the
//! controller's) and nothing about *how a call is made* (that is the provider layer's, behind [`Fetch`]). It never
//! holds a transaction while it waits for the provider.
//!
//! - [`plan`]: what to fetch, resolved.
//! - [`cursor`]: windows and how they move.
//! - [`page`]: a body as records and a next page.
//! - [`record`], [`key`], [`mask`]: a record as a row.
//! - `walk`: one partition, window by window, page by page.
//! - [`run()`]: all of them, with deadline and cancellation.
//! - [`report`]: how it ended, in closed words.
//! - [`metrics`]: its numbers.
//!
//! A run that is killed between any two statements loses and doubles nothing: what was committed is found again by the
//! cursor that was committed with it, and a page that is read twice changes no row.

pub mod cursor;
pub mod fetch;
pub mod key;
pub mod mask;
pub mod metrics;
pub mod page;
pub mod plan;
pub mod record;
pub mod report;
mod run;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

pub use fetch::Fetch;
pub use mask::{Mask, MaskRules};
pub use plan::{Limits, Partition, SyncPlan};
pub use report::{RunReason, RunReport};
pub use run::{RunContext, run};
