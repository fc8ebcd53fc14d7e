//! The spans of the call path: `provider.call` per call, `provider.try` per try, `provider.token` per token request
//! that a call started; and `gateway.request`, the parent of the calls that a gateway request makes.
//!
//! A span contains only what is listed here: our own names and codes, an HTTP status, and parameters that the profile
//! declares public (a ticker, never an account). No URL, no header, no text of the provider's, no error message. No
//! trace header is sent to the provider: our trace IDs are internal.
//!
//! Parents are found through OpenTelemetry's context, so the layers in between need no code for it. While tracing is
//! off, a layer here is one comparison, without an allocation.

use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::Either;
use http::{HeaderMap, StatusCode};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::Service;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::breaker::CallClass;
use crate::provider::auth::token_response::TokenError;
use crate::provider::call::{CallError, Request, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::monitor::ConnectionMonitor;
use crate::settings::Settings;
use crate::telemetry::traces::Traces;

/// The `status` attribute of a call without an HTTP status, as in the legacy metrics.
pub const NO_STATUS: &str = "error";

/// The outermost layer: one span per call, whatever its result.
#[derive(Clone)]
pub(crate) struct TraceService<S> {
    inner: S,
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
}

impl<S> TraceService<S> {
    pub(crate) fn new(inner: S, monitor: Arc<ConnectionMonitor>, settings: Arc<Settings>) -> Self {
        Self { inner, monitor, settings }
    }
}

impl<S> Service<Request> for TraceService<S>
where
    S: Service<Request, Response = Response, Error = CallError, Future: Future<Output = End> + Send + 'static>,
{
    type Response = Response;
    type Error = CallError;
    type Future = Either<S::Future, CallFuture>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(spans) = SpanFactory::of(self.monitor.traces(), self.monitor.clock()) else {
            return Either::Left(self.inner.call(request));
        };
        let key = self.monitor.key();
        let mut attributes = vec![
            KeyValue::new("provider", self.settings.provider().to_owned()),
            KeyValue::new("endpoint", Arc::clone(&request.operation)),
            KeyValue::new("namespace", key.namespace.to_string()),
            KeyValue::new("connection", key.name.to_string()),
            KeyValue::new("class", class(request.class)),
        ];
        for (name, value) in &request.trace_parameters {
            attributes.push(match name.as_str() {
                "symbol" => KeyValue::new("symbol", value.clone()),
                other => KeyValue::new(format!("parameter.{other}"), value.clone()),
            });
        }
        let cx = spans.start("provider.call", SpanKind::Internal, attributes, &Context::current());
        // The inner services build their futures in `call`: the span must be attached there already.
        let inner = {
            let _attached = cx.clone().attach();
            self.inner.call(request)
        };
        Either::Right(spans.record(cx, inner, call_result).boxed())
    }
}

/// Just inside the retry layer: one span per try, if the call has a span.
#[derive(Clone)]
pub(crate) struct TryTraceService<S> {
    inner: S,
}

impl<S> TryTraceService<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: CallService> Service<CallContext> for TryTraceService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = Either<S::Future, CallFuture>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, ctx: CallContext) -> Self::Future {
        let Some(spans) = SpanFactory::current() else { return Either::Left(self.inner.call(ctx)) };
        let cx = spans.start("provider.try", SpanKind::Client, Vec::new(), &Context::current());
        let inner = {
            let _attached = cx.clone().attach();
            self.inner.call(ctx)
        };
        Either::Right(spans.record(cx, inner, try_result).boxed())
    }
}

/// Keeps the current span attached to a future that several callers may poll.
pub(crate) fn with_current_span<F: Future>(shared: F) -> impl Future<Output = F::Output> {
    if SpanFactory::current().is_none() {
        return Either::Left(shared);
    }
    Either::Right(shared.with_current_context())
}

/// Runs a token request in a span, as a child of the current call's span; without one, runs just the request. Must be
/// called in the task that starts the request; the future may then run in another task.
pub(crate) fn token_request<T, F>(request: F) -> impl Future<Output = Result<T, TokenError>>
where
    F: Future<Output = Result<T, TokenError>>,
{
    let Some(spans) = SpanFactory::current() else { return Either::Left(request) };
    let cx = spans.start("provider.token", SpanKind::Client, Vec::new(), &Context::current());
    Either::Right(spans.record(cx, request, |end: &Result<T, TokenError>| match end {
        Ok(_) => SpanResult { status: Some("200".to_owned()), attributes: Vec::new(), failure: None },
        Err(TokenError { error, .. }) => {
            let status = match error {
                CallError::CredentialsRefused { status } => Some(*status),
                CallError::NoToken { status, .. } => *status,
                _ => None,
            };
            let status = status.map_or_else(|| NO_STATUS.to_owned(), |status| status.to_string());
            SpanResult { status: Some(status), ..error_result(error) }
        }
    }))
}

/// What the span of an incoming request shows of it.
#[derive(Copy, Clone, Debug)]
pub struct IncomingRequest<'a> {
    /// The method.
    pub method: &'static str,
    /// The route template, never the path.
    pub route: &'a str,
    /// The correlation ID.
    pub id: Uuid,
}

