//! Where a window starts, and where an interrupted one goes on.

use super::Walk;
use crate::domain::cursor::{CursorState, SyncWindow};
use crate::domain::run_reason::RunReason;
use crate::profile::RecordOrder;
use crate::sync::convert::PageTimes;
use crate::sync::cursor::{self, CursorError, WindowStart};
use crate::sync::report::RunError;

impl Walk<'_> {
    /// Corrects what was stored while the clock was ahead. A window that reaches into the future is opened anew: its
    /// committed pages are read again and change nothing.
    pub(super) fn correct_instants(&self, state: &mut CursorState) -> Result<(), CursorError> {
        // The mark of a patch stream is a token of the provider.
        if self.stream.is_patch() {
            return Ok(());
        }
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

    /// The window to walk, and whether an earlier run read its first pages.
    pub(super) fn take_window(&mut self, state: &mut CursorState) -> Result<(SyncWindow, bool), RunError> {
        let unreadable = |_| RunError::from(RunReason::CursorUnreadable);
        self.loop_start = state.committed_hwm.clone().filter(|_| self.stream.is_patch());
        let now = self.cx.clock.now().wall;
        if self.stream.is_patch() {
            // From the loop's first token: what was added on a page and withdrawn since would be on none of the others.
            state.window = None;
            return Ok((cursor::window(now, now, self.granularity), false));
        }
        if let Some(window) = state.window.take() {
            let resumed = self.rewind_one_page(window);
            return Ok((resumed, true));
        }
        if let Some(resync) = &self.plan.resync {
            // What is not yet cannot be read again.
            let to = resync.to.min(now);
            let from = cursor::whole_days_from(&self.stream, resync.from.min(to));
            return Ok((cursor::window(from, to, self.granularity), false));
        }
        let start = WindowStart {
            committed: state.committed_hwm.as_deref(),
            earliest: state.earliest.as_deref(),
            start: self.plan.start,
            lookback: self.plan.lookback,
        };
        let window = cursor::open_window(&self.stream, start, now).map_err(unreadable)?;
        if state.committed_hwm.is_none() && self.stream.window.is_some() {
            // Without what is read more for whole days, which every window adds again.
            let from = cursor::start_of_window(&self.stream, start, now).map_err(unreadable)?;
            state.earliest = Some(cursor::format_cursor(from, self.granularity));
        }
        Ok((window, false))
    }

    /// Prepares the cursor of a resync for its plan: another ID, source or paging starts it over. `false` if the
    /// partition is complete.
    ///
    /// The hash that is stored ends with the ID; the mark, which no later window uses, says that the window is complete.
    pub(super) fn resume_resync(&self, state: &mut CursorState, hash: &str) -> bool {
        let Some(resync) = &self.plan.resync else { return true };
        let own_hash = format!("{hash}:{}", resync.id);
        let is_same_request = state.spec_hash.split_once(':').is_some_and(|(_, id)| id == resync.id);
        if is_same_request && state.committed_hwm.is_some() && state.window.is_none() {
            return false;
        }
        if state.spec_hash != own_hash || self.plan.dry_run {
            *state = CursorState { version: state.version, ..CursorState::default() };
        }
        state.spec_hash = own_hash;
        true
    }

    /// What is left of a window whose list is too deep to be read to its end: from the last cursor value that was reached
    /// on, if the list is ordered by it and there is progress.
    pub(super) fn rest_of(&self, window: &SyncWindow, reached: Option<&str>) -> Result<Option<SyncWindow>, RunError> {
        let (Some(range), Some(reached)) = (&self.stream.window, reached) else { return Ok(None) };
        let instant = |cursor: &str| cursor::parse_cursor(cursor, self.granularity);
        let unreadable = |_| RunError::from(RunReason::CursorUnreadable);
        let (from, to) = (instant(&window.from).map_err(unreadable)?, instant(&window.to).map_err(unreadable)?);
        let reached = instant(reached).map_err(unreadable)?;
        let (rest_from, rest_to) = match self.stream.order {
            RecordOrder::OldestFirst => (cursor::whole_days_from(&self.stream, reached), to),
            RecordOrder::NewestFirst if range.to.is_some() => {
                (from, cursor::whole_days_to(&self.stream, reached).min(to))
            }
            RecordOrder::NewestFirst | RecordOrder::Unknown => return Ok(None),
        };
        if (rest_from <= from && rest_to >= to) || rest_from > rest_to {
            return Ok(None);
        }
        let rest = cursor::window(rest_from, rest_to, self.granularity);
        Ok(Some(SyncWindow {
            page_no: window.page_no,
            candidate_hwm: window.candidate_hwm.clone(),
            rows_dead: window.rows_dead,
            ..rest
        }))
    }

    /// The cursor value of a page that is furthest from the start of its window, in the order of the stream.
    pub(super) fn reached(&self, times: PageTimes) -> String {
        let at = if self.stream.order == RecordOrder::NewestFirst { times.oldest } else { times.newest };
        cursor::format_cursor(at, self.granularity)
    }

    /// Moves the high-water mark, because the window is complete.
    pub(super) fn complete(&self, state: &mut CursorState, mut window: SyncWindow) -> Result<(), RunError> {
        let newest = window.candidate_hwm.take();
        if self.plan.resync.is_some() {
            state.committed_hwm = Some(window.to);
            return Ok(());
        }
        if self.stream.is_patch() {
            state.committed_hwm = newest.or(state.committed_hwm.take());
            return Ok(());
        }
        state.committed_hwm = cursor::max_cursor(state.committed_hwm.take(), newest, self.granularity)
            .map_err(|_| RunReason::CursorUnreadable)?;
        // An empty first window: without a mark the next one would start later, and what was booked late between them
        // would be read by none. Of a stream without a time no mark would ever move.
        if state.committed_hwm.is_none() && self.stream.window.is_some() && self.stream.time.is_some() {
            state.committed_hwm = Some(window.from);
        }
        Ok(())
    }
}
