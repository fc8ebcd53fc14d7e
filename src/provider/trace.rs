//! The call path's spans: `provider.call` for each call, `provider.try` for each try, `provider.token` for each token
//! request that a call began; and `gateway.request`, the parent of the calls that a caller of the gateway causes.
//!
//! A span carries what is written here and no more: our own names and codes, an HTTP status, and parameters that the
//! profile calls public (a ticker, never an account). No URL, no header, no text of the provider's, no message of an error.
//! Nothing is sent to the provider: a bank has no business with our trace ids.
//!
//! Who began what travels in OpenTelemetry's own context, so that layers between need not know. While traces are off a
//! layer here is one comparison, and nothing is allocated.

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
use crate::provider::auth::fetch::NotFetched;
use crate::provider::call::{Answer, CallError, Request};
use crate::provider::deadline::{Calling, Inner, Timed};
use crate::provider::observe::Core;
use crate::provider::settings::Settings;
use crate::telemetry::traces::Traces;

/// What a span says of a call that has no HTTP status, like the compatibility series.
pub const NO_STATUS: &str = "error";

/// The outermost layer: one span for each call, whatever becomes of it.
#[derive(Clone)]
pub(crate) struct Traced<S> {
    inner: S,
    core: Arc<Core>,
    settings: Arc<Settings>,
}

impl<S> Traced<S> {
    pub(crate) fn new(inner: S, core: Arc<Core>, settings: Arc<Settings>) -> Self {
        Self { inner, core, settings }
    }
}

impl<S> Service<Request> for Traced<S>
where
    S: Service<Request, Response = Answer, Error = CallError, Future: Future<Output = Ended> + Send + 'static>,
{
    type Response = Answer;
    type Error = CallError;
    type Future = Either<S::Future, Calling>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(spans) = Spans::of(self.core.traces(), self.core.clock()) else {
            return Either::Left(self.inner.call(request));
        };
        let key = self.core.key();
        let mut attributes = vec![
            KeyValue::new("provider", self.settings.provider().to_owned()),
            KeyValue::new("endpoint", Arc::clone(&request.operation)),
            KeyValue::new("namespace", key.namespace.to_string()),
            KeyValue::new("connection", key.name.to_string()),
            KeyValue::new("class", class(request.class)),
        ];
        for (name, value) in &request.public {
            attributes.push(match name.as_str() {
                "symbol" => KeyValue::new("symbol", value.clone()),
                other => KeyValue::new(format!("parameter.{other}"), value.clone()),
            });
        }
        let cx = spans.start("provider.call", SpanKind::Internal, attributes, &Context::current());
        // What is inside builds its future in `call`: it must see the span there already.
        let inside = {
            let _attached = cx.clone().attach();
            self.inner.call(request)
        };
        Either::Right(spans.watch(cx, inside, end_of_call).boxed())
    }
}

/// Just inside the retry layer: one span for each try. Silent where the call has none.
#[derive(Clone)]
pub(crate) struct TracedTry<S> {
    inner: S,
}

impl<S> TracedTry<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: Inner> Service<Timed> for TracedTry<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = Either<S::Future, Calling>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, timed: Timed) -> Self::Future {
        let Some(spans) = Spans::current() else { return Either::Left(self.inner.call(timed)) };
        let cx = spans.start("provider.try", SpanKind::Client, Vec::new(), &Context::current());
        let inside = {
            let _attached = cx.clone().attach();
            self.inner.call(timed)
        };
        Either::Right(spans.watch(cx, inside, end_of_try).boxed())
    }
}

/// What several callers may poll stays within the call that began it.
pub(crate) fn carried<F: Future>(shared: F) -> impl Future<Output = F::Output> {
    if Spans::current().is_none() {
        return Either::Left(shared);
    }
    Either::Right(shared.with_current_context())
}

/// A request for a token, as a child of the call that began it; without a call that is traced, just the request. Must be
/// called by whoever begins it; the future may then run in a task of its own.
pub(crate) fn token<T, F>(request: F) -> impl Future<Output = Result<T, NotFetched>>
where
    F: Future<Output = Result<T, NotFetched>>,
{
    let Some(spans) = Spans::current() else { return Either::Left(request) };
    let cx = spans.start("provider.token", SpanKind::Client, Vec::new(), &Context::current());
    Either::Right(spans.watch(cx, request, |end: &Result<T, NotFetched>| match end {
        Ok(_) => Said { status: Some("200".to_owned()), attributes: Vec::new(), failure: None },
        Err(NotFetched { error, .. }) => {
            let status = match error {
                CallError::CredentialsRefused { status } => Some(*status),
                CallError::NoToken { status, .. } => *status,
                _ => None,
            };
            let status = status.map_or_else(|| NO_STATUS.to_owned(), |status| status.to_string());
            Said { status: Some(status), ..refusal(error) }
        }
    }))
}

