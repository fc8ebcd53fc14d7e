//! Provider requests of a walk: pages, with their place and their body.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use uuid::Uuid;

use super::Walk;
use super::link;
use super::parsed_page::{PageFailure, ParsedPage};
use crate::domain::cursor::SyncWindow;
use crate::domain::run_reason::RunReason;
use crate::domain::time::Mono;
use crate::profile::json_text;
use crate::profile::{EmptyForm, Pagination, ResponseClass, TokenTarget, WindowPlace};
use crate::provider::call::{BodyTolerance, Request, Response};
use crate::provider::memory::FREE_BYTES;
use crate::sync::body_text::BodyText;
use crate::sync::cursor;
use crate::sync::key::Ordinals;
use crate::sync::metrics::Stage;
use crate::sync::record::AccountInfo;
use crate::sync::report::{RunError, error_from_response};

/// Longest wait for a rate limit or quota within a run. For a longer one the run ends and is retried later, so that it
/// does not hold its lease.
const MAX_INLINE_WAIT: Duration = Duration::from_secs(10);

impl Walk<'_> {
    /// The request for the next page of `window`.
    pub(super) fn page_request(&self, window: &SyncWindow) -> Result<Request, RunError> {
        let request = match &window.page_token {
            Some(link) if self.follows_link(window) => {
                // The link holds the whole query: path and query below the base URL, checked when it was stored.
                let request = Request::get(self.plan.stream_name.as_str(), link.as_str());
                self.with_body(request, None)
            }
            _ => self.built_request(window)?,
        };
        Ok(self.with_call_options(request, &format!("{}page/{}", self.request_prefix(), window.page_no)))
    }

    /// A request that is built from the stream's own path and query.
    fn built_request(&self, window: &SyncWindow) -> Result<Request, RunError> {
        let (stream, parameters) = (&self.stream, &self.partition.parameters);
        let mut request = Request::get(self.plan.stream_name.as_str(), self.stream_path(window)?);
        for (name, value) in &stream.query {
            // A parameter without a value is omitted.
            if let Ok(value) = value.value(parameters) {
                request = request.with_query(name, value);
            }
        }
        if let Some(range) = stream.window.as_ref().filter(|range| range.place == WindowPlace::Query) {
            let (from, to) =
                cursor::bounds(window, self.granularity, range).map_err(|_| RunReason::CursorUnreadable)?;
            request = request.with_query(&range.from, from);
            if let Some(name) = &range.to {
                request = request.with_query(name, to);
            }
        }
        if let Some((parameter, size)) = stream.pagination.page_size() {
            request = request.with_query(parameter, size.to_string());
        }
        // The first page has no token.
        let token = window.page_token.clone().or_else(|| self.loop_start.clone());
        match &stream.pagination {
            Pagination::Page { parameter, .. } | Pagination::Offset { parameter, .. } => {
                request = request.with_query(parameter, self.page_position(window));
            }
            Pagination::Token { to: TokenTarget::Query { parameter }, .. }
            | Pagination::LastRecordId { parameter, .. } => {
                if let Some(token) = token {
                    request = request.with_query(parameter, token);
                }
            }
            Pagination::Token { to: TokenTarget::Body { pointer }, .. } => {
                let field = token.map(|token| (pointer.as_str(), token));
                return Ok(self.with_body(request, field));
            }
            Pagination::NextUrl { .. } | Pagination::LinkHeader { .. } => {
                // What is taken from a link replaces what the stream itself sends.
                let of_link = window.page_token.as_deref().map(link::taken_parameters).unwrap_or_default();
                request.query = link::without(request.query, &of_link);
                request.query.extend(of_link);
            }
            Pagination::None => {}
        }
        Ok(self.with_body(request, None))
    }

    /// The stream's own path, in which the bounds of the window may be.
    fn stream_path(&self, window: &SyncWindow) -> Result<String, RunError> {
        let bounds = match &self.stream.window {
            Some(range) if range.place == WindowPlace::Path => {
                let bounds = cursor::bounds(window, self.granularity, range);
                Some(bounds.map_err(|_| RunError::from(RunReason::CursorUnreadable))?)
            }
            _ => None,
        };
        let bounds = bounds.as_ref().map(|(from, to)| (from.as_str(), to.as_str()));
        let values = self.stream.path_values(&self.partition.parameters, bounds);
        self.stream.path.path(&values).map_err(|_| RunReason::ParameterInvalid.into())
    }

    /// The path of the page at the place of `window`, with its query: links are relative to it.
    pub(super) fn page_path(&self, window: &SyncWindow) -> Result<String, RunError> {
        match &window.page_token {
            Some(link) if self.follows_link(window) => Ok(link.clone()),
            _ => self.stream_path(window),
        }
    }

    /// Adds the stream's body, if it has one, with a token at a pointer of it.
    fn with_body(&self, request: Request, token: Option<(&str, String)>) -> Request {
        let Some(body) = &self.stream.body else { return request };
        let (content_type, content) = body.expand(&self.stream.parameters, &self.partition.parameters, token);
        let mut request = Request { method: Method::POST, body: Some(content), ..request };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        request
    }

    /// Tells the requests of a resync from those of the incremental windows.
    fn request_prefix(&self) -> &'static str {
        if self.plan.resync.is_some() { "resync/" } else { "" }
    }

    /// Fetches and parses one page.
    pub(super) async fn fetch_page(
        &self,
        window: &SyncWindow,
        account: &AccountInfo,
        ordinals: &mut Ordinals,
    ) -> Result<ParsedPage, PageFailure> {
        let request = self.page_request(window)?;
        let began = self.cx.clock.mono();
        let response = self.call_for_page(request, window).await;
        let (parsing, took) = (self.cx.clock.mono(), self.cx.clock.mono().since(began));
        let response =
            response.map_err(|error| PageFailure { took, ..PageFailure::from(self.link_error(error, window)) })?;
        let parsed = self.transform(&response, window, account, ordinals).await;
        self.record_stage(Stage::Transform, parsing, parsed.as_ref().err().map(|failure| &failure.error));
        match parsed {
            Ok(page) => {
                let raw = self.raw_payload(&response, window, account).await?;
                Ok(ParsedPage { raw, took, ..page })
            }
            Err(failure) => Err(PageFailure { took, ..failure }),
        }
    }

    /// Adds an id per request, with which the provider's support can find one page of a run, and the call options.
    pub(super) fn with_call_options(&self, mut request: Request, what: &str) -> Request {
        let request_id = Uuid::new_v5(&self.cx.run.0, format!("{}/{what}", self.partition.name).as_bytes());
        let header = HeaderName::from_bytes(self.plan.request_id_header.as_bytes());
        if let (Ok(name), Ok(value)) = (header, HeaderValue::from_str(&request_id.to_string())) {
            request.headers.insert(name, value);
        }
        // Rate limits per account apply to all requests about the account; longer waits are left to the next run.
        let parameter = self.stream.account.as_ref().and_then(|account| account.parameter.as_ref());
        let account = parameter.and_then(|parameter| self.partition.parameters.get(parameter));
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

    /// Makes the call for a page. One that is classified as not found may stand for an empty list, but not behind a link
    /// of the provider.
    async fn call_for_page(&self, request: Request, window: &SyncWindow) -> Result<Response, RunError> {
        let not_found = self.stream.empty_as.contains(&EmptyForm::NotFound) && !self.follows_link(window);
        self.call_accepting(request, |class| {
            class == ResponseClass::Ok || (not_found && class == ResponseClass::NotFound)
        })
        .await
    }

    /// Makes one call, cancelled with the run. Any response not classified as success is an error.
    pub(super) async fn call(&self, request: Request) -> Result<Response, RunError> {
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
