//! A page after parsing: rows, documents and dead letters, ready to commit.

use crate::domain::document::DocumentRecord;
use crate::domain::record::{DeadLetter, TransactionRecord};
use crate::domain::run_reason::RunReason;
use crate::provider::call::Response;
use crate::provider::memory::PageReservation;
use crate::sync::report::RunError;

/// One parsed page. The default is an empty commit that only updates the cursor.
#[derive(Default)]
pub(super) struct ParsedPage {
    pub(super) rows: Vec<TransactionRecord>,
    pub(super) documents: Vec<DocumentRecord>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// 1 for a page that was fetched.
    pub(super) pages: u64,
    pub(super) fetched: u64,
    pub(super) duplicates: u64,
    pub(super) next: Option<String>,
    pub(super) total: Option<u64>,
    /// The memory of all this, released when it is committed.
    pub(super) _reserved: PageReservation,
}

/// The error of a page that cannot be parsed. The status tells an error page from a truncated body.
pub(super) fn page_error(reason: RunReason, response: &Response) -> RunError {
    let http_status = (reason == RunReason::BodyUnreadable).then(|| response.status.as_u16());
    RunError { http_status, ..reason.into() }
}
