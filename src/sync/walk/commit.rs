//! The page transaction, beside the request for the next page.
//!
//! After a large page the next one is fetched while it is committed, never earlier and never more than one: nothing is
//! committed out of order, and a commit that fails cancels the fetch. A fetch never cancels a commit.

use futures::FutureExt as _;
use futures::future::Either;

use super::Walk;
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
/// during such a commit requests two pages again; of smaller pages, one.
const OVERLAPPED_RECORDS: u64 = 500;

impl Walk<'_> {
    /// Commits a page of an unfinished window, and fetches the next one meanwhile, if the page is large. Without the next
    /// one, if the run may not go on.
    pub(super) async fn commit_and_fetch(
        &mut self,
        state: &mut CursorState,
        open: &mut OpenWindow,
        parsed: &ParsedPage,
        account: &AccountInfo,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let scope = self.scope_of_open(&open.window);
        let overlaps = parsed.fetched >= OVERLAPPED_RECORDS && self.check_limits().is_ok();
        let this = &*self;
        let commit = this.commit(state, Some(open.window.clone()), parsed, scope, totals).boxed();
        if !overlaps {
            return commit.await;
        }
        let fetch = this.fetch_page(&open.window, account, &mut open.guard.ordinals).boxed();
        open.fetched = Some(match futures::future::select(commit, fetch).await {
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

    /// Commits the last page of a window that is complete. `scope` says what becomes of its staged pages, if its pages
    /// take effect together.
    pub(super) async fn finish(
        &self,
        state: &mut CursorState,
        window: SyncWindow,
        parsed: &ParsedPage,
        scope: CommitScope,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let scope = if self.is_staged() { scope } else { CommitScope::Page };
        self.complete(state, window)?;
        self.commit(state, None, parsed, scope, totals).await
    }

    /// Closes a window that is not complete. The page is kept, unless all pages take effect together.
    pub(super) async fn abandon(
        &self,
        state: &mut CursorState,
        kept: &ParsedPage,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        if self.is_staged() {
            return self.commit(state, None, &ParsedPage::default(), CommitScope::Discard, totals).await;
        }
        self.commit(state, None, kept, CommitScope::Page, totals).await
    }

    /// Stores where the window goes on. `staged` says what becomes of its staged pages, if it has any.
    pub(super) async fn store_position(
        &self,
        state: &mut CursorState,
        open: &OpenWindow,
        staged: CommitScope,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        let scope = if self.is_staged() { staged } else { CommitScope::Page };
        self.commit(state, Some(open.window.clone()), &ParsedPage::default(), scope, totals).await
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

    /// Commits the page: rows and cursor in one transaction.
    pub(super) async fn commit(
        &self,
        state: &mut CursorState,
        window: Option<SyncWindow>,
        parsed: &ParsedPage,
        scope: CommitScope,
        totals: &mut RunTotals,
    ) -> Result<(), RunError> {
        state.window = window;
        let began = self.cx.clock.mono();
        let events = self.page_events(parsed.raw.as_ref());
        let page = PageCommit {
            cursor: &self.cursor_key,
            lease: self.cx.lease,
            run: self.cx.run,
            state,
            rows: &parsed.rows,
            documents: &parsed.documents,
            records: &parsed.records,
            removed: &parsed.removed,
            pending: parsed.pending.as_ref(),
            scope,
            dead_letters: &parsed.dead_letters,
            raw: parsed.raw.as_ref(),
            events: events.as_ref(),
            replayed: None,
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
