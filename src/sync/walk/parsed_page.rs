//! A page after parsing: rows, documents and dead letters, ready to commit.

use crate::domain::document::DocumentRecord;
use crate::domain::record::{DeadLetter, TransactionRecord};
use crate::domain::run_reason::RunReason;
use crate::profile::Stream;
use crate::provider::call::Response;
use crate::provider::memory::PageReservation;
use crate::sync::failure_detail;
use crate::sync::key::Duplicates;
use crate::sync::paging::NextPage;
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
    pub(super) duplicates: Duplicates,
    pub(super) next: NextPage,
    pub(super) total: Option<u64>,
    /// The memory of all this, released when it is committed.
    pub(super) _reserved: PageReservation,
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
