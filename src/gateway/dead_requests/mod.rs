//! `/api/dead-requests`: provider requests that failed and are retried or wait for a manual decision.
//!
//! [`recorder`] stores them when a call fails; the handlers list, replay and delete them. The retries themselves are
//! made by the leader, not here.

pub mod delete;
pub mod list;
mod lookup;
pub mod recorder;
pub mod replay;
pub mod view;
