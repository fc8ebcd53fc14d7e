//! From a response to rows, documents and dead letters, within the memory that is reserved for them.
//!
//! A page is parsed record by record, on a thread for such work if it is large: neither the tree of a whole response
//! exists, nor does a long page occupy the runtime.

use std::sync::Arc;

use http::StatusCode;

use super::Walk;
use super::cycle_guard::CycleGuard;
use super::parsed_page::{ParsedPage, page_error};
use crate::domain::document::DocumentRecord;
use crate::domain::mask::MaskRules;
use crate::domain::record::{DeadLetter, Granularity, TransactionRecord};
use crate::domain::rejection_reason::RejectionReason;
use crate::domain::run_reason::RunReason;
use crate::ledger::{DocumentKind, SyncWindow};
use crate::profile::json_text;
use crate::profile::{EmptyForm, RecordKind, ResponseClass, Stream};
use crate::provider::call::Response;
use crate::provider::memory::MAX_PAGE_BYTES;
use crate::sync::account_tokens::TokenKey;
use crate::sync::context::RunTotals;
use crate::sync::key::{Duplicates, Ordinals, dedupe, dedupe_documents};
use crate::sync::page::{self, Page, Record};
use crate::sync::paging::PageRequest;
use crate::sync::record::{AccountInfo, RecordParser, Rejection, dead_letter, dead_letter_of_text};
use crate::sync::report::RunError;

/// Rejected records of a page that are within any budget but none: one bad record of a short page is a dead letter, not
/// drift.
const BUDGET_FLOOR: usize = 5;
/// The fewest records of a page none of which is valid that are drift.
const MIN_JUDGED_RECORDS: usize = 3;

/// What the records of a page are converted with.
struct Converter {
    stream: Arc<Stream>,
    account: AccountInfo,
    mask: MaskRules,
    granularity: Granularity,
    token_key: TokenKey,
    /// Most rejected records, in percent.
    budget_percent: u8,
    page_no: u32,
}

/// The records of a page, converted.
struct Converted {
    rows: Vec<TransactionRecord>,
    documents: Vec<DocumentRecord>,
    dead_letters: Vec<DeadLetter>,
    rejected: u64,
    duplicates: Duplicates,
    /// The reason, if more were rejected than may be.
    too_many: Option<RunReason>,
    /// The reason and the field of the first that was rejected.
    first_rejection: Option<String>,
    ordinals: Ordinals,
}

impl Walk<'_> {
    /// Parses the response to the request for the page at `position`, and converts its records.
    pub(super) async fn transform(
        &self,
        response: &Response,
        window: &SyncWindow,
        account: &AccountInfo,
        guard: &mut CycleGuard,
        totals: &mut RunTotals,
    ) -> Result<ParsedPage, RunError> {
        if let Some(form) = empty_form(response) {
            let page = ParsedPage { pages: 1, ..ParsedPage::default() };
            let is_empty_list = self.stream.empty_as.contains(&form);
            let drifted = || page_error(RunReason::SchemaDrifted, response, &self.stream);
            return if is_empty_list { Ok(page) } else { Err(drifted()) };
        }
        let (bytes, memory) = (response.body.len(), &response.memory);
        let body = self.body_text(response).await?;
        let (stream, position) = (Arc::clone(&self.stream), self.page_position(window));
        let read_before = self.read_before(window, &position);
        let total_before = window.total;
        let parse = move || page::parse(&body, &stream, PageRequest { position: &position, read_before, total_before });
        let page = memory.run(bytes, parse).await.map_err(|_| RunReason::InternalError)?;
        let page = page.map_err(|reason| page_error(reason, response, &self.stream))?;
        if page.records == 0 {
            // An empty list, and what stands for one, must not hide an error.
            let error = page_error(RunReason::SchemaDrifted, response, &self.stream);
            if error.reason == RunReason::ErrorInBody {
                return Err(error);
            }
        }
        if page.memory() > MAX_PAGE_BYTES {
            return Err(RunReason::AnswerTooLarge.into());
        }
        let reserved = tokio::select! {
            biased;
            () = self.cx.cancel.cancelled() => return Err(RunReason::StopRequested.into()),
            () = self.cx.clock.sleep_until(self.deadline) => return Err(RunReason::RunTimeout.into()),
            reserved = memory.reserve_page(page.memory()) => reserved.map_err(|_| RunReason::MemoryExhausted)?,
        };
        let (fetched, next, total) = (page.records as u64, page.next.clone(), page.total);
        let rules = self.converter(account, window);
        let ordinals = std::mem::take(&mut guard.ordinals);
        let result = memory.run(bytes, move || rules.convert(&page, ordinals)).await;
        let converted = result
            .map_err(|_| RunReason::InternalError)?
            .map_err(|reason| page_error(reason, response, &self.stream))?;
        if converted.too_many.is_some() || self.plan.dry_run {
            totals.counts.fetched += fetched;
            totals.counts.rejected += converted.rejected;
        }
        if let Some(reason) = converted.too_many {
            // Incomplete bank data is worse than late data: the page is not committed.
            let first = converted.first_rejection.unwrap_or_default();
            let detail = format!("{} of {fetched} records rejected, the first for {first}", converted.rejected);
            let error = RunError::from(reason).with_detail(detail);
            return Err(RunError { http_status: Some(response.status.as_u16()), ..error });
        }
        if self.plan.dry_run {
            totals.duplicates += converted.duplicates.dropped;
            totals.counts.conflicting += converted.duplicates.conflicting;
        }
        let Converted { rows, documents, dead_letters, duplicates, ordinals, .. } = converted;
        guard.ordinals = ordinals;
        if guard.ordinals.is_full() {
            return Err(RunReason::AnswerTooLarge.into());
        }
        Ok(ParsedPage {
            rows,
            documents,
            dead_letters,
            pages: 1,
            fetched,
            duplicates,
            next,
            total,
            _reserved: reserved,
        })
    }

    fn converter(&self, account: &AccountInfo, window: &SyncWindow) -> Converter {
        Converter {
            stream: Arc::clone(&self.stream),
            account: account.clone(),
            mask: self.plan.mask.clone(),
            granularity: self.granularity,
            token_key: self.token_key.clone(),
            budget_percent: self.plan.dead_letter_budget_percent,
            page_no: window.page_no,
        }
    }
}

