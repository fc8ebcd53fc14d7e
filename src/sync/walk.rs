//! The walk of one partition: window by window, page by page.
//!
//! Each page is fetched, read and judged with no lock held, then committed together with the place where the next one
//! is. The high-water mark moves only when a window has been walked to its end. A walk that was broken off is taken up
//! one page before its place, because numbered pages shift when the provider's list does.

use std::collections::HashSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::cursor;
use super::key::{Ordinals, account_token, settle};
use super::metrics::Stage;
use super::page::{self, Page};
use super::plan::{Partition, SyncPlan, short_hex};
use super::record::{AccountInfo, Reading, dead_letter, read_currency};
use super::report::{RunReason, Stop};
use super::run::RunContext;
use crate::domain::time::Mono;
use crate::ledger::runs::RunCounts;
use crate::ledger::{CursorState, DeadLetter, Granularity, JobKey, KeyQuality, PageCommit, TransactionRecord, Window};
use crate::provider::call::{Answer, Request};
use crate::provider::profile::{CurrencySource, Pagination};

/// Tokens remembered across a restart; within a run all of them are.
const REMEMBERED_TOKENS: usize = 32;

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
    /// Pages fetched by this run.
    pages: u32,
}

/// What one walk of one window remembers, to notice that it goes in circles.
#[derive(Default)]
struct Guard {
    tokens: HashSet<String>,
    key_prints: HashSet<String>,
    ordinals: Ordinals,
    empty_in_row: u32,
    /// The first pages were read by an earlier run, so the ordinals do not know them.
    joined_late: bool,
}

/// A page, judged.
struct Judged {
    rows: Vec<TransactionRecord>,
    dead: Vec<DeadLetter>,
    fetched: u64,
    duplicates: u64,
    next: Option<String>,
    total: Option<u64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(plan: &'a SyncPlan, partition: &'a Partition, cx: &'a RunContext<'a>, deadline: Mono) -> Self {
        let (job, grain) = (plan.job_key(partition), cursor::grain(&plan.stream));
        Self { plan, partition, cx, deadline, job, grain, pages: 0 }
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
        let account = self.account().await?;
        if state.window.is_some() {
            self.window(&mut state, &account, true, tally).await?;
        }
        self.window(&mut state, &account, false, tally).await
    }

    async fn window(
        &mut self,
        state: &mut CursorState,
        account: &AccountInfo,
        resumed: bool,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        let mut restarts = 0;
        let mut guard = Guard { joined_late: resumed, ..Guard::default() };
        let mut window = match state.window.take() {
            Some(window) => self.one_page_back(window),
            None => self.open(state)?,
        };
        guard.tokens.extend(window.seen_tokens.iter().cloned());
        loop {
            self.boundary()?;
            let judged = self.page(&window, account, &mut guard, tally).await?;
            if self.plan.dry_run {
                return Ok(());
            }
            let at_end = judged.next.is_none();
            let short = at_end && judged.total.is_some_and(|total| window.rows_in + judged.fetched < total);
            if moved_under_us(&window, &judged, &guard) || (short && restarts == 0) {
                restarts += 1;
                if restarts > self.plan.limits.max_restarts {
                    return Err(RunReason::WindowUnstable.into());
                }
                window = restarted(window);
                guard = Guard::default();
                continue;
            }
            let circle = self.circle(&window, &judged, &mut guard);
            if let Some(reason) = circle {
                // Given up: the next run starts this window over instead of meeting the same end.
                self.commit(state, None, &Judged::nothing(), 0, tally).await?;
                return Err(reason.into());
            }
            window = self.advanced(window, &judged)?;
            if at_end {
                tally.short_of_total |= short;
                state.committed_hwm =
                    cursor::later(state.committed_hwm.take(), window.candidate_hwm.take(), self.grain)
                        .map_err(|_| RunReason::CursorUnreadable)?;
                return self.commit(state, None, &judged, 1, tally).await;
            }
            window = self.commit_and_keep(state, window, &judged, tally).await?;
        }
    }

