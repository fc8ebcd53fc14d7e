//! Provider requests of a walk: pages, and the account that the records belong to.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::Walk;
use super::parsed_page::page_error;
use crate::domain::run_reason::RunReason;
use crate::domain::time::Mono;
use crate::ledger::SyncWindow;
use crate::profile::json_text;
use crate::profile::{Amounts, CurrencySource, EmptyForm, Pagination, ResponseClass, TokenTarget};
use crate::provider::call::{BodyTolerance, Request, Response};
use crate::provider::memory::FREE_BYTES;
use crate::sync::body_text::{self, BodyText};
use crate::sync::cursor;
use crate::sync::failure_detail;
use crate::sync::metrics::Stage;
use crate::sync::record::AccountInfo;
use crate::sync::report::{RunError, error_from_response};

/// Longest wait for a rate limit or quota within a run. For a longer one the run ends and is retried later, so that it
/// does not hold its lease.
const MAX_INLINE_WAIT: Duration = Duration::from_secs(10);

impl Walk<'_> {
    /// The request for the next page of `window`.
    pub(super) fn page_request(&self, window: &SyncWindow) -> Result<Request, RunError> {
        let (stream, parameters) = (&self.stream, &self.partition.parameters);
        let invalid = |_| RunError::from(RunReason::ParameterInvalid);
        let mut request = Request::get(self.plan.stream_name.as_str(), stream.path.path(parameters).map_err(invalid)?);
        for (name, value) in &stream.query {
            // A parameter without a value is omitted.
            if let Ok(value) = value.value(parameters) {
                request = request.with_query(name, value);
            }
        }
        if let Some(range) = &stream.window {
            let (from, to) =
                cursor::bounds(window, self.granularity, range).map_err(|_| RunReason::CursorUnreadable)?;
            request = request.with_query(&range.from, from);
            if let Some(name) = &range.to {
                request = request.with_query(name, to);
            }
        }
        let position = match &stream.pagination {
            Pagination::Page { parameter, .. } | Pagination::Offset { parameter, .. } => {
                Some((parameter, self.page_position(window)))
            }
            // The first page has no token.
            Pagination::Token { to: TokenTarget::Query { parameter }, .. }
            | Pagination::LastRecordId { parameter, .. } => window.page_token.clone().map(|token| (parameter, token)),
            _ => None,
        };
        if let Some((parameter, value)) = position {
            request = request.with_query(parameter, value);
        }
        if let Some((parameter, size)) = stream.pagination.page_size() {
            request = request.with_query(parameter, size.to_string());
        }
        Ok(self.with_call_options(request, &format!("page/{}", window.page_no)))
    }

    /// Page number, offset or token of the next page of `window`; empty for the first page of token pagination.
    pub(super) fn page_position(&self, window: &SyncWindow) -> String {
        match (&window.page_token, &self.stream.pagination) {
            (Some(token), _) => token.clone(),
            (None, Pagination::Page { first, .. } | Pagination::Offset { first, .. }) => first.to_string(),
            (None, _) => String::new(),
        }
    }

    /// Rewinds an interrupted window by one page, because the list may have shifted.
    pub(super) fn rewind_one_page(&self, window: SyncWindow) -> SyncWindow {
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
                let page_no = window.page_no.saturating_sub(1);
                SyncWindow { page_token: Some(back.to_string()), page_no, rows_in: read, ..window }
            }
            _ => window,
        }
    }

    /// The account: token, masked number, and its currency if the records hold none.
    pub(super) async fn account(&self) -> Result<AccountInfo, RunError> {
        let (stream, parameters) = (&self.stream, &self.partition.parameters);
        let id = match &stream.account {
            Some(account) => parameters.get(&account.parameter).cloned().ok_or_else(|| {
                let missing = format!("the parameter {} is missing", account.parameter);
                RunError::from(RunReason::ParameterInvalid).with_detail(missing)
            })?,
            None => String::new(),
        };
        let token = self.token_key.account(&self.plan.job.namespace, &self.plan.connection, &id);
        let mut info = AccountInfo { token, display: self.plan.mask.account(&id), currency: None };
        let Some(Amounts { currency: CurrencySource::Join { path, pointers }, minor_units, .. }) = &stream.money else {
            return Ok(info);
        };
        let path = path.path(parameters).map_err(|_| RunReason::ParameterInvalid)?;
        let operation = format!("{}.account", self.plan.stream_name);
        let request = Request::get(operation.as_str(), path);
        let response = self.call(self.with_call_options(request, "account")).await?;
        let numbers = stream.account.iter().flat_map(|account| &account.number);
        let wanted: Vec<String> = pointers.iter().chain(numbers).cloned().collect();
        let body = self.body_text(&response).await?;
        let read = move || body_text::texts(&body, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
        let texts = response.memory.run(response.body.len(), read).await.map_err(|_| RunReason::InternalError)?;
        let texts = texts.map_err(|reason| page_error(reason, &response, stream))?;
        let (currencies, numbers) = texts.split_at_checked(pointers.len()).unwrap_or_default();
        info.currency = currencies.iter().flatten().find_map(|text| minor_units.currency(text));
        if info.currency.is_none() {
            // A guessed exponent would be wrong by a factor of 100 for some currencies.
            let looked = failure_detail::no_currency(&operation, pointers);
            let error = RunError::from(RunReason::CurrencyUnknown).with_detail(looked);
            return Err(RunError { http_status: Some(response.status.as_u16()), ..error });
        }
        if let Some(number) = numbers.iter().flatten().find(|number| !number.trim().is_empty()) {
            info.display = self.plan.mask.account(number.trim());
        }
        Ok(info)
    }

    /// Adds an id per request, with which the provider's support can find one page of a run, and the call options.
    fn with_call_options(&self, mut request: Request, what: &str) -> Request {
        let request_id = Uuid::new_v5(&self.cx.run.0, format!("{}/{what}", self.partition.name).as_bytes());
        let header = HeaderName::from_bytes(self.plan.request_id_header.as_bytes());
        if let (Ok(name), Ok(value)) = (header, HeaderValue::from_str(&request_id.to_string())) {
            request.headers.insert(name, value);
        }
        // Rate limits per account apply to all requests about the account; longer waits are left to the next run.
        let account =
            self.stream.account.as_ref().and_then(|account| self.partition.parameters.get(&account.parameter));
        request.partition = Some(account.unwrap_or(&self.partition.name).as_str().into());
        request.expect_json = true;
        // A character that is not valid concerns its record; a list may be empty without being JSON.
        let empty = self.stream.empty_as.contains(&EmptyForm::EmptyBody);
        request.tolerance = BodyTolerance { characters: true, no_content: true, empty };
        request.max_wait = Some(MAX_INLINE_WAIT);
        request
    }

    /// The body of a response as a text, within the memory that is reserved for it.
    pub(super) async fn body_text(&self, response: &Response) -> Result<BodyText, RunError> {
        let (body, bytes, memory) = (response.body.clone(), response.body.len(), &response.memory);
        let failed = |_| RunError::from(RunReason::InternalError);
        let checked = body.clone();
        if memory.run(bytes, move || json_text::is_sound(&checked)).await.map_err(failed)? {
            return Ok(BodyText::sound(body));
        }
        let for_copy = memory.another();
        if bytes > FREE_BYTES {
            for_copy.grow_to(bytes).await.map_err(|_| RunReason::MemoryExhausted)?;
        }
        let original = body.clone();
        let copy = memory.run(bytes, move || Bytes::from(json_text::copy(&original))).await.map_err(failed)?;
        Ok(BodyText::repaired(body, for_copy.attach(copy)))
    }

    /// Makes the call for a page. One that is classified as not found may stand for an empty list.
    pub(super) async fn call_for_page(&self, request: Request) -> Result<Response, RunError> {
        let not_found = self.stream.empty_as.contains(&EmptyForm::NotFound);
        self.call_accepting(request, |class| {
            class == ResponseClass::Ok || (not_found && class == ResponseClass::NotFound)
        })
        .await
    }

    /// Makes one call, cancelled with the run. Any response not classified as success is an error.
    async fn call(&self, request: Request) -> Result<Response, RunError> {
        self.call_accepting(request, |class| class == ResponseClass::Ok).await
    }

    async fn call_accepting(
        &self,
        request: Request,
        accepts: impl Fn(ResponseClass) -> bool,
    ) -> Result<Response, RunError> {
        let began = self.cx.clock.mono();
        let response = tokio::select! {
            biased;
            () = self.cx.cancel.cancelled() => return Err(RunReason::StopRequested.into()),
            () = self.cx.clock.sleep_until(self.deadline) => return Err(RunReason::RunTimeout.into()),
            response = self.cx.fetch.fetch(request) => response.map_err(|error| RunError::from(&error)),
        };
        let response = response.and_then(|response| {
            let success = accepts(response.classification.class);
            if success { Ok(response) } else { Err(error_from_response(&response, self.cx.clock.now().wall)) }
        });
        self.record_stage(Stage::Fetch, began, response.as_ref().err());
        response
    }

    /// Records a stage's duration and outcome.
    pub(super) fn record_stage(&self, stage: Stage, began: Mono, error: Option<&RunError>) {
        let elapsed: Duration = self.cx.clock.mono().since(began);
        self.cx.metrics.stage(stage, elapsed.as_secs_f64(), error.map(|error| error.reason));
    }
}
