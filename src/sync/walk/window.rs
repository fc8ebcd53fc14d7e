//! The pages of one window, to its end.

use super::Walk;
use super::cycle_guard::{AfterPage, CycleGuard, WalkedPage, record_position, restarted};
use super::group::PageGroup;
use super::parsed_page::{PageFailure, ParsedPage};
use super::position::is_refused_place;
use crate::domain::cursor::{CursorState, SyncWindow};
use crate::domain::run_reason::RunReason;
use crate::ledger::CommitScope;
use crate::sync::available::Available;
use crate::sync::context::RunTotals;
use crate::sync::cursor;
use crate::sync::failure_detail;
use crate::sync::paging::NextPage;
use crate::sync::record::AccountInfo;
use crate::sync::report::RunError;

/// The walk of one window: where it is, and what is known of its list.
pub(super) struct OpenWindow {
    pub(super) window: SyncWindow,
    pub(super) guard: CycleGuard,
    /// Times that the list was read from its start again.
    restarts: u32,
    /// What made the list unstable, once reading it again does not help.
    unstable: Option<String>,
    /// Whether no page of this run was read since an earlier run left the window: the provider may refuse its place.
    at_stored_place: bool,
    /// The cursor value of the page that was read last that is furthest from the window's start in the stream's order.
    reached: Option<String>,
    /// The range that the provider says it can show.
    pub(super) available: Available,
    /// Whether it is the first window of its stream, or that of a resync: all of its range is wanted.
    pub(super) is_first: bool,
    /// Pages that were read and are not committed.
    pub(super) group: PageGroup,
    /// The page after the last one of the group, if it was fetched already.
    pub(super) fetched: Option<Result<ParsedPage, PageFailure>>,
}

impl OpenWindow {
    fn new(window: SyncWindow, resumed: bool, numbered: bool) -> Self {
        let guard = CycleGuard::new(&window, resumed, numbered);
        let at_stored_place = resumed && window.page_token.is_some();
        Self {
            window,
            guard,
            restarts: 0,
            unstable: None,
            at_stored_place,
            reached: None,
            available: Available::default(),
            is_first: false,
            group: PageGroup::default(),
            fetched: None,
        }
    }

    /// Starts at the first page again, which is read with another guard.
    fn restart(&mut self, numbered: bool, drops_staged: bool) {
        self.window = restarted(self.window.clone(), drops_staged);
        self.guard = CycleGuard::new(&self.window, false, numbered);
        (self.at_stored_place, self.reached) = (false, None);
        self.restarts += 1;
    }
}

/// What follows the error of a page.
enum AfterError {
    /// The window is read from its start, or from where it was split.
    Again,
    /// The walk ends.
    End(RunError),
}