    fn open(&self, state: &CursorState) -> Result<Window, Stop> {
        let now = self.cx.clock.now().wall;
        cursor::open(&self.plan.stream, state.committed_hwm.as_deref(), self.plan.start, self.plan.lookback, now)
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
        let answer = self.call(self.request(window)?).await?;
        self.pages = self.pages.saturating_add(1);
        let began = self.cx.clock.mono();
        let judged = page::read(&answer, &self.plan.stream)
            .and_then(|page| self.judge(page, window, account, guard, tally));
        self.observe(Stage::Transform, began, judged.as_ref().err().copied());
        judged
    }

    fn request(&self, window: &Window) -> Result<Request, Stop> {
        let (stream, parameters) = (&self.plan.stream, &self.partition.parameters);
        let invalid = |_| Stop::from(RunReason::ParameterInvalid);
        let mut request = Request::get(self.plan.stream_name.as_str(), stream.path.path(parameters).map_err(invalid)?);
        for (name, value) in &stream.query {
            request = request.with_query(name, value.value(parameters).map_err(invalid)?);
        }
        if let Some(range) = &stream.window {
            for (name, end) in [(&range.from, &window.from), (&range.to, &window.to)] {
                let text =
                    cursor::wire(end, self.grain, &range.format).map_err(|_| RunReason::CursorUnreadable)?;
                request = request.with_query(name, text);
            }
        }
        if let Pagination::Page { parameter, first, size_parameter, size, .. } = &stream.pagination {
            let page = window.page_token.clone().unwrap_or_else(|| first.to_string());
            request = request.with_query(parameter, page).with_query(size_parameter, size.to_string());
        }
        Ok(self.traced(request, window.page_no))
    }

    /// A child id per request, so that the provider's support can find one page of a run.
    fn traced(&self, mut request: Request, page_no: u32) -> Request {
        let child = Uuid::new_v5(&self.cx.run.0, format!("{}/{page_no}", self.partition.name).as_bytes());
        if let Ok(value) = HeaderValue::from_str(&child.to_string()) {
            request.headers.insert(HeaderName::from_static("x-request-id"), value);
        }
        request
    }

    /// One call, given up when the run is.
    async fn call(&self, request: Request) -> Result<Answer, Stop> {
        let began = self.cx.clock.mono();
        let answer = tokio::select! {
            biased;
            () = self.cx.cancel.cancelled() => return Err(RunReason::StopRequested.into()),
            () = self.cx.clock.sleep_until(self.deadline) => return Err(RunReason::RunTimeout.into()),
            answer = self.cx.fetch.fetch(request) => answer.map_err(|error| Stop::from(&error)),
        };
        let answer = answer.and_then(|answer| match answer.status.is_success() {
            true => Ok(answer),
            false => Err(super::report::refused(answer.status.as_u16())),
        });
        self.observe(Stage::Fetch, began, answer.as_ref().err().copied());
        answer
    }

    fn observe(&self, stage: Stage, began: Mono, stop: Option<Stop>) {
        let took: Duration = self.cx.clock.mono().since(began);
        self.cx.metrics.stage(stage, took.as_secs_f64(), stop.map(|stop| stop.reason.as_str()));
    }

