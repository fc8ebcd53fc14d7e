//! From a response to rows, documents and dead letters, within the memory that is reserved for them.
//!
//! A page is parsed record by record, on a thread for such work if it is large: neither the tree of a whole response
//! exists, nor does a long page occupy the runtime.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::Walk;
use super::link;
use super::parsed_page::{PageFailure, ParsedPage, page_error};
use crate::domain::run_reason::RunReason;
use crate::ledger::SyncWindow;
use crate::profile::{EmptyForm, Pagination, ResponseClass, TokenSource};
use crate::provider::call::Response;
use crate::provider::memory::MAX_PAGE_BYTES;
use crate::sync::account_scope::AccountScope;
use crate::sync::convert::{Converter, ConverterWindow};
use crate::sync::cursor;
use crate::sync::key::Ordinals;
use crate::sync::page;
use crate::sync::paging::{NextPage, PageRequest};
use crate::sync::record::AccountInfo;
use crate::sync::report::RunError;

impl Walk<'_> {
    /// Parses the response to the request for the page at `position`, and converts its records.
    pub(super) async fn transform(
        &self,
        response: &Response,
        window: &SyncWindow,
        account: &AccountInfo,
        ordinals: &mut Ordinals,
    ) -> Result<ParsedPage, PageFailure> {
        if let Some(form) = empty_form(response) {
            let page = ParsedPage { pages: 1, ..ParsedPage::default() };
            let is_empty_list = self.stream.empty_as.contains(&form);
            let drifted = || page_error(RunReason::SchemaDrifted, response, &self.stream);
            return if is_empty_list { Ok(page) } else { Err(drifted().into()) };
        }
        let (bytes, memory) = (response.body.len(), &response.memory);
        let body = self.body_text(response).await?;
        let (stream, position) = (Arc::clone(&self.stream), self.page_position(window));
        let read_before = self.read_before(window, &position);
        let total_before = window.total;
        let header = self.header_statement(response);
        let parse = move || {
            let header = header.as_deref();
            page::parse(&body, &stream, PageRequest { position: &position, read_before, total_before, header })
        };
        let page = memory.run(bytes, parse).await.map_err(|_| RunReason::InternalError)?;
        let page = page.map_err(|reason| page_error(reason, response, &self.stream))?;
        if page.records == 0 {
            // An empty list, and what stands for one, must not hide an error.
            let error = page_error(RunReason::SchemaDrifted, response, &self.stream);
            if error.reason == RunReason::ErrorInBody {
                return Err(error.into());
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
        let (fetched, total, token) = (page.records as u64, page.total, page.token.clone());
        let available = page.available;
        let (has_blank_token, (next, link_problem)) =
            (page.has_blank_token, self.next_place(page.next.clone(), window)?);
        let rules = self.converter(account, window);
        let counted = std::mem::take(ordinals);
        let result = memory.run(bytes, move || rules.convert(&page, counted)).await;
        let converted = result
            .map_err(|_| RunReason::InternalError)?
            .map_err(|reason| page_error(reason, response, &self.stream))?;
        if let Some(reason) = converted.too_many {
            // Incomplete bank data is worse than late data: the page is not committed.
            let first = converted.first_rejection.unwrap_or_default();
            let detail = format!("{} of {fetched} records rejected, the first for {first}", converted.rejected);
            let error = RunError::from(reason).with_detail(detail);
            let error = RunError { http_status: Some(response.status.as_u16()), ..error };
            return Err(PageFailure { fetched, rejected: converted.rejected, ..PageFailure::from(error) });
        }
        *ordinals = converted.ordinals;
        if ordinals.is_full() {
            return Err(RunReason::AnswerTooLarge.into());
        }
        Ok(ParsedPage {
            rows: converted.rows,
            documents: converted.documents,
            records: converted.records,
            removed: converted.removed,
            pending: converted.pending,
            times: converted.times,
            dead_letters: converted.dead_letters,
            pages: 1,
            fetched,
            rejected: converted.rejected,
            duplicates: converted.duplicates,
            next,
            token,
            has_blank_token,
            link_problem,
            total,
            available,
            took: Duration::ZERO,
            raw: None,
            _reserved: reserved,
        })
    }

    /// What the headers of a response say about the next page, where the stream declares one of them: a token, or the
    /// target of a link.
    fn header_statement(&self, response: &Response) -> Option<String> {
        let values = |name: &str| response.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        match &self.stream.pagination {
            Pagination::Token { from: TokenSource::Header { name }, .. } => values(name).next().map(str::to_owned),
            Pagination::LinkHeader { rel, .. } => link::header_target(values("link"), rel).map(str::to_owned),
            _ => None,
        }
    }

    /// The place of the next page, where the response links to it: what is stored of the link, or why it is not used.
    fn next_place(&self, next: NextPage, window: &SyncWindow) -> Result<(NextPage, Option<String>), RunError> {
        let (Pagination::NextUrl { link: used, .. } | Pagination::LinkHeader { link: used, .. }) =
            &self.stream.pagination
        else {
            return Ok((next, None));
        };
        let NextPage::At(target) = &next else { return Ok((next, None)) };
        match link::position(target, used, &self.page_path(window)?, &self.plan.endpoint) {
            Ok(place) => Ok((NextPage::At(place), None)),
            Err(error) => Ok((NextPage::Unreadable, Some(error.to_string()))),
        }
    }

    /// The key of tokens, and what they are scoped by.
    pub(super) fn scope(&self) -> AccountScope {
        AccountScope {
            key: self.token_key.clone(),
            namespace: self.plan.job.namespace.to_string(),
            connection: self.plan.connection.clone(),
        }
    }

    /// What the records of a page of `window` are converted with.
    fn converter(&self, account: &AccountInfo, window: &SyncWindow) -> Converter {
        let scope = self.scope();
        let from = cursor::parse_cursor(&window.from, self.granularity).ok();
        let window = ConverterWindow { from, page_no: window.page_no, granularity: self.granularity };
        Converter::new(self.plan, Arc::clone(&self.stream), account.clone(), scope, window)
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
