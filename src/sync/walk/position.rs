//! What a page of a window is requested by: a number, an offset, a token, an ID or a link.

use http::StatusCode;

use super::Walk;
use crate::domain::cursor::SyncWindow;
use crate::domain::run_reason::RunReason;
use crate::profile::{LinkUse, Pagination};
use crate::sync::report::RunError;

impl Walk<'_> {
    /// The position of the next page of `window`; empty for the first page where that has none.
    pub(super) fn page_position(&self, window: &SyncWindow) -> String {
        match (&window.page_token, &self.stream.pagination) {
            (Some(token), _) => token.clone(),
            (None, Pagination::Page { first, .. } | Pagination::Offset { first, .. }) => first.to_string(),
            (None, _) => self.loop_start.clone().unwrap_or_default(),
        }
    }

    /// Records of the window before the page at `position`. For offset pagination the offset gives the number, which
    /// stays correct after a page was read twice.
    pub(super) fn read_before(&self, window: &SyncWindow, position: &str) -> u64 {
        match &self.stream.pagination {
            Pagination::Offset { first, .. } => position.parse::<u64>().unwrap_or(0).saturating_sub(*first),
            _ => window.rows_in,
        }
    }

    /// Rewinds an interrupted window by one page, because the list may have shifted. With a total that is noticed at the
    /// next page, and the window is read again: then no page is requested twice but the one that was in flight.
    pub(super) fn rewind_one_page(&self, window: SyncWindow) -> SyncWindow {
        if window.total.is_some() {
            return window;
        }
        let (first, step) = match self.stream.pagination {
            Pagination::Page { first, .. } => (first, 1),
            Pagination::Offset { first, size, .. } => (first, size),
            // A token's position does not shift.
            _ => return window,
        };
        match window.page_token.as_deref().and_then(|token| token.parse::<u64>().ok()) {
            Some(position) if position > first => {
                let back = position.saturating_sub(step).max(first);
                // The records of the page are read again: about as many as those of the others.
                let read = window.rows_in - window.rows_in / u64::from(window.page_no.max(1));
                // 0 at the first page alone: what is staged is dropped there.
                let page_no = window.page_no.saturating_sub(1).max(u32::from(back > first));
                SyncWindow { page_token: Some(back.to_string()), page_no, rows_in: read, ..window }
            }
            _ => window,
        }
    }

    /// Whether the next page of `window` is requested by a link of the provider.
    pub(super) fn follows_link(&self, window: &SyncWindow) -> bool {
        let (Pagination::NextUrl { link, .. } | Pagination::LinkHeader { link, .. }) = &self.stream.pagination else {
            return false;
        };
        *link == LinkUse::Follow && window.page_token.is_some()
    }

    /// The error of a page that was requested by a link: one that leads to nothing is a link that cannot be used.
    pub(super) fn link_error(&self, error: RunError, window: &SyncWindow) -> RunError {
        let leads_nowhere = matches!(error.reason, RunReason::NotFound | RunReason::ItemGone);
        if !leads_nowhere || !self.follows_link(window) {
            return error;
        }
        let status = error.http_status.unwrap_or_default();
        let detail = format!(
            "the link to the next page leads to nothing (status {status}); if only its parameters are meant, set link: \
             {{kind: takeParams}}"
        );
        RunError {
            http_status: error.http_status,
            ..RunError::from(RunReason::PaginationUnreadable).with_detail(detail)
        }
    }
}

/// Whether the provider refuses the place where a walk goes on, rather than the walk: the token has expired, or the page
/// is no longer there.
pub(super) fn is_refused_place(error: &RunError) -> bool {
    let is_refusal = |status: u16| {
        [
            StatusCode::BAD_REQUEST,
            StatusCode::NOT_FOUND,
            StatusCode::GONE,
            StatusCode::RANGE_NOT_SATISFIABLE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ]
        .iter()
        .any(|refusal| refusal.as_u16() == status)
    };
    let is_rejected = matches!(
        error.reason,
        RunReason::RequestRejected | RunReason::NotFound | RunReason::ItemGone | RunReason::PaginationUnreadable
    );
    error.restart || (is_rejected && error.http_status.is_some_and(is_refusal))
}
