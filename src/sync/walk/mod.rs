//! The walk of one partition: window by window, page by page.
//!
//! Each page is fetched and parsed without holding a lock, then committed together with the position of the next page,
//! which is fetched meanwhile. The high-water mark advances only when a window is complete. An interrupted walk resumes
//! one page before its position where pages are numbered and the provider states no total, because such pages shift when
//! its list changes.
//!
//! - `window`: the pages of one window, to its end.
//! - `opening`: where a window starts, and where it goes on.
//! - `position`: what a page is requested by; `link`: links to a next page, and which of them are followed.
//! - `request`: the provider requests; `account`: that for the account of the records.
//! - `transform`, `parsed_page`: from a response to rows.
//! - `cycle_guard`: ends, cycles and lists that change.
//! - `coverage`: whether the provider could show the range of a window.
//! - `raw_payload`: the response's body, to be stored with the page.
//! - `commit`: the page transaction, beside the request for the next page; `group`: small pages that share one.

use std::sync::Arc;

use super::account_tokens::TokenKey;
use super::context::{RunContext, RunTotals};
use super::cursor;
use super::partitions;
use super::report::RunError;
use crate::domain::cursor::resync_job;
use crate::domain::run_reason::RunReason;
use crate::domain::time::Mono;
use crate::ledger::{CursorKey, CursorState, Granularity, SourceAdoption};
use crate::profile::Stream;
use crate::settings::sync_plan::{CursorHash, Partition, SyncPlan};

mod account;
mod commit;
mod coverage;
mod cycle_guard;
mod group;
mod link;
mod opening;
mod parsed_page;
mod position;
mod preview;
mod raw_payload;
mod request;
mod transform;
mod window;

/// The walk of one partition in one run.
pub(super) struct Walk<'a> {
    plan: &'a SyncPlan,
    partition: &'a Partition,
    cx: &'a RunContext<'a>,
    token_key: &'a TokenKey,
    deadline: Mono,
    cursor_key: CursorKey,
    granularity: Granularity,
    /// The stream with the partition's parameters expanded.
    stream: Arc<Stream>,
    /// Where the pages of a patch stream start: the token that the last complete walk ended with.
    loop_start: Option<String>,
    /// Pages fetched by this run.
    pages: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        plan: &'a SyncPlan,
        partition: &'a Partition,
        cx: &'a RunContext<'a>,
        token_key: &'a TokenKey,
        deadline: Mono,
    ) -> Self {
        let stream = plan.stream.expanded(&partition.parameters);
        let (mut cursor_key, granularity) =
            (cursor::source_key(plan, partition, token_key), cursor::granularity(&stream));
        if plan.resync.is_some() {
            cursor_key.job = resync_job(&cursor_key.job);
        }
        Self { plan, partition, cx, token_key, deadline, cursor_key, granularity, stream, loop_start: None, pages: 0 }
    }

    /// Walks the window that an earlier run left open, if any, then a new one up to now. A list without time windows and
    /// a resync have one.
    pub(super) async fn run(mut self, totals: &mut RunTotals) -> Result<(), RunError> {
        partitions::check(self.plan, self.partition)?;
        let unkeyed = self.plan.cursor_hash(self.partition).map_err(|_| RunReason::ParameterInvalid)?;
        let hash = unkeyed.keyed(|source| self.token_key.digest("source", source));
        if self.plan.resync.is_none() {
            self.adopt_source(&unkeyed, &hash).await?;
        }
        let stored = self.cx.ledger.load_cursor(&self.cursor_key).await.map_err(|e| RunError::from(&e))?;
        let mut state = stored.unwrap_or_default();
        if self.plan.resync.is_some() {
            if !self.resume_resync(&mut state, &hash.text()) {
                return Ok(());
            }
        } else {
            self.resume(&mut state, &unkeyed, &hash)?;
        }
        self.check_limits()?;
        let account = self.account(totals).await?;
        // A list without a time window was read to its end with the one that was open.
        if state.window.is_some() && self.plan.resync.is_none() && self.stream.window.is_some() {
            self.walk_window(&mut state, &account, totals).await?;
        }
        self.walk_window(&mut state, &account, totals).await
    }

    /// Drops what is stored of another source or another paging, and what a clock that was ahead stored.
    fn resume(&self, state: &mut CursorState, unkeyed: &CursorHash, hash: &CursorHash) -> Result<(), RunError> {
        // Stored by a version whose hashes had no key.
        if unkeyed.same_source(&state.spec_hash) {
            state.spec_hash = hash.with_paging_of(&state.spec_hash);
        }
        if !hash.same_source(&state.spec_hash) {
            *state = CursorState { version: state.version, ..CursorState::default() };
        } else if state.spec_hash != hash.text() || self.plan.dry_run {
            state.window = None;
        }
        state.spec_hash = hash.text();
        self.correct_instants(state).map_err(|_| RunReason::CursorUnreadable.into())
    }

    /// Takes over the rows that a version without sources stored for this one.
    async fn adopt_source(&self, unkeyed: &CursorHash, keyed: &CursorHash) -> Result<(), RunError> {
        if self.plan.dry_run || self.plan.source(self.partition).is_none() {
            return Ok(());
        }
        let source_hashes = [keyed.source().to_owned(), unkeyed.source().to_owned()];
        let adoption = SourceAdoption { cursor: &self.cursor_key, source_hashes, lease: self.cx.lease };
        let adopted = self.cx.ledger.adopt_source(&adoption).await.map_err(|error| RunError::from(&error))?;
        if adopted {
            tracing::info!(job = %self.plan.job, "rows stored before streams had sources now belong to the job's source");
        }
        Ok(())
    }

    /// Checks cancellation, deadline and page limit; called only between two pages.
    fn check_limits(&self) -> Result<(), RunError> {
        if self.cx.cancel.is_cancelled() {
            return Err(RunReason::StopRequested.into());
        }
        if self.cx.clock.mono() >= self.deadline {
            return Err(RunReason::RunTimeout.into());
        }
        if self.pages >= self.plan.limits.max_pages {
            return Err(RunReason::PageCapReached.into());
        }
        Ok(())
    }
}
