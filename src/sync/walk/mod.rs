//! The walk of one partition: window by window, page by page.
//!
//! Each page is fetched, read and judged with no lock held, then committed together with the place where the next one
//! is. The high-water mark moves only when a window has been walked to its end. A walk that was broken off is taken up
//! one page before its place, because numbered pages shift when the provider's list does.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::cursor;
use super::key::{settle, settle_documents};
use super::metrics::Stage;
use super::page::{self, Page};
use super::plan::{Limits, Partition, SyncPlan};
use super::record::{AccountInfo, Reading, dead_letter};
use super::report::{RunReason, Stop};
use super::run::RunContext;
use crate::domain::time::Mono;
use crate::ledger::runs::RunCounts;
use crate::ledger::{
    CursorState, DeadLetter, DocumentKind, DocumentRecord, Granularity, JobKey, PageCommit, TransactionRecord, Window,
};
use crate::provider::profile::{Pagination, Record, Stream};

mod ask;
mod guard;

use guard::{Guard, remember, restarted};

/// What a run has moved so far, over all partitions.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: RunCounts,
    pub(super) duplicates: u64,
    pub(super) short_of_total: bool,
}

/// One partition of one run.
pub(super) struct Walk<'a> {
    plan: &'a SyncPlan,
    partition: &'a Partition,
    cx: &'a RunContext<'a>,
    deadline: Mono,
    job: JobKey,
    grain: Granularity,
    /// The stream with the partition's values in it.
    stream: Arc<Stream>,
    /// Pages fetched by this run.
    pages: u32,
}

/// A page, judged.
#[derive(Default)]
struct Judged {
    rows: Vec<TransactionRecord>,
    documents: Vec<DocumentRecord>,
    dead: Vec<DeadLetter>,
    /// 1 for a page that was fetched.
    pages: u64,
    fetched: u64,
    duplicates: u64,
    next: Option<String>,
    total: Option<u64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(plan: &'a SyncPlan, partition: &'a Partition, cx: &'a RunContext<'a>, deadline: Mono) -> Self {
        let stream = plan.stream.filled(&partition.parameters);
        let (job, grain) = (plan.job_key(partition), cursor::grain(&stream));
        Self { plan, partition, cx, deadline, job, grain, stream, pages: 0 }
    }

    /// Walks the window that an earlier run left open, if there is one, then one up to now.
    pub(super) async fn run(mut self, tally: &mut Tally) -> Result<(), Stop> {
        let hash = self.plan.cursor_hash(self.partition).map_err(|_| RunReason::ParameterInvalid)?;
        let stored = self.cx.ledger.load_state(&self.job).await.map_err(|e| Stop::from(&e))?;
        let mut state = stored.unwrap_or_default();
        if !hash.same_source(&state.spec_hash) {
            state.committed_hwm = None;
            state.window = None;
        } else if state.spec_hash != hash.text() || self.plan.dry_run {
            state.window = None;
        }
        state.spec_hash = hash.text();
        self.boundary()?;
        let account = self.account().await?;
        if state.window.is_some() {
            self.window(&mut state, &account, tally).await?;
        }
        self.window(&mut state, &account, tally).await
    }

