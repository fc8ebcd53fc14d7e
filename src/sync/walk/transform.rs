//! From a response to rows, documents and dead letters, within the memory that is reserved for them.
//!
//! A page is parsed record by record, on a thread for such work if it is large: neither the tree of a whole response
//! exists, nor does a long page occupy the runtime.

use std::sync::Arc;

use super::Walk;
use super::cycle_guard::CycleGuard;
use super::parsed_page::{ParsedPage, page_error};
use crate::domain::document::DocumentRecord;
use crate::domain::mask::MaskRules;
use crate::domain::record::{DeadLetter, Granularity, TransactionRecord};
use crate::domain::run_reason::RunReason;
use crate::ledger::{DocumentKind, SyncWindow};
use crate::profile::{RecordKind, Stream};
use crate::provider::call::Response;
use crate::provider::memory::MAX_PAGE_BYTES;
use crate::sync::account_tokens::TokenKey;
use crate::sync::context::RunTotals;
use crate::sync::key::{Duplicates, Ordinals, dedupe, dedupe_documents};
use crate::sync::page::{self, Page, Record};
use crate::sync::record::{AccountInfo, RecordParser, dead_letter, dead_letter_of_text};
use crate::sync::report::RunError;

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
    /// More were rejected than the budget allows.
    over_budget: bool,
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
        let (bytes, memory) = (response.body.len(), &response.memory);
        let (body, stream, position) = (response.body.clone(), Arc::clone(&self.stream), self.page_position(window));
        let parse = move || page::parse(&body, &stream, &position);
        let page = memory.run(bytes, parse).await.map_err(|_| RunReason::InternalError)?;
        let page = page.map_err(|reason| page_error(reason, response, &self.stream))?;
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
        let converted = result.map_err(|_| RunReason::InternalError)?.map_err(|reason| page_error(reason, response, &self.stream))?;
        if converted.over_budget || self.plan.dry_run {
            totals.counts.fetched += fetched;
            totals.counts.rejected += converted.rejected;
        }
        if converted.over_budget {
            // Incomplete bank data is worse than late data: the page is not committed.
            let first = converted.first_rejection.unwrap_or_default();
            let detail = format!("{} of {fetched} records rejected, the first for {first}", converted.rejected);
            let error = RunError::from(RunReason::SchemaDrifted).with_detail(detail);
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
        let budget = usize::from(self.budget_percent);
        let over_budget = |rejected: usize| budget < 100 && rejected * 100 > budget * page.records;
        page.each_record(|record| {
            let letter = match record {
                Record::TooLarge(text) => Some(dead_letter_of_text(text, index, self.page_no)),
                Record::Parsed(record) => {
                    let read = match stream.record {
                        RecordKind::Transaction => parser.row(record).map(|row| rows.push(row)),
                        RecordKind::Collateral => {
                            parser.document(record, DocumentKind::Collateral).map(|doc| documents.push(doc))
                        }
                        RecordKind::Document => {
                            parser.document(record, DocumentKind::Document).map(|doc| documents.push(doc))
                        }
                    };
                    read.err().map(|rejection| dead_letter(record, rejection, index, self.page_no))
                }
            };
            if let Some(letter) = letter {
                rejected += 1;
                first_rejection.get_or_insert_with(|| match letter.path.as_str() {
                    "" => letter.reason.to_string(),
                    path => format!("{} at {path}", letter.reason),
                });
                if !over_budget(rejected) {
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
            over_budget: over_budget(rejected),
            first_rejection,
            ordinals,
        })
    }
}
