//! The page transaction, beside the request for the next page.
//!
//! Small pages wait for each other (see `group`), large ones are committed while the next page is fetched, never earlier and
//! never more than one: nothing is committed out of order, and a commit that fails cancels the fetch. A fetch never cancels
//! a commit.

use futures::FutureExt as _;
use futures::future::Either;

use super::Walk;
use super::group::{PageGroup, ReadPage};
use super::parsed_page::ParsedPage;
use super::window::OpenWindow;
use crate::domain::cursor::{CursorState, SyncWindow};
use crate::ledger::{CommitScope, PageCommit};
use crate::profile;
use crate::sync::context::RunTotals;
use crate::sync::metrics::Stage;
use crate::sync::record::AccountInfo;
use crate::sync::report::RunError;

/// Fewest records of a page whose commit takes long enough to request the next page meanwhile. A process that is killed
/// during such a commit requests two pages again; of smaller pages, one or those of a group.
const OVERLAPPED_RECORDS: u64 = 500;

impl Walk<'_> {
    /// Goes on after a page of an unfinished window: commits it, or fetches the next page first, if it is small, or
    /// meanwhile, if it is large. Without the next one, if the run may not go on.
    pub(super) async fn go_on(
        &mut self,
        state: &mut CursorState,
        open: &mut OpenWindow,
        parsed: ParsedPage,
        account: &AccountInfo,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let is_large = parsed.fetched >= OVERLAPPED_RECORDS;
        let page = ReadPage { window: Some(open.window.clone()), parsed, scope: self.scope_of_open(&open.window) };
        open.group.push(page, self.cx.clock.mono());
        let may_fetch = self.check_limits().is_ok();
        let waits_until = open.group.waits_until().filter(|_| may_fetch);
        let this = &*self;
        if waits_until.is_none() && !(is_large && may_fetch) {
            return this.commit_group(state, &mut open.group, totals).await;
        }
        let OpenWindow { window, guard, group, fetched, .. } = open;
        let mut fetch = this.fetch_page(window, account, &mut guard.ordinals).boxed();
        if let Some(until) = waits_until {
            tokio::select! {
                biased;
                page = &mut fetch => {
                    *fetched = Some(page);
                    return Ok(());
                }
                // The provider takes its time: the group is committed meanwhile.
                () = this.cx.clock.sleep_until(until) => {}
            }
        }
        let commit = this.commit_group(state, group, totals).boxed();
        *fetched = Some(match futures::future::select(commit, fetch).await {
            Either::Left((committed, fetch)) => {
                committed?;
                fetch.await
            }
            Either::Right((fetched, commit)) => {
                commit.await?;
                fetched
            }
        });
        Ok(())
    }

    /// Commits the last page of a window that is complete, with those of its group. `scope` says what becomes of its staged
    /// pages, if its pages take effect together.
    pub(super) async fn finish(
        &self,
        state: &mut CursorState,
        open: OpenWindow,
        parsed: ParsedPage,
        scope: CommitScope,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let scope = if self.is_staged() { scope } else { CommitScope::Page };
        let OpenWindow { window, mut group, .. } = open;
        self.complete(state, window)?;
        group.push(ReadPage { window: None, parsed, scope }, self.cx.clock.mono());
        self.commit_group(state, &mut group, totals).await
    }

    /// Closes a window that is not complete. The page is kept, and so are those of its group, unless all pages take effect
    /// together.
    pub(super) async fn abandon(
        &self,
        state: &mut CursorState,
        open: &mut OpenWindow,
        kept: ParsedPage,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let (parsed, scope) =
            if self.is_staged() { (ParsedPage::default(), CommitScope::Discard) } else { (kept, CommitScope::Page) };
        open.group.push(ReadPage { window: None, parsed, scope }, self.cx.clock.mono());
        self.commit_group(state, &mut open.group, totals).await
    }

    /// Stores where the window goes on. `staged` says what becomes of its staged pages, if it has any.
    pub(super) async fn store_position(
        &self,
        state: &mut CursorState,
        open: &mut OpenWindow,
        staged: CommitScope,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let scope = if self.is_staged() { staged } else { CommitScope::Page };
        let page = ReadPage { window: Some(open.window.clone()), parsed: ParsedPage::default(), scope };
        open.group.push(page, self.cx.clock.mono());
        self.commit_group(state, &mut open.group, totals).await
    }

    /// Whether the pages of a window take effect together.
    fn is_staged(&self) -> bool {
        self.plan.commit_scope == profile::CommitScope::Window || self.stream.is_patch()
    }

    fn scope_of_open(&self, window: &SyncWindow) -> CommitScope {
        match (self.is_staged(), window.page_no) {
            (false, _) => CommitScope::Page,
            (true, 0 | 1) => CommitScope::StageFirst,
            (true, _) => CommitScope::StageNext,
        }
    }

    /// Commits the pages of the group, if there are any: rows, events, dead letters and the cursor after the last one, in one
    /// transaction.
    pub(super) async fn commit_group(
        &self,
        state: &mut CursorState,
        group: &mut PageGroup,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let pages = group.take();
        if pages.is_empty() {
            return Ok(());
        }
        let began = self.cx.clock.mono();
        state.window = None;
        let states: Vec<CursorState> = (state.version..)
            .zip(&pages)
            .map(|(version, page)| CursorState { version, window: page.window.clone(), ..state.clone() })
            .collect();
        let events: Vec<_> = pages.iter().map(|page| self.page_events(page.parsed.raw.as_ref())).collect();
        let now = self.cx.clock.now().wall;
        let commits = pages.iter().zip(&states).zip(&events).map(|((page, state), events)| {
            let now = group.time(now);
            let ReadPage { parsed, scope, .. } = page;
            PageCommit {
                cursor: &self.cursor_key,
                lease: self.cx.lease,
                run: self.cx.run,
                state,
                rows: &parsed.rows,
                documents: &parsed.documents,
                records: &parsed.records,
                removed: &parsed.removed,
                pending: parsed.pending.as_ref(),
                scope: *scope,
                dead_letters: &parsed.dead_letters,
                raw: parsed.raw.as_ref(),
                events: events.as_ref(),
                replayed: None,
                fetched: parsed.fetched,
                conflicting: parsed.duplicates.conflicting,
                pages: parsed.pages,
                now,
            }
        });
        let outcome = self.cx.ledger.commit_pages(commits.collect()).await.map_err(|error| RunError::from(&error));
        self.record_stage(Stage::Persist, began, outcome.as_ref().err());
        let outcomes = outcome?;
        let counts = &mut totals.counts;
        for (ReadPage { parsed, .. }, outcome) in pages.iter().zip(outcomes) {
            state.version = outcome.version;
            counts.fetched += parsed.fetched;
            counts.inserted += outcome.counts.inserted;
            counts.updated += outcome.counts.updated;
            counts.unchanged += outcome.counts.unchanged;
            counts.rejected += parsed.dead_letters.len() as u64;
            counts.pages += parsed.pages;
            counts.conflicting += parsed.duplicates.conflicting;
            totals.duplicates += parsed.duplicates.dropped;
        }
        state.window = pages.into_iter().next_back().and_then(|page| page.window);
        Ok(())
    }
}