    /// Walks the open window of `state`, or a new one, to its end.
    async fn window(&mut self, state: &mut CursorState, account: &AccountInfo, tally: &mut Tally) -> Result<(), Stop> {
        let resumed = state.window.is_some();
        let mut window = match state.window.take() {
            Some(window) => self.one_page_back(window),
            None => self.open(state)?,
        };
        let numbered = self.stream.pagination.is_numbered();
        let mut guard = Guard::of(&window, resumed, numbered);
        let mut restarts = 0;
        loop {
            self.boundary()?;
            let judged = match self.page(&window, account, &mut guard, tally).await {
                Err(stop) if stop.restart && !self.plan.dry_run => {
                    restarts += 1;
                    if restarts > self.plan.limits.max_restarts {
                        return Err(stop);
                    }
                    window = restarted(window);
                    guard = Guard::of(&window, false, numbered);
                    continue;
                }
                Err(stop) if stop.reason == RunReason::EndOfData && !self.plan.dry_run => {
                    // What was read is in; the place behind it cannot be reached, so nothing is gained by keeping it.
                    self.commit(state, None, &Judged::default(), tally).await?;
                    return Err(stop);
                }
                page => page?,
            };
            if self.plan.dry_run {
                return Ok(());
            }
            let asked = self.asked(&window);
            let at_end = judged.next.is_none();
            let short = at_end && judged.total.is_some_and(|total| self.read_so_far(&window, &asked, &judged) < total);
            // Fewer than announced: once more from the start; if it stays so, the provider's count is not ours.
            if guard.moved_under_us(&window, &judged) || (short && restarts == 0) {
                restarts += 1;
                if restarts > self.plan.limits.max_restarts {
                    return Err(RunReason::WindowUnstable.into());
                }
                window = restarted(window);
                guard = Guard::of(&window, false, numbered);
                continue;
            }
            if let Some(reason) = guard.circle(&asked, &window, &judged, &self.plan.limits) {
                // The window is given up, so that the next run starts it over instead of meeting the same end.
                self.commit(state, None, &Judged::default(), tally).await?;
                return Err(reason.into());
            }
            remember(&mut window, &asked);
            self.advance(&mut window, &judged)?;
            if at_end {
                tally.short_of_total |= short;
                state.committed_hwm =
                    cursor::later(state.committed_hwm.take(), window.candidate_hwm.take(), self.grain)
                        .map_err(|_| RunReason::CursorUnreadable)?;
                return self.commit(state, None, &judged, tally).await;
            }
            window = self.commit_open(state, window, &judged, tally).await?;
        }
    }

    fn open(&self, state: &CursorState) -> Result<Window, Stop> {
        let now = self.cx.clock.now().wall;
        cursor::open(&self.stream, state.committed_hwm.as_deref(), self.plan.start, self.plan.lookback, now)
            .map_err(|_| RunReason::CursorUnreadable.into())
    }