impl Walk<'_> {
    /// Walks the open window of `state`, or a new one, to its end.
    pub(super) async fn walk_window(
        &mut self,
        state: &mut CursorState,
        account: &AccountInfo,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let numbered = self.stream.pagination.is_numbered();
        let is_first = state.committed_hwm.is_none();
        let (window, resumed) = self.take_window(state)?;
        let mut open = OpenWindow { is_first, ..OpenWindow::new(window, resumed, numbered) };
        loop {
            let parsed = match self.next_page(&mut open, account).await {
                Ok(parsed) => parsed,
                Err(failure) => {
                    totals.fetch_time += failure.took;
                    totals.counts.fetched += failure.fetched;
                    totals.counts.rejected += failure.rejected;
                    self.commit_group(state, &mut open.group, totals).await?;
                    match self.after_error(failure.error, state, &mut open, totals).await? {
                        AfterError::Again => continue,
                        AfterError::End(error) => return Err(error),
                    }
                }
            };
            totals.fetch_time += parsed.took;
            open.at_stored_place = false;
            open.available = parsed.available.or(open.available);
            if self.plan.dry_run {
                self.preview(state, &parsed).await?;
                return self.after_dry_page(&parsed, totals);
            }
            let position = self.page_position(&open.window);
            let page = self.walked(&position, &open.window, &parsed);
            let (read, total) = (page.read(), page.total());
            let mut changed = open.unstable.is_none() && open.guard.list_changed(&open.window, &parsed);
            // Starting over does not help, as with a total of the records that are left: the rest of the list is read,
            // and said not to be complete. Not with numbers of records without an ID: they would have others now.
            if changed && open.restarts >= self.plan.limits.max_restarts && !open.guard.ordinals.is_used() {
                (changed, open.unstable) = (false, Some(unstable_total(&open.window, &parsed)));
            }
            let after = if changed { AfterPage::Short } else { open.guard.after(&page) };
            // A list that changed, or fewer records than the total, is read again: once, if it happens again the
            // provider's total is wrong.
            if changed || (after == AfterPage::Short && open.restarts == 0) {
                self.commit_group(state, &mut open.group, totals).await?;
                open.restart(numbered, self.stream.is_patch());
                if open.restarts > self.plan.limits.max_restarts {
                    return Err(RunReason::WindowUnstable.into());
                }
                continue;
            }
            let error = match after {
                AfterPage::Next => {
                    record_position(&mut open.window, &position);
                    self.advance(&mut open, &parsed)?;
                    self.go_on(state, &mut open, parsed, account, totals).await?;
                    continue;
                }
                AfterPage::End | AfterPage::RepeatedEnd | AfterPage::Short if open.unstable.is_some() => {
                    RunError::from(RunReason::WindowUnstable).with_detail(open.unstable.take().unwrap_or_default())
                }
                AfterPage::End if self.is_not_ready(&parsed) => {
                    self.abandon(state, &mut open, ParsedPage::default(), totals).await?;
                    return Err(RunReason::DataNotReady.into());
                }
                AfterPage::End => {
                    self.advance(&mut open, &parsed)?;
                    // A window of one page has staged nothing.
                    let scope = if open.window.page_no > 1 { CommitScope::Merge } else { CommitScope::Page };
                    let covered = self.check_coverage(&open, totals);
                    self.finish(state, open, parsed, scope, totals).await?;
                    return covered;
                }
                AfterPage::RepeatedEnd => {
                    // The page that is repeated is staged, also if it is the only one.
                    let covered = self.check_coverage(&open, totals);
                    self.finish(state, open, ParsedPage::default(), CommitScope::Merge, totals).await?;
                    return covered;
                }
                AfterPage::Short => {
                    let detail = format!("the list ended after {read} of {} records", total.unwrap_or_default());
                    RunError::from(RunReason::TotalNotReached).with_detail(detail)
                }
                AfterPage::Stuck(RunReason::PaginationUnreadable) => self.no_next_page(&parsed),
                AfterPage::Stuck(reason) => reason.into(),
                AfterPage::Repeated => RunReason::PaginationCycle.into(),
            };
            // What the page holds is kept. The window is closed, so that the next run starts it over instead of failing
            // at the same page; the mark stays, so that it covers what was not read.
            let kept = if open.guard.is_read_again(after) { ParsedPage::default() } else { parsed };
            self.abandon(state, &mut open, kept, totals).await?;
            return Err(error);
        }
    }

    /// The next page: the one that was fetched while the page before it was committed, or a new request.
    async fn next_page(&mut self, open: &mut OpenWindow, account: &AccountInfo) -> Result<ParsedPage, PageFailure> {
        if let Some(fetched) = open.fetched.take() {
            self.pages = self.pages.saturating_add(1);
            return fetched;
        }
        self.check_limits()?;
        self.pages = self.pages.saturating_add(1);
        self.fetch_page(&open.window, account, &mut open.guard.ordinals).await
    }

    /// What follows the error of a page: a walk from the window's start, if the provider asks for one or refuses the
    /// place where an earlier run stopped; of a list that is too deep, the rest; else the end.
    async fn after_error(
        &mut self,
        error: RunError,
        state: &mut CursorState,
        open: &mut OpenWindow,
        totals: &mut RunTotals,
    ) -> Result<AfterError, RunError> {
        let numbered = self.stream.pagination.is_numbered();
        if self.plan.dry_run {
            return Ok(AfterError::End(error));
        }
        if error.restart || (open.at_stored_place && is_refused_place(&error)) {
            let (is_stored, is_first, is_patch) =
                (open.at_stored_place, open.window.page_no == 0, self.stream.is_patch());
            open.restart(numbered, is_patch);
            let is_exhausted = open.restarts > self.plan.limits.max_restarts;
            // A token whose own page is refused each time would block the stream forever.
            if is_patch && state.committed_hwm.is_some() && (error.reset || (is_exhausted && is_first)) {
                return self.reset_patch(state, open, totals).await;
            }
            if is_exhausted {
                return Ok(AfterError::End(error));
            }
            if is_stored {
                // Stored, so that the refused place is never asked for again.
                let staged = if is_patch { CommitScope::Discard } else { CommitScope::StageNext };
                self.store_position(state, open, staged, totals).await?;
            }
            return Ok(AfterError::Again);
        }
        if error.reason == RunReason::EndOfData {
            if let Some(rest) = self.rest_of(&open.window, open.reached.as_deref())? {
                open.window = rest;
                open.guard = CycleGuard::new(&open.window, false, numbered);
                open.reached = None;
                self.store_position(state, open, CommitScope::StageNext, totals).await?;
                return Ok(AfterError::Again);
            }
            // The pages read are committed; no later page is reachable, so the window is closed.
            self.abandon(state, open, ParsedPage::default(), totals).await?;
            return Ok(AfterError::End(error));
        }
        if error.reason == RunReason::PaginationUnreadable {
            // A link that leads to nothing: the next run starts the window over instead of following it again.
            self.abandon(state, open, ParsedPage::default(), totals).await?;
        }
        Ok(AfterError::End(error))
    }

    /// Forgets the token of a patch stream that the provider does not accept any more: everything is read again.
    async fn reset_patch(
        &mut self,
        state: &mut CursorState,
        open: &mut OpenWindow,
        totals: &mut RunTotals,
    ) -> Result<AfterError, RunError> {
        (state.committed_hwm, self.loop_start) = (None, None);
        self.abandon(state, open, ParsedPage::default(), totals).await?;
        Ok(AfterError::Again)
    }

    /// A dry run ends with its first page.
    fn after_dry_page(&self, parsed: &ParsedPage, totals: &mut RunTotals) -> Result<(), RunError> {
        totals.counts.fetched += parsed.fetched;
        totals.counts.rejected += parsed.rejected;
        totals.duplicates += parsed.duplicates.dropped;
        totals.counts.conflicting += parsed.duplicates.conflicting;
        match parsed.next {
            NextPage::Unreadable => Err(self.no_next_page(parsed)),
            _ => Ok(()),
        }
    }

    /// Whether a patch stream says that its data is not ready: it has no more pages and no token either.
    fn is_not_ready(&self, parsed: &ParsedPage) -> bool {
        self.stream.is_patch() && parsed.has_blank_token
    }

    fn no_next_page(&self, parsed: &ParsedPage) -> RunError {
        let looked = || failure_detail::no_next_page(&self.stream);
        RunError::from(RunReason::PaginationUnreadable).with_detail(parsed.link_problem.clone().unwrap_or_else(looked))
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

    /// Advances the window past a page.
    fn advance(&self, open: &mut OpenWindow, parsed: &ParsedPage) -> Result<(), RunError> {
        let unreadable = |_| RunError::from(RunReason::CursorUnreadable);
        let window = &mut open.window;
        if self.stream.is_patch() {
            window.candidate_hwm = parsed.token.clone().or(window.candidate_hwm.take());
        } else if let Some(times) = parsed.times {
            let capped = |at| cursor::cap(cursor::format_cursor(at, self.granularity), &window.to, self.granularity);
            let newest = capped(times.newest).map_err(unreadable)?;
            window.candidate_hwm =
                cursor::max_cursor(window.candidate_hwm.take(), Some(newest), self.granularity).map_err(unreadable)?;
            open.reached = Some(self.reached(times));
        }
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
}

/// What made the walk of a list unstable.
fn unstable_total(window: &SyncWindow, parsed: &ParsedPage) -> String {
    let (before, now) = (window.total.unwrap_or_default(), parsed.total.unwrap_or_default());
    format!("the total fell from {before} to {now}, each time the list was read")
}
