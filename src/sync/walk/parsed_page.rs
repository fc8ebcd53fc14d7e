//! A page after parsing: rows, documents and dead letters, ready to commit.

use std::time::Duration;

use crate::domain::document::DocumentRecord;
use crate::domain::record::{DeadLetter, TransactionRecord};
use crate::domain::records::{CanonicalRecord, PendingSnapshot, RemovedKey};
use crate::domain::run_reason::RunReason;
use crate::ledger::raw::RawPayload;
use crate::profile::Stream;
use crate::provider::call::Response;
use crate::provider::memory::PageReservation;
use crate::sync::available::Available;
use crate::sync::convert::PageTimes;
use crate::sync::failure_detail;
use crate::sync::key::Duplicates;
use crate::sync::paging::NextPage;
use crate::sync::report::RunError;

/// One parsed page. The default is an empty commit that only updates the cursor.
#[derive(Default)]
pub(super) struct ParsedPage {
    pub(super) rows: Vec<TransactionRecord>,
    pub(super) documents: Vec<DocumentRecord>,
    /// Records of the other kinds.
    pub(super) records: Vec<CanonicalRecord>,
    /// Records that the provider withdrew.
    pub(super) removed: Vec<RemovedKey>,
    /// All pending transactions of the account, if the page lists them.
    pub(super) pending: Option<PendingSnapshot>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// The body that it was read from, if it is stored.
    pub(super) raw: Option<RawPayload>,
    /// Cursor values of the records.
    pub(super) times: Option<PageTimes>,
    /// 1 for a page that was fetched.
    pub(super) pages: u64,
    pub(super) fetched: u64,
    /// Rejected records, including those beyond the budget.
    pub(super) rejected: u64,
    pub(super) duplicates: Duplicates,
    pub(super) next: NextPage,
    /// The token that the response returns, even where it says that no page follows.
    pub(super) token: Option<String>,
    /// Whether it returns a blank one.
    pub(super) has_blank_token: bool,
    /// Why the link to the next page is not used.
    pub(super) link_problem: Option<String>,
    pub(super) total: Option<u64>,
    /// The range that the provider says it can show.
    pub(super) available: Available,
    /// How long the response took.
    pub(super) took: Duration,
    /// The memory of all this, released when it is committed.
    pub(super) _reserved: PageReservation,
}

/// The error of a page, with what was read of it.
#[derive(Debug)]
pub(super) struct PageFailure {
    pub(super) error: RunError,
    /// Records of a page that is not committed.
    pub(super) fetched: u64,
    /// Those of them that were rejected.
    pub(super) rejected: u64,
    /// How long the response took.
    pub(super) took: Duration,
}

impl From<RunError> for PageFailure {
    fn from(error: RunError) -> Self {
        Self { error, fetched: 0, rejected: 0, took: Duration::ZERO }
    }
}

impl From<RunReason> for PageFailure {
    fn from(reason: RunReason) -> Self {
        RunError::from(reason).into()
    }
}

/// The error of a page that cannot be parsed: what was received, or where the stream's parts were looked for. The status
/// tells an error page from a truncated body.
pub(super) fn page_error(reason: RunReason, response: &Response, stream: &Stream) -> RunError {
    let (reason, detail) = match reason {
        RunReason::BodyUnreadable => (reason, Some(failure_detail::not_json(response))),
        RunReason::SchemaDrifted => match failure_detail::error_field(&response.body) {
            Some(field) => (RunReason::ErrorInBody, Some(format!("an error object, with field {field}"))),
            None if response.body.is_empty() => (reason, Some(failure_detail::received(response))),
            None => (reason, Some(failure_detail::no_list(stream))),
        },
        _ => (reason, None),
    };
    RunError { http_status: Some(response.status.as_u16()), detail: detail.map(Into::into), ..reason.into() }
}
