//! Counts the requests to the API server, under client-go's name.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response, Uri};
use kube::client::Body;
use prometheus::IntCounterVec;
use tower::{Layer, Service};

use crate::metrics::{Metrics, MetricsError};

/// The `code` of a request without a response, as in client-go.
const NO_RESPONSE: &str = "<error>";

/// Adds [`CountRequests`] to a client.
#[derive(Clone)]
pub struct RequestCounter {
    requests: IntCounterVec,
    host: Arc<str>,
}

impl RequestCounter {
    /// Registers the counter; `server` is the API server's address.
    ///
    /// # Errors
    /// If the metric is registered already.
    pub fn new(metrics: &Metrics, server: &Uri) -> Result<Self, MetricsError> {
        let requests = metrics.counter(
            "rest_client_requests_total",
            "Requests to the API server, by status, method and host; code \"<error>\": no response, or none in time.",
            &["code", "method", "host"],
        )?;
        let host = server.authority().map_or_else(String::new, ToString::to_string);
        let counter = Self { requests, host: host.into() };
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH] {
            // 0 before the first error.
            counter.series(NO_RESPONSE, &method);
        }
        Ok(counter)
    }

    fn series(&self, code: &str, method: &Method) -> prometheus::IntCounter {
        self.requests.with_label_values(&[code, method.as_str(), &*self.host])
    }
}

impl<S> Layer<S> for RequestCounter {
    type Service = CountRequests<S>;

    fn layer(&self, inner: S) -> CountRequests<S> {
        CountRequests { inner, counter: self.clone() }
    }
}

/// Counts each request once, when its response has begun or its caller no longer waits for it.
#[derive(Clone)]
pub struct CountRequests<S> {
    inner: S,
    counter: RequestCounter,
}

impl<S, B> Service<Request<Body>> for CountRequests<S>
where
    S: Service<Request<Body>, Response = Response<B>> + 'static,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut counted = Counted { counter: self.counter.clone(), method: request.method().clone(), done: false };
        let response = self.inner.call(request);
        async move {
            let response = response.await;
            if let Ok(response) = &response {
                counted.done = true;
                counted.counter.series(response.status().as_str(), &counted.method).inc();
            }
            response
        }
        .boxed()
    }
}

/// A request; counted as one without a response if it is dropped before there is one.
struct Counted {
    counter: RequestCounter,
    method: Method,
    done: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.done {
            self.counter.series(NO_RESPONSE, &self.method).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

    async fn respond(request: Request<Body>) -> Result<Response<Body>, &'static str> {
        match request.uri().path() {
            "/broken" => Err("connection refused"),
            "/silent" => std::future::pending().await,
            "/missing" => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = http::StatusCode::NOT_FOUND;
                Ok(response)
            }
            _ => Ok(Response::new(Body::empty())),
        }
    }

    #[tokio::test]
    async fn requests_are_counted_by_status_and_those_without_a_response_as_errors() {
        let metrics = Metrics::new();
        let counter = RequestCounter::new(&metrics, &Uri::from_static("https://api.test:6443/prefix")).unwrap();
        let send = |method: Method, path: &'static str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            counter.layer(tower::service_fn(respond)).oneshot(request)
        };
        assert!(send(Method::GET, "/objects").await.is_ok());
        assert!(send(Method::PATCH, "/missing").await.is_ok());
        assert!(send(Method::GET, "/broken").await.is_err());
        assert!(send(Method::GET, "/silent").now_or_never().is_none(), "the caller's time-out drops it");
        let text = metrics.render().unwrap();
        for (code, method, count) in
            [("200", "GET", 1), ("404", "PATCH", 1), ("<error>", "GET", 2), ("<error>", "POST", 0)]
        {
            let labels = format!("{{code=\"{code}\",host=\"api.test:6443\",method=\"{method}\"}}");
            let line = format!("rest_client_requests_total{labels} {count}\n");
            assert!(text.contains(&line), "{line} {text}");
        }
    }
}