    fn judge(
        &self,
        page: Page,
        window: &Window,
        account: &AccountInfo,
        guard: &mut Guard,
        tally: &mut Tally,
    ) -> Result<Judged, Stop> {
        let reading = Reading { stream: &self.plan.stream, account, mask: &self.plan.mask, grain: self.grain };
        let mut rows = Vec::with_capacity(page.records.len());
        let mut dead = Vec::new();
        for (index, record) in (0u32..).zip(&page.records) {
            match reading.row(record) {
                Ok(row) => rows.push(row),
                Err(rejection) => dead.push(dead_letter(record, rejection, index, window.page_no)),
            }
        }
        let budget = usize::from(self.plan.dead_letter_budget_percent);
        let fetched = page.records.len() as u64;
        if budget < 100 && dead.len() * 100 > budget * page.records.len() {
            tally.counts.fetched += fetched;
            tally.counts.rejected += dead.len() as u64;
            return Err(RunReason::SchemaDrifted.into());
        }
        let (rows, duplicates) = settle(rows, &mut guard.ordinals);
        if self.plan.dry_run {
            tally.counts.fetched += fetched;
            tally.counts.inserted += rows.len() as u64;
            tally.counts.rejected += dead.len() as u64;
            tally.duplicates += duplicates;
        }
        Ok(Judged { rows, dead, fetched, duplicates, next: page.next, total: page.total })
    }

    /// Whether the walk goes round: a page that was asked for before, or that shows what an earlier one showed.
    fn circle(&self, window: &Window, judged: &Judged, guard: &mut Guard) -> Option<RunReason> {
        let asked = self.token(window);
        guard.tokens.insert(print(&asked));
        if judged.fetched > 0 {
            guard.empty_in_row = 0;
            let keys: Vec<&str> = judged.rows.iter().map(|row| row.key.as_str()).collect();
            if !keys.is_empty() && !guard.key_prints.insert(print(&keys.join("\n"))) {
                return Some(RunReason::PaginationCycle);
            }
        }
        let next = judged.next.as_deref()?;
        let forward = next.parse::<u64>().ok() > asked.parse::<u64>().ok();
        if guard.tokens.contains(&print(next)) || !forward {
            return Some(RunReason::PaginationCycle);
        }
        if judged.fetched == 0 {
            guard.empty_in_row += 1;
            if guard.empty_in_row > self.plan.limits.max_empty_pages {
                return Some(RunReason::TooManyEmptyPages);
            }
        }
        None
    }

    /// The number of the page that `window` stands before.
    fn token(&self, window: &Window) -> String {
        match (&window.page_token, &self.plan.stream.pagination) {
            (Some(token), _) => token.clone(),
            (None, Pagination::Page { first, .. }) => first.to_string(),
            (None, Pagination::None) => String::new(),
        }
    }

    fn one_page_back(&self, window: Window) -> Window {
        let Pagination::Page { first, .. } = self.plan.stream.pagination else { return window };
        match window.page_token.as_deref().and_then(|token| token.parse::<u64>().ok()) {
            Some(page) if page > first => Window {
                page_token: Some((page - 1).to_string()),
                page_no: window.page_no.saturating_sub(1),
                ..window
            },
            _ => window,
        }
    }

    fn advanced(&self, mut window: Window, judged: &Judged) -> Result<Window, Stop> {
        let unreadable = |_| Stop::from(RunReason::CursorUnreadable);
        let newest = judged.rows.iter().filter_map(|row| self.moment(row)).max();
        let newest = newest.map(|at| cursor::print(at, self.grain));
        let newest = newest.map(|at| cursor::capped(at, &window.to, self.grain)).transpose().map_err(unreadable)?;
        window.candidate_hwm = cursor::later(window.candidate_hwm.take(), newest, self.grain).map_err(unreadable)?;
        window.seen_tokens.push(print(&self.token(&window)));
        let surplus = window.seen_tokens.len().saturating_sub(REMEMBERED_TOKENS);
        window.seen_tokens.drain(..surplus);
        window.page_no = window.page_no.saturating_add(1);
        window.page_token.clone_from(&judged.next);
        window.total = judged.total.or(window.total);
        window.rows_in += judged.fetched;
        window.rows_dead += judged.dead.len() as u64;
        Ok(window)
    }

    fn moment(&self, row: &TransactionRecord) -> Option<jiff::Timestamp> {
        match (self.grain, row.booked.at) {
            (Granularity::Instant, Some(at)) => Some(at),
            _ => row.booked.on.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp()),
        }
    }
}