impl Converter {
    /// Converts records to rows or documents. What is rejected beyond the budget is only counted.
    fn convert(&self, page: &Page, mut ordinals: Ordinals) -> Result<Converted, RunReason> {
        let Self { stream, account, mask, granularity, .. } = self;
        let parser = RecordParser { stream, account, mask, granularity: *granularity };
        let (mut rows, mut documents, mut dead_letters) = (Vec::new(), Vec::new(), Vec::new());
        let (mut index, mut rejected, mut first_rejection) = (0_u32, 0_usize, None);
        page.each_record(|record| {
            let letter = match record {
                Record::TooLarge(text) => Some(dead_letter_of_text(text, index, self.page_no)),
                Record::Parsed(value) | Record::Repaired(value) => {
                    let is_repaired = matches!(record, Record::Repaired(_));
                    let check = |key: &str| self.check_key(key, is_repaired);
                    let mut document = |kind| {
                        let document = parser.document(value, kind)?;
                        check(&document.key).map(|()| documents.push(document))
                    };
                    let read = match stream.record {
                        RecordKind::Transaction => {
                            parser.row(value).and_then(|row| check(&row.key).map(|()| rows.push(row)))
                        }
                        RecordKind::Collateral => document(DocumentKind::Collateral),
                        RecordKind::Document => document(DocumentKind::Document),
                    };
                    read.err().map(|rejection| dead_letter(value, rejection, index, self.page_no))
                }
            };
            if let Some(letter) = letter {
                rejected += 1;
                first_rejection.get_or_insert_with(|| match letter.path.as_str() {
                    "" => letter.reason.to_string(),
                    path => format!("{} at {path}", letter.reason),
                });
                if !self.is_over_budget(rejected, page.records) {
                    // Keyed: the rejected record could be guessed.
                    let fingerprint = self.token_key.digest("record", &letter.fingerprint);
                    dead_letters.push(DeadLetter { fingerprint, ..letter });
                }
            }
            index = index.saturating_add(1);
        })?;
        let (rows, duplicate_rows) = dedupe(rows, &mut ordinals);
        let (documents, duplicate_documents) = dedupe_documents(documents, &mut ordinals);
        Ok(Converted {
            rows,
            documents,
            dead_letters,
            rejected: rejected as u64,
            duplicates: duplicate_rows + duplicate_documents,
            too_many: self.too_many(rejected, page.records),
            first_rejection,
            ordinals,
        })
    }
    /// An ID with a replaced character could be that of another record.
    fn check_key(&self, key: &str, is_repaired: bool) -> Result<(), Rejection> {
        if is_repaired && key.contains(json_text::REPLACEMENT) {
            return Err(Rejection { reason: RejectionReason::KeyInvalid, path: self.stream.key.clone() });
        }
        Ok(())
    }

    /// Why a page with so many rejected records is not committed, if it is not.
    fn too_many(&self, rejected: usize, records: usize) -> Option<RunReason> {
        if self.budget_percent < 100 && rejected == records && records >= MIN_JUDGED_RECORDS {
            return Some(RunReason::SchemaDrifted);
        }
        self.is_over_budget(rejected, records).then_some(RunReason::DeadLetterBudgetExceeded)
    }

    /// A budget of nothing allows none; one of everything, all.
    fn is_over_budget(&self, rejected: usize, records: usize) -> bool {
        let floor = if self.budget_percent == 0 { 0 } else { BUDGET_FLOOR };
        let budget = usize::from(self.budget_percent);
        budget < 100 && rejected > floor && rejected * 100 > budget * records
    }
}

/// What a response without a page stands for, if it does for an empty list.
fn empty_form(response: &Response) -> Option<EmptyForm> {
    match response.status {
        _ if response.classification.class == ResponseClass::NotFound => Some(EmptyForm::NotFound),
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => Some(EmptyForm::NoContent),
        _ if response.body.trim_ascii().is_empty() => Some(EmptyForm::EmptyBody),
        _ => None,
    }
}
