//! A sync: one stream of one provider, page by page, into the ledger.
//!
//! [`run()`] walks every partition of a [`SyncPlan`]: it fetches a page, parses it without losing a digit, converts it
//! to canonical records, masks them, and commits rows and cursor together. It does not decide *when* to run (the
//! controller does) or *how a call is made* (the provider layer does, behind [`Fetch`]). It never holds a transaction
//! while it waits for the provider.
//!
//! - [`context`]: what a run needs besides its plan.
//! - [`cursor`]: windows and how they advance the cursor.
//! - [`page`], [`paging`], [`body_text`]: a response body as records and a next page; [`available`]: the range that it covers.
//! - [`record`], [`key`], [`mask`]: a record as a row.
//! - [`account_tokens`], [`account_scope`]: keyed hashes of account numbers.
//! - `partitions`: those of a run.
//! - `walk`: one partition, window by window, page by page.
//! - [`run()`]: all partitions, with deadline and cancellation.
//! - [`report`]: result and reason of a run; `failure_detail`: what its response was.
//! - [`metrics`]: its metrics.
//!
//! A run killed between any two statements neither loses nor duplicates a row: the cursor is committed with the rows it
//! covers, and a page that is read twice changes no row.

pub mod account_scope;
pub mod account_tokens;
pub mod available;
pub mod body_text;
pub mod context;
pub mod convert;
pub mod cursor;
pub mod events;
mod failure_detail;
pub mod fetch;
pub mod key;
pub mod mask;
pub mod metrics;
pub mod page;
pub mod paging;
pub mod partitions;
pub mod preview;
mod raw;
pub mod record;
pub mod replay;
pub mod report;
mod rule_record;
mod run;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

pub use crate::domain::mask::MaskRules;
pub use crate::settings::sync_plan::{
    Partition, PartitionsFromPlan, PlanEndpoint, ResyncPlan, RunLimits, SlaLimits, SyncPlan,
};
pub use context::RunContext;
pub use fetch::Fetch;
pub use report::RunReport;
pub use run::run;
