//! The walk of one partition: window by window, page by page.
//!
//! Each page is fetched and parsed without holding a lock, then committed together with the position of the next page.
//! The high-water mark advances only when a window is complete. An interrupted walk resumes one page before its
//! position, because numbered pages shift when the provider's list changes.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::account_tokens::TokenKey;
use super::context::{RunContext, RunTotals};
use super::cursor::{self, CursorError};
use super::failure_detail;
use super::metrics::Stage;
use super::paging::NextPage;
use super::record::AccountInfo;
use super::report::RunError;
use crate::domain::run_reason::RunReason;
use crate::domain::time::Mono;
use crate::ledger::{CursorKey, CursorState, Granularity, PageCommit, SourceAdoption, SyncWindow, TransactionRecord};
use crate::profile::{Pagination, Stream};
use crate::settings::sync_plan::{CursorHash, Partition, SyncPlan};

mod cycle_guard;
mod parsed_page;
mod request;
mod transform;

use cycle_guard::{AfterPage, CycleGuard, WalkedPage, record_position, restarted};
use parsed_page::ParsedPage;

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
        let (cursor_key, granularity) = (cursor::source_key(plan, partition, token_key), cursor::granularity(&stream));
        Self { plan, partition, cx, token_key, deadline, cursor_key, granularity, stream, pages: 0 }
    }

    /// Walks the window that an earlier run left open, if any, then a new one up to now.
    pub(super) async fn run(mut self, totals: &mut RunTotals) -> Result<(), RunError> {
        let unkeyed = self.plan.cursor_hash(self.partition).map_err(|_| RunReason::ParameterInvalid)?;
        let hash = unkeyed.keyed(|source| self.token_key.digest("source", source));
        self.adopt_source(&unkeyed, &hash).await?;
        let stored = self.cx.ledger.load_cursor(&self.cursor_key).await.map_err(|e| RunError::from(&e))?;
        let mut state = stored.unwrap_or_default();
        // Stored by a version whose hashes had no key.
        if unkeyed.same_source(&state.spec_hash) {
            state.spec_hash = hash.with_paging_of(&state.spec_hash);
        }
        if !hash.same_source(&state.spec_hash) {
            state.committed_hwm = None;
            state.window = None;
        } else if state.spec_hash != hash.text() || self.plan.dry_run {
            state.window = None;
        }
        state.spec_hash = hash.text();
        self.correct_instants(&mut state).map_err(|_| RunReason::CursorUnreadable)?;
        self.check_limits()?;
        let account = self.account().await?;
        if state.window.is_some() {
            self.walk_window(&mut state, &account, totals).await?;
        }
        self.walk_window(&mut state, &account, totals).await
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

    /// Corrects what was stored while the clock was ahead. A window that reaches into the future is opened anew: its
    /// committed pages are read again and change nothing.
    fn correct_instants(&self, state: &mut CursorState) -> Result<(), CursorError> {
        let now = self.cx.clock.now().wall;
        let committed = state.committed_hwm.take();
        state.committed_hwm = committed.map(|mark| cursor::as_of(mark, now, self.granularity)).transpose()?;
        if let Some(window) = &state.window
            && cursor::is_window_ahead(window, now, self.granularity)?
        {
            state.window = None;
        }
        Ok(())
    }

    /// Walks the open window of `state`, or a new one, to its end.
    async fn walk_window(
        &mut self,
        state: &mut CursorState,
        account: &AccountInfo,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let resumed = state.window.is_some();
        let mut window = match state.window.take() {
            Some(window) => self.rewind_one_page(window),
            None => self.open_window(state)?,
        };
        let numbered = self.stream.pagination.is_numbered();
        let mut guard = CycleGuard::new(&window, resumed, numbered);
        let (mut restarts, mut unstable) = (0, None);
        loop {
            self.check_limits()?;
            let parsed = match self.fetch_page(&window, account, &mut guard, totals).await {
                Err(error) if error.restart && !self.plan.dry_run => {
                    restarts += 1;
                    if restarts > self.plan.limits.max_restarts {
                        return Err(error);
                    }
                    window = restarted(window);
                    guard = CycleGuard::new(&window, false, numbered);
                    continue;
                }
                Err(error) if error.reason == RunReason::EndOfData && !self.plan.dry_run => {
                    // The pages read are committed; no later page is reachable, so the window is closed.
                    self.commit(state, None, &ParsedPage::default(), totals).await?;
                    return Err(error);
                }
                result => result?,
            };
            if self.plan.dry_run {
                return match parsed.next {
                    NextPage::Unreadable => Err(self.no_next_page()),
                    _ => Ok(()),
                };
            }
            let position = self.page_position(&window);
            let page = self.walked(&position, &window, &parsed);
            let (read, total) = (page.read(), page.total());
            let mut changed = unstable.is_none() && guard.list_changed(&window, &parsed);
            // Starting over does not help, as with a total of the records that are left: the rest of the list is read,
            // and said not to be complete. Not with numbers of records without an ID: they would have others now.
            if changed && restarts >= self.plan.limits.max_restarts && !guard.ordinals.is_used() {
                (changed, unstable) = (false, Some(unstable_total(&window, &parsed)));
            }
            let after = if changed { AfterPage::Short } else { guard.after(&page) };
            // A list that changed, or fewer records than the total, is read again: once, if it happens again the
            // provider's total is wrong.
            if changed || (after == AfterPage::Short && restarts == 0) {
                restarts += 1;
                if restarts > self.plan.limits.max_restarts {
                    return Err(RunReason::WindowUnstable.into());
                }
                window = restarted(window);
                guard = CycleGuard::new(&window, false, numbered);
                continue;
            }
            let error = match after {
                AfterPage::Next => {
                    record_position(&mut window, &position);
                    self.advance(&mut window, &parsed)?;
                    window = self.commit_open(state, window, &parsed, totals).await?;
                    continue;
                }
                AfterPage::End | AfterPage::RepeatedEnd | AfterPage::Short if unstable.is_some() => {
                    RunError::from(RunReason::WindowUnstable).with_detail(unstable.unwrap_or_default())
                }
                AfterPage::End => {
                    self.advance(&mut window, &parsed)?;
                    self.complete(state, window)?;
                    return self.commit(state, None, &parsed, totals).await;
                }
                AfterPage::RepeatedEnd => {
                    self.complete(state, window)?;
                    return self.commit(state, None, &ParsedPage::default(), totals).await;
                }
                AfterPage::Short => {
                    let detail = format!("the list ended after {read} of {} records", total.unwrap_or_default());
                    RunError::from(RunReason::TotalNotReached).with_detail(detail)
                }
                AfterPage::Stuck(RunReason::PaginationUnreadable) => self.no_next_page(),
                AfterPage::Stuck(reason) => reason.into(),
                AfterPage::Repeated => RunReason::PaginationCycle.into(),
            };
            // What the page holds is kept. The window is closed, so that the next run starts it over instead of failing
            // at the same page; the mark stays, so that it covers what was not read.
            let is_again = matches!(after, AfterPage::Repeated | AfterPage::RepeatedEnd);
            let kept = if is_again { ParsedPage::default() } else { parsed };
            self.commit(state, None, &kept, totals).await?;
            return Err(error);
        }
    }

    fn no_next_page(&self) -> RunError {
        RunError::from(RunReason::PaginationUnreadable).with_detail(failure_detail::no_next_page(&self.stream))
    }

    fn walked<'w>(&'w self, position: &'w str, window: &'w SyncWindow, parsed: &'w ParsedPage) -> WalkedPage<'w> {
        WalkedPage {
            position,
            window,
            parsed,
            read_before: self.read_before(window, position),
            end_as: &self.stream.end_as,
            size: self.stream.pagination.page_size().map(|(_, size)| size),
            max_empty_pages: self.plan.limits.max_empty_pages,
        }
    }

    /// Moves the high-water mark, because the window is complete.
    fn complete(&self, state: &mut CursorState, mut window: SyncWindow) -> Result<(), RunError> {
        let newest = window.candidate_hwm.take();
        state.committed_hwm = cursor::max_cursor(state.committed_hwm.take(), newest, self.granularity)
            .map_err(|_| RunReason::CursorUnreadable)?;
        Ok(())
    }

    fn open_window(&self, state: &CursorState) -> Result<SyncWindow, RunError> {
        let now = self.cx.clock.now().wall;
        cursor::open_window(&self.stream, state.committed_hwm.as_deref(), self.plan.start, self.plan.lookback, now)
            .map_err(|_| RunReason::CursorUnreadable.into())
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

    /// Fetches and parses one page.
    async fn fetch_page(
        &mut self,
        window: &SyncWindow,
        account: &AccountInfo,
        guard: &mut CycleGuard,
        totals: &mut RunTotals,
    ) -> Result<ParsedPage, RunError> {
        let response = self.call_for_page(self.page_request(window)?).await?;
        self.pages = self.pages.saturating_add(1);
        let began = self.cx.clock.mono();
        let parsed = self.transform(&response, window, account, guard, totals).await;
        self.record_stage(Stage::Transform, began, parsed.as_ref().err());
        parsed
    }

    /// Records of the window before the page at `position`. For offset pagination the offset gives the number, which
    /// stays correct after a page was read twice.
    fn read_before(&self, window: &SyncWindow, position: &str) -> u64 {
        match &self.stream.pagination {
            Pagination::Offset { first, .. } => position.parse::<u64>().unwrap_or(0).saturating_sub(*first),
            _ => window.rows_in,
        }
    }

    /// Advances the window past a page.
    fn advance(&self, window: &mut SyncWindow, parsed: &ParsedPage) -> Result<(), RunError> {
        let unreadable = |_| RunError::from(RunReason::CursorUnreadable);
        let newest = parsed.rows.iter().filter_map(|row| self.cursor_instant(row)).max();
        let newest =
            newest.map(|at| cursor::cap(cursor::format_cursor(at, self.granularity), &window.to, self.granularity));
        let newest = newest.transpose().map_err(unreadable)?;
        window.candidate_hwm =
            cursor::max_cursor(window.candidate_hwm.take(), newest, self.granularity).map_err(unreadable)?;
        window.page_no = window.page_no.saturating_add(1);
        window.page_token = match &parsed.next {
            NextPage::At(position) => Some(position.clone()),
            NextPage::End | NextPage::Unreadable => None,
        };
        window.total = parsed.total.or(window.total);
        window.rows_in += parsed.fetched;
        window.rows_dead += parsed.dead_letters.len() as u64;
        Ok(())
    }

    fn cursor_instant(&self, row: &TransactionRecord) -> Option<Timestamp> {
        match (self.granularity, row.booked.at) {
            (Granularity::Instant, Some(at)) => Some(at),
            _ => row.booked.on.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp()),
        }
    }

    /// Commits a page of an unfinished window, and returns the window.
    async fn commit_open(
        &self,
        state: &mut CursorState,
        window: SyncWindow,
        parsed: &ParsedPage,
        totals: &mut RunTotals,
    ) -> Result<SyncWindow, RunError> {
        self.commit(state, Some(window), parsed, totals).await?;
        // Set by `commit` above.
        state.window.take().ok_or_else(|| RunReason::InternalError.into())
    }

    /// Commits the page: rows and cursor in one transaction.
    async fn commit(
        &self,
        state: &mut CursorState,
        window: Option<SyncWindow>,
        parsed: &ParsedPage,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        state.window = window;
        let began = self.cx.clock.mono();
        let page = PageCommit {
            cursor: &self.cursor_key,
            lease: self.cx.lease,
            run: self.cx.run,
            state,
            rows: &parsed.rows,
            documents: &parsed.documents,
            dead_letters: &parsed.dead_letters,
            fetched: parsed.fetched,
            conflicting: parsed.duplicates.conflicting,
            pages: parsed.pages,
            now: self.cx.clock.now().wall,
        };
        let outcome = self.cx.ledger.commit_page(page).await.map_err(|error| RunError::from(&error));
        self.record_stage(Stage::Persist, began, outcome.as_ref().err());
        let outcome = outcome?;
        state.version = outcome.version;
        let counts = &mut totals.counts;
        counts.fetched += parsed.fetched;
        counts.inserted += outcome.counts.inserted;
        counts.updated += outcome.counts.updated;
        counts.unchanged += outcome.counts.unchanged;
        counts.rejected += parsed.dead_letters.len() as u64;
        counts.pages += parsed.pages;
        counts.conflicting += parsed.duplicates.conflicting;
        totals.duplicates += parsed.duplicates.dropped;
        Ok(())
    }
}

/// What made the walk of a list unstable.
fn unstable_total(window: &SyncWindow, parsed: &ParsedPage) -> String {
    let (before, now) = (window.total.unwrap_or_default(), parsed.total.unwrap_or_default());
    format!("the total fell from {before} to {now}, each time the list was read")
}
