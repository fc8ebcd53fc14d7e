//! The innermost layer: one try over HTTP.
//!
//! Bodies are read whole, up to the call's limit. Errors are mapped by [`http_error`] at once, so that neither a URL
//! (with a key in its query) nor the provider's text can travel further.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use reqwest::Url;
use reqwest::header::HOST;
use tower::Service;

use crate::clock::Clock;
use crate::profile::{Classification, ResponseClass, ResponseView, json};
use crate::provider::body;
use crate::provider::call::{CallError, Request, Response, ResponseMeta};
use crate::provider::call_context::{CallContext, CallFuture};
use crate::provider::http_clients::HttpClient;
use crate::provider::http_error;
use crate::provider::timeout;
use crate::settings::Settings;

/// Sends one request to the provider.
#[derive(Clone)]
pub(crate) struct HttpService {
    client: HttpClient,
    clock: Clock,
    settings: Arc<Settings>,
}

impl HttpService {
    pub(crate) fn new(client: HttpClient, clock: Clock, settings: Arc<Settings>) -> Self {
        Self { client, clock, settings }
    }

    fn request(&self, client: &HttpClient, request: Request) -> Result<reqwest::RequestBuilder, CallError> {
        let url = request_url(self.settings.base_url(), &request.path, &request.query)?;
        let (url, host) = client.request_target(url)?;
        let http = client.http()?;
        let constant = self.settings.profile().constant_headers().clone();
        let mut builder = http.request(request.method, url).headers(constant).headers(request.headers);
        if let Some(host) = host {
            builder = builder.header(HOST, host);
        }
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        Ok(builder)
    }
}

impl Service<CallContext> for HttpService {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let (clock, settings) = (self.clock, Arc::clone(&self.settings));
        let (limit, expect_json) = (ctx.request.max_body, ctx.request.expect_json);
        let request = self.request(ctx.client.as_ref().unwrap_or(&self.client), ctx.request);
        async move {
            let started = clock.mono();
            let timeouts = settings.timeouts();
            let request = request?;
            let response = timeout::head(timeouts.first_byte_timeout(), request.send()).await?;
            let response = response.map_err(|error| http_error::call_error(&error))?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = body::read(response, limit, timeouts.read_timeout()).await?;
            let now = clock.now();
            let (classification, meta) = (Classification::default(), ResponseMeta::default());
            let elapsed = now.mono.since(started);
            let mut response = Response { status, headers, body, elapsed, classification, meta };
            let view = ResponseView::new(response.status.as_u16(), &response.headers, &response.body);
            response.classification = settings.profile().classify(&view, now.wall);
            // A proxy's page, or a body cut short without a length: the next try may return the real one.
            if expect_json && response.classification.class == ResponseClass::Ok && json::check(&response.body).is_err()
            {
                response.classification.class = ResponseClass::Retry;
            }
            Ok(response)
        }
        .boxed()
    }
}

/// The URL of a request: the base URL's path, then the request's; never another origin, never above the base path.
fn request_url(base: &Url, path: &str, query: &[(String, String)]) -> Result<Url, CallError> {
    let (path, own_query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if !path.starts_with('/') || path.contains('#') || own_query.is_some_and(|query| query.contains('#')) {
        return Err(CallError::InvalidRequest("the path must start with / and have no fragment"));
    }
    // The URL standard treats an encoded dot as a dot, and a backslash as a slash.
    let has_dot_segments = path.split(['/', '\\']).any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    });
    if has_dot_segments || path.contains('\\') {
        return Err(CallError::InvalidRequest("the path must not contain . or .. segments or a backslash"));
    }
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(own_query.filter(|query| !query.is_empty()));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, path: &str, query: &[(&str, &str)]) -> Result<String, CallError> {
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        request_url(&Url::parse(base).unwrap(), path, &query).map(String::from)
    }

    #[test]
    fn path_is_appended_to_the_base_url() {
        assert_eq!(joined("https://bank.test/v2/", "/accounts", &[]).unwrap(), "https://bank.test/v2/accounts");
        assert_eq!(
            joined("https://bank.test:8443", "/a?limit=1", &[("page", "2"), ("q", "a b&c")]).unwrap(),
            "https://bank.test:8443/a?limit=1&page=2&q=a+b%26c"
        );
    }

    #[test]
    fn path_cannot_leave_the_base_url() {
        for bad in ["accounts", "/../x", "/a/%2e%2E/x", "/a/./b", "/a#b", "/a\\..\\b", "", "/a?b#c"] {
            assert!(matches!(joined("https://bank.test/v2", bad, &[]), Err(CallError::InvalidRequest(_))), "{bad}");
        }
        assert_eq!(joined("https://bank.test", "//evil.test/x", &[]).unwrap(), "https://bank.test//evil.test/x");
        assert_eq!(joined("https://bank.test", "/@evil.test", &[]).unwrap(), "https://bank.test/@evil.test");
    }
}