/// A request that came to the gateway: within a span `gateway.request` whose parent is its caller's (W3C `traceparent`).
pub struct Incoming(Option<(Spans, Context)>);

impl Incoming {
    /// Reads whose child it is.
    pub fn of(traces: &Traces, clock: Clock, headers: &HeaderMap) -> Self {
        Self(Spans::of(traces, clock).map(|spans| {
            let extractor = HeaderExtractor(headers);
            (spans, TraceContextPropagator::new().extract_with_context(&Context::new(), &extractor))
        }))
    }

    /// Serves it within the span. `route` is the template, never the path; `status` reads the outcome.
    pub fn serve<F: Future>(
        self,
        (method, route, id): (&'static str, &str, Uuid),
        serving: F,
        status: impl FnOnce(&F::Output) -> StatusCode,
    ) -> impl Future<Output = F::Output> {
        let Some((spans, parent)) = self.0 else { return Either::Left(serving) };
        let attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("request_id", id.to_string()),
        ];
        let cx = spans.start("gateway.request", SpanKind::Server, attributes, &parent);
        Either::Right(spans.watch(cx, serving, move |answer| {
            let status = status(answer);
            Said {
                status: Some(status.as_str().to_owned()),
                attributes: Vec::new(),
                failure: status.is_server_error().then_some("server_error"),
            }
        }))
    }
}

/// How a call ends.
type Ended = Result<Answer, CallError>;

/// What the end adds to a span.
struct Said {
    status: Option<String>,
    attributes: Vec<KeyValue>,
    failure: Option<&'static str>,
}

fn end_of_call(end: &Ended) -> Said {
    let mut said = end_of_try(end);
    if let Ok(answer) = end {
        let tries = i64::from(answer.meta.tries);
        said.attributes.push(KeyValue::new("tries", tries));
        said.attributes.push(KeyValue::new("cached", answer.meta.cached));
        said.attributes.push(KeyValue::new("stale", answer.meta.stale));
    }
    said
}

fn end_of_try(end: &Ended) -> Said {
    match end {
        Ok(answer) => Said {
            status: Some(answer.status.as_str().to_owned()),
            attributes: Vec::new(),
            failure: (answer.status.is_client_error() || answer.status.is_server_error()).then_some("http_status"),
        },
        Err(error) => refusal(error),
    }
}

fn refusal(error: &CallError) -> Said {
    Said { status: Some(NO_STATUS.to_owned()), attributes: Vec::new(), failure: Some(error.code()) }
}

const fn class(class: CallClass) -> &'static str {
    match class {
        CallClass::Probe => "Probe",
        CallClass::Read => "Read",
        CallClass::Write => "Write",
        CallClass::Money => "Money",
    }
}

/// What makes spans, on our clock; carried in the context of every span it made.
#[derive(Clone)]
struct Spans {
    traces: Traces,
    clock: Clock,
}

impl Spans {
    fn of(traces: &Traces, clock: Clock) -> Option<Self> {
        traces.tracer().is_some().then(|| Self { traces: traces.clone(), clock })
    }

    /// Those of the span that we are in.
    fn current() -> Option<Self> {
        Context::map_current(|cx| cx.get::<Self>().cloned())
    }

    fn wall(&self) -> SystemTime {
        self.clock.now().wall.into()
    }

    /// A span that has begun, as a context for what happens within it.
    fn start(&self, name: &'static str, kind: SpanKind, attributes: Vec<KeyValue>, parent: &Context) -> Context {
        let Some(tracer) = self.traces.tracer() else { return parent.clone() };
        let builder =
            tracer.span_builder(name).with_kind(kind).with_start_time(self.wall()).with_attributes(attributes);
        let span = builder.start_with_context(tracer, parent);
        parent.with_span(span).with_value(self.clone())
    }

    /// Runs `inside` within the span and ends it with what `end` reads. A future that is dropped ends its span without
    /// an outcome: nobody knows one.
    fn watch<F: Future>(
        self,
        cx: Context,
        inside: F,
        end: impl FnOnce(&F::Output) -> Said,
    ) -> impl Future<Output = F::Output> {
        let began = self.clock.mono();
        async move {
            let outcome = inside.with_context(cx.clone()).await;
            let said = end(&outcome);
            let span = cx.span();
            if let Some(status) = said.status {
                span.set_attribute(KeyValue::new("status", status));
            }
            span.set_attribute(KeyValue::new("latency_ms", millis(self.clock.mono().since(began))));
            span.set_attributes(said.attributes);
            if let Some(code) = said.failure {
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
