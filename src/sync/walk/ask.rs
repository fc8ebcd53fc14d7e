//! Asking the provider: the requests of a walk, and the account that the records are on.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::Walk;
use crate::domain::time::Mono;
use crate::ledger::Window;
use crate::provider::call::{Answer, Request};
use crate::provider::classify::Class;
use crate::provider::profile::{CurrencySource, Pagination, TokenTarget};
use crate::sync::cursor;
use crate::sync::key::account_token;
use crate::sync::metrics::Stage;
use crate::sync::page;
use crate::sync::record::{AccountInfo, read_currency};
use crate::sync::report::{RunReason, Stop, refused};

/// A run that would wait longer than this for its next page ends, gives its lease back, and is started again in time.
const MAX_INLINE_WAIT: Duration = Duration::from_secs(10);

impl Walk<'_> {
    /// The request for the page that `window` stands before.
    pub(super) fn request(&self, window: &Window) -> Result<Request, Stop> {
        let (stream, parameters) = (&self.stream, &self.partition.parameters);
        let invalid = |_| Stop::from(RunReason::ParameterInvalid);
        let mut request = Request::get(self.plan.stream_name.as_str(), stream.path.path(parameters).map_err(invalid)?);
        for (name, value) in &stream.query {
            // Without a value the parameter is left out.
            if let Ok(value) = value.value(parameters) {
                request = request.with_query(name, value);
            }
        }
        if let Some(range) = &stream.window {
            let (from, to) = cursor::ends(window, self.grain, range).map_err(|_| RunReason::CursorUnreadable)?;
            request = request.with_query(&range.from, from);
            if let Some(name) = &range.to {
                request = request.with_query(name, to);
            }
        }
        let place = match &stream.pagination {
            Pagination::Page { parameter, .. } | Pagination::Offset { parameter, .. } => {
                Some((parameter, self.asked(window)))
            }
            // The first page is asked for without.
            Pagination::Token { to: TokenTarget::Query { parameter }, .. }
            | Pagination::LastRecordId { parameter, .. } => window.page_token.clone().map(|token| (parameter, token)),
            _ => None,
        };
        if let Some((parameter, value)) = place {
            request = request.with_query(parameter, value);
        }
        if let Some((parameter, size)) = stream.pagination.page_size() {
            request = request.with_query(parameter, size.to_string());
        }
        Ok(self.traced(request, &format!("page/{}", window.page_no)))
    }

    /// The number or the place of the page that `window` stands before.
    pub(super) fn asked(&self, window: &Window) -> String {
        match (&window.page_token, &self.stream.pagination) {
            (Some(token), _) => token.clone(),
            (None, Pagination::Page { first, .. } | Pagination::Offset { first, .. }) => first.to_string(),
            // A page that has no number is the one after a token; the first one is after none.
            (None, _) => String::new(),
        }
    }

    /// Where a walk that was broken off goes on: one page before its place, because the list may have shifted.
    pub(super) fn one_page_back(&self, window: Window) -> Window {
        let (first, step) = match self.stream.pagination {
            Pagination::Page { first, .. } => (first, 1),
            Pagination::Offset { first, size, .. } => (first, size),
            // What comes after a token stays there, whatever is put before it.
            _ => return window,
        };
        match window.page_token.as_deref().and_then(|token| token.parse::<u64>().ok()) {
            Some(place) if place > first => {
                let back = place.saturating_sub(step).max(first);
                Window { page_token: Some(back.to_string()), page_no: window.page_no.saturating_sub(1), ..window }
            }
            _ => window,
        }
    }

    /// The account: its token, its masked number, and its currency where the records carry none.
    pub(super) async fn account(&self) -> Result<AccountInfo, Stop> {
        let (stream, parameters) = (&self.stream, &self.partition.parameters);
        let id = match &stream.account {
            Some(account) => parameters.get(&account.parameter).cloned().ok_or(RunReason::ParameterInvalid)?,
            None => String::new(),
        };
        let token = account_token(&self.plan.job.namespace, &self.plan.connection, &id);
        let mut info = AccountInfo { token, shown: self.plan.mask.account(&id), currency: None };
        let Some(CurrencySource::Join { path, pointers }) = stream.money.as_ref().map(|money| &money.currency) else {
            return Ok(info);
        };
        let path = path.path(parameters).map_err(|_| RunReason::ParameterInvalid)?;
        let operation = format!("{}.account", self.plan.stream_name);
        let answer = self.call(self.traced(Request::get(operation, path), "account")).await?;
        let body = page::json(&answer)?;
        let text = |pointer: &String| body.pointer(pointer).and_then(serde_json::Value::as_str);
        info.currency = pointers.iter().filter_map(text).find_map(read_currency);
        if info.currency.is_none() {
            // Guessing two digits would be wrong by a factor of a hundred for some.
            return Err(RunReason::CurrencyUnknown.into());
        }
        let numbers = stream.account.iter().flat_map(|account| &account.number);
        if let Some(number) = numbers.filter_map(text).find(|number| !number.trim().is_empty()) {
            info.shown = self.plan.mask.account(number.trim());
        }
        Ok(info)
    }

    /// A child id per request, so that the provider's support can find one page of a run.
    fn traced(&self, mut request: Request, what: &str) -> Request {
        let child = Uuid::new_v5(&self.cx.run.0, format!("{}/{what}", self.partition.name).as_bytes());
        let header = HeaderName::from_bytes(self.plan.correlation.as_bytes());
        if let (Ok(name), Ok(value)) = (header, HeaderValue::from_str(&child.to_string())) {
            request.headers.insert(name, value);
        }
        // An account is counted apart wherever it is asked about; longer waits are the next run's.
        let account =
            self.stream.account.as_ref().and_then(|account| self.partition.parameters.get(&account.parameter));
        request.partition = Some(account.unwrap_or(&self.partition.name).as_str().into());
        request.json = true;
        request.max_wait = Some(MAX_INLINE_WAIT);
        request
    }

    /// One call, given up when the run is. Any answer but what was asked for is a stop.
    pub(super) async fn call(&self, request: Request) -> Result<Answer, Stop> {
        let began = self.cx.clock.mono();
        let answer = tokio::select! {
            biased;
            () = self.cx.cancel.cancelled() => return Err(RunReason::StopRequested.into()),
            () = self.cx.clock.sleep_until(self.deadline) => return Err(RunReason::RunTimeout.into()),
            answer = self.cx.fetch.fetch(request) => answer.map_err(|error| Stop::from(&error)),
        };
        let answer = answer.and_then(|answer| {
            let good = answer.reading.class == Class::Ok;
            if good { Ok(answer) } else { Err(refused(&answer, self.cx.clock.now().wall)) }
        });
        self.observe(Stage::Fetch, began, answer.as_ref().err().copied());
        answer
    }

    /// Notes how long a stage took and how it ended.
    pub(super) fn observe(&self, stage: Stage, began: Mono, stop: Option<Stop>) {
        let took: Duration = self.cx.clock.mono().since(began);
        self.cx.metrics.stage(stage, took.as_secs_f64(), stop.map(|stop| stop.reason.as_str()));
    }
}