    /// Between two pages: the only place where a run stops on request or reaches its caps.
    fn boundary(&self) -> Result<(), Stop> {
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

    /// Fetches, reads and judges one page.
    async fn page(
        &mut self,
        window: &Window,
        account: &AccountInfo,
        guard: &mut Guard,
        tally: &mut Tally,
    ) -> Result<Judged, Stop> {
        let (asked, answer) = (self.asked(window), self.call(self.request(window)?).await?);
        self.pages = self.pages.saturating_add(1);
        let began = self.cx.clock.mono();
        let judged =
            page::read(&answer, &self.stream, &asked).and_then(|page| self.judge(page, window, account, guard, tally));
        self.observe(Stage::Transform, began, judged.as_ref().err().copied());
        judged
    }

    /// Makes rows of records, and decides whether the page may be committed.
    fn judge(
        &self,
        page: Page,
        window: &Window,
        account: &AccountInfo,
        guard: &mut Guard,
        tally: &mut Tally,
    ) -> Result<Judged, Stop> {
        let reading = Reading { stream: &self.stream, account, mask: &self.plan.mask, grain: self.grain };
        let (mut rows, mut documents, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        for (index, record) in (0u32..).zip(&page.records) {
            let read = match self.stream.record {
                Record::Transaction => reading.row(record).map(|row| rows.push(row)),
                Record::Collateral => reading.document(record, DocumentKind::Collateral).map(|doc| documents.push(doc)),
                Record::Document => reading.document(record, DocumentKind::Document).map(|doc| documents.push(doc)),
            };
            match read {
                Ok(()) => {}
                Err(rejection) => dead.push(dead_letter(record, rejection, index, window.page_no)),
            }
        }
        let budget = usize::from(self.plan.dead_letter_budget_percent);
        let fetched = page.records.len() as u64;
        if budget < 100 && dead.len() * 100 > budget * page.records.len() {
            // Bank data with part of its rows missing is worse than late: the page stays out.
            tally.counts.fetched += fetched;
            tally.counts.rejected += dead.len() as u64;
            return Err(RunReason::SchemaDrifted.into());
        }
        let (rows, twice) = settle(rows, &mut guard.ordinals);
        let (documents, again) = settle_documents(documents, &mut guard.ordinals);
        let duplicates = twice + again;
        if self.plan.dry_run {
            tally.counts.fetched += fetched;
            tally.counts.rejected += dead.len() as u64;
            tally.duplicates += duplicates;
        }
        Ok(Judged { rows, documents, dead, pages: 1, fetched, duplicates, next: page.next, total: page.total })
    }

    /// How many of the window's records were read, this page included. A place in a list says so itself, also after a
    /// page was read twice.
    fn read_so_far(&self, window: &Window, asked: &str, judged: &Judged) -> u64 {
        match &self.stream.pagination {
            Pagination::Offset { first, .. } => {
                asked.parse::<u64>().unwrap_or(0).saturating_sub(*first).saturating_add(judged.fetched)
            }
            _ => window.rows_in + judged.fetched,
        }
    }

    /// Moves the window behind a page.
    fn advance(&self, window: &mut Window, judged: &Judged) -> Result<(), Stop> {
        let unreadable = |_| Stop::from(RunReason::CursorUnreadable);
        let newest = judged.rows.iter().filter_map(|row| self.moment(row)).max();
        let newest = newest.map(|at| cursor::capped(cursor::print(at, self.grain), &window.to, self.grain));
        let newest = newest.transpose().map_err(unreadable)?;
        window.candidate_hwm = cursor::later(window.candidate_hwm.take(), newest, self.grain).map_err(unreadable)?;
        window.page_no = window.page_no.saturating_add(1);
        window.page_token.clone_from(&judged.next);
        window.total = judged.total.or(window.total);
        window.rows_in += judged.fetched;
        window.rows_dead += judged.dead.len() as u64;
        Ok(())
    }

    fn moment(&self, row: &TransactionRecord) -> Option<Timestamp> {
        match (self.grain, row.booked.at) {
            (Granularity::Instant, Some(at)) => Some(at),
            _ => row.booked.on.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp()),
        }
    }

    /// Commits a page of a window that goes on, and hands the window back.
    async fn commit_open(
        &self,
        state: &mut CursorState,
        window: Window,
        judged: &Judged,
        tally: &mut Tally,
    ) -> Result<Window, Stop> {
        self.commit(state, Some(window), judged, tally).await?;
        // Just put there.
        state.window.take().ok_or_else(|| RunReason::InternalError.into())
    }

    /// The page transaction: rows and the state that says they are in.
    async fn commit(
        &self,
        state: &mut CursorState,
        window: Option<Window>,
        judged: &Judged,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        state.window = window;
        let began = self.cx.clock.mono();
        let page = PageCommit {
            job: &self.job,
            lease: self.cx.lease,
            run: self.cx.run,
            state,
            rows: &judged.rows,
            documents: &judged.documents,
            dead: &judged.dead,
            fetched: judged.fetched,
            pages: judged.pages,
            now: self.cx.clock.now().wall,
        };
        let outcome = self.cx.ledger.commit_page(page).await.map_err(|error| Stop::from(&error));
        self.observe(Stage::Persist, began, outcome.as_ref().err().copied());
        let outcome = outcome?;
        state.version = outcome.version;
        let counts = &mut tally.counts;
        counts.fetched += judged.fetched;
        counts.inserted += outcome.counts.inserted;
        counts.updated += outcome.counts.updated;
        counts.unchanged += outcome.counts.unchanged;
        counts.rejected += judged.dead.len() as u64;
        counts.pages += judged.pages;
        tally.duplicates += judged.duplicates;
        Ok(())
    }
}