/// The `gateway.request` span of an incoming request, a child of the caller's span (W3C `traceparent`).
pub struct IncomingSpan(Option<(SpanFactory, Context)>);

impl IncomingSpan {
    /// Reads the parent from the request headers.
    pub fn from_headers(traces: &Traces, clock: Clock, headers: &HeaderMap) -> Self {
        Self(SpanFactory::of(traces, clock).map(|spans| {
            let extractor = HeaderExtractor(headers);
            (spans, TraceContextPropagator::new().extract_with_context(&Context::new(), &extractor))
        }))
    }

    /// Serves the request within the span; `status` returns the response status.
    pub fn serve<F: Future>(
        self,
        request: &IncomingRequest<'_>,
        serving: F,
        status: impl FnOnce(&F::Output) -> StatusCode,
    ) -> impl Future<Output = F::Output> {
        let Some((spans, parent)) = self.0 else { return Either::Left(serving) };
        let attributes = vec![
            KeyValue::new("http.request.method", request.method),
            KeyValue::new("http.route", request.route.to_owned()),
            KeyValue::new("request_id", request.id.to_string()),
        ];
        let cx = spans.start("gateway.request", SpanKind::Server, attributes, &parent);
        Either::Right(spans.record(cx, serving, move |response| {
            let status = status(response);
            SpanResult {
                status: Some(status.as_str().to_owned()),
                attributes: Vec::new(),
                failure: status.is_server_error().then_some("server_error"),
            }
        }))
    }
}

/// The result of a call.
type End = Result<Response, CallError>;

/// What the result of a call adds to its span.
struct SpanResult {
    status: Option<String>,
    attributes: Vec<KeyValue>,
    failure: Option<&'static str>,
}

fn call_result(end: &End) -> SpanResult {
    let mut result = try_result(end);
    if let Ok(response) = end {
        let tries = i64::from(response.meta.tries);
        result.attributes.push(KeyValue::new("tries", tries));
        result.attributes.push(KeyValue::new("cached", response.meta.cached));
        result.attributes.push(KeyValue::new("stale", response.meta.stale));
    }
    result
}

fn try_result(end: &End) -> SpanResult {
    match end {
        Ok(response) => SpanResult {
            status: Some(response.status.as_str().to_owned()),
            attributes: Vec::new(),
            failure: (response.status.is_client_error() || response.status.is_server_error()).then_some("http_status"),
        },
        Err(error) => error_result(error),
    }
}

fn error_result(error: &CallError) -> SpanResult {
    SpanResult { status: Some(NO_STATUS.to_owned()), attributes: Vec::new(), failure: Some(error.code()) }
}

const fn class(class: CallClass) -> &'static str {
    match class {
        CallClass::Probe => "Probe",
        CallClass::Read => "Read",
        CallClass::Write => "Write",
        CallClass::Money => "Money",
    }
}

/// Creates spans with the timestamps of our clock; stored in the context of every span it created.
#[derive(Clone)]
struct SpanFactory {
    traces: Traces,
    clock: Clock,
}

impl SpanFactory {
    fn of(traces: &Traces, clock: Clock) -> Option<Self> {
        traces.tracer().is_some().then(|| Self { traces: traces.clone(), clock })
    }

    /// Those of the current span.
    fn current() -> Option<Self> {
        Context::map_current(|cx| cx.get::<Self>().cloned())
    }

    fn wall(&self) -> SystemTime {
        self.clock.now().wall.into()
    }

    /// Starts a span; returns the context for what runs within it.
    fn start(&self, name: &'static str, kind: SpanKind, attributes: Vec<KeyValue>, parent: &Context) -> Context {
        let Some(tracer) = self.traces.tracer() else { return parent.clone() };
        let builder =
            tracer.span_builder(name).with_kind(kind).with_start_time(self.wall()).with_attributes(attributes);
        let span = builder.start_with_context(tracer, parent);
        parent.with_span(span).with_value(self.clone())
    }

    /// Runs `inner` within the span and ends it with what `read_end` returns. A dropped future ends its span without a
    /// result.
    fn record<F: Future>(
        self,
        cx: Context,
        inner: F,
        read_end: impl FnOnce(&F::Output) -> SpanResult,
    ) -> impl Future<Output = F::Output> {
        let started = self.clock.mono();
        async move {
            let outcome = inner.with_context(cx.clone()).await;
            let result = read_end(&outcome);
            let span = cx.span();
            if let Some(status) = result.status {
                span.set_attribute(KeyValue::new("status", status));
            }
            span.set_attribute(KeyValue::new("latency_ms", millis(self.clock.mono().since(started))));
            span.set_attributes(result.attributes);
            if let Some(code) = result.failure {
                span.set_attribute(KeyValue::new("error", code));
                span.set_status(Status::error(code));
            }
            span.end_with_timestamp(self.wall());
            outcome
        }
    }
}

fn millis(elapsed: Duration) -> i64 {
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
