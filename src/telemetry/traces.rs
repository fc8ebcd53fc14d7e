//! Traces over OTLP/HTTP, off unless a collector is configured.
//!
//! Spans are made with the OpenTelemetry API directly, not through `tracing`: a span has only the attributes that we
//! name, so a new log field is never exported by accident. Spans wait in a queue of fixed size; when the collector is
//! slow or down they are dropped and counted, and no call ever waits for one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use prometheus::{IntCounter, IntCounterVec};
use reqwest::Url;
use tokio::runtime::Handle;

use crate::metrics::{Metrics, MetricsError};
use crate::tasks::TaskGroup;

/// Path of the OTLP/HTTP traces endpoint.
const PATH: &str = "v1/traces";
/// Capacity of the span queue: some seconds at a thousand calls per second, about 2 MiB.
const QUEUE: usize = 4_096;
/// Maximum spans per request to the collector.
const BATCH: usize = 512;
/// How long spans are batched: long enough to fill batches, short enough that a call shows up while it is being
/// debugged.
const DELAY: Duration = Duration::from_secs(1);
/// Timeout of one request to the collector.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size in bytes of a collector's response, which is normally a few bytes.
const MAX_RESPONSE: u64 = 64 * 1024;

/// Exporter of traces; disabled by default, at no cost. Cloning shares it.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Inner>>);

struct Inner {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    tasks: TaskGroup,
}

/// Traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// Not a valid collector URL.
    #[error("must be the URL of an OTLP/HTTP collector, such as http://collector:4318, without user or password")]
    Endpoint,
    /// The exporter cannot be built.
    #[error("traces: {0}")]
    Exporter(String),
    /// The span counter is already registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// Parses a collector's URL: `http` or `https`, without credentials; `/v1/traces` is added if missing.
pub fn parse_collector_url(text: &str) -> Result<Url, TracesError> {
    let mut url = Url::parse(text).map_err(|_| TracesError::Endpoint)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain || url.fragment().is_some() {
        return Err(TracesError::Endpoint);
    }
    if !url.path().ends_with(PATH) {
        let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

impl Traces {
    /// No traces.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Registers the counter of spans.
    ///
    /// # Errors
    /// If it is registered already.
    pub(crate) fn register(metrics: &Metrics) -> Result<IntCounterVec, MetricsError> {
        metrics.counter(
            "busbar_trace_spans_total",
            "Trace spans, by outcome: ended, then exported to the collector or failed; the rest was dropped (queue full).",
            &["outcome"],
        )
    }

    /// Exports to the collector at `endpoint` (see [`parse_collector_url`]); `instance` identifies this replica. Must
    /// be called inside a tokio runtime, on which requests to the collector run, as tasks of `tasks`.
    pub fn export_to(
        endpoint: &Url,
        version: &'static str,
        instance: &str,
        metrics: &Metrics,
        tasks: &TaskGroup,
    ) -> Result<Self, TracesError> {
        let spans = Self::register(metrics)?;
        let [ended, exported, failed] =
            ["ended", "exported", "failed"].map(|outcome| spans.with_label_values(&[outcome]));
        let failure = |error: &dyn fmt::Display| TracesError::Exporter(error.to_string());
        let client = CollectorClient {
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(TIMEOUT)
                .build()
                .map_err(|error| failure(&error.without_url()))?,
            runtime: Handle::current(),
            tasks: tasks.clone(),
        };
        let sender = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .with_retry_policy(RetryPolicy::recommended())
            .build()
            .map_err(|error| failure(&error))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let queue = BatchSpanProcessor::builder(CountingExporter {
            inner: sender,
            exported,
            failed,
            failing: AtomicBool::new(false),
        })
        .with_batch_config(batches)
        .build();
        let resource = Resource::builder_empty()
            .with_service_name("busbar")
            .with_attribute(KeyValue::new("service.version", version))
            .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(CountingProcessor { inner: queue, ended })
            // If a gateway caller's request is explicitly not sampled, ours is not either.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("busbar");
        Ok(Self(Some(Arc::new(Inner { tracer, provider, tasks: tasks.clone() }))))
    }

    /// The tracer; `None` if traces are disabled.
    pub fn tracer(&self) -> Option<&SdkTracer> {
        self.0.as_deref().map(|inner| &inner.tracer)
    }

    /// Exports the queued spans for at most `timeout`. Later spans are dropped.
    pub async fn close(&self, timeout: Duration) {
        let Some(inner) = self.0.clone() else { return };
        // The shutdown blocks on the exporter's thread, which needs this runtime.
        let tasks = inner.tasks.clone();
        let closed = tasks.spawn_blocking("trace flush", move || inner.provider.shutdown_with_timeout(timeout));
        if !matches!(tokio::time::timeout(timeout, closed).await, Ok(Ok(Ok(())))) {
            tracing::warn!("trace export timed out at shutdown; the last spans are lost");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.0.is_some()).finish()
    }
}

/// Counts spans as they end, before they are queued.
#[derive(Debug)]
struct CountingProcessor {
    inner: BatchSpanProcessor,
    ended: IntCounter,
}

impl SpanProcessor for CountingProcessor {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        self.ended.inc();
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts exported and failed spans.
#[derive(Debug)]
struct CountingExporter {
    inner: SpanExporter,
    exported: IntCounter,
    failed: IntCounter,
    /// Whether the last batch failed: only changes are logged.
    failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        if result.is_ok() { &self.exported } else { &self.failed }.inc_by(spans);
        match (self.failing.swap(result.is_err(), Ordering::Relaxed), result.is_err()) {
            (false, true) => {
                tracing::warn!("trace export failed: the collector (--otlp-endpoint) is unreachable or rejects spans");
            }
            (true, false) => tracing::info!("trace export succeeds again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// HTTP client of the exporter. Requests run on our runtime, because the exporter's own thread has none.
#[derive(Debug)]
struct CollectorClient {
    http: reqwest::Client,
    runtime: Handle,
    tasks: TaskGroup,
}

/// The collector's response exceeds [`MAX_RESPONSE`].
#[derive(Debug, thiserror::Error)]
#[error("the collector's response is larger than {MAX_RESPONSE} bytes")]
struct ResponseTooLarge;

type ResponseFuture<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for CollectorClient {
    fn send_bytes<'life0, 'async_trait>(&'life0 self, request: http::Request<Bytes>) -> ResponseFuture<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let http = self.http.clone();
        let sent = self.tasks.spawn_on(&self.runtime, "trace export", async move {
            let request = reqwest::Request::try_from(request.map(reqwest::Body::from))?;
            let mut response = http.execute(request).await.map_err(reqwest::Error::without_url)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() as u64 > MAX_RESPONSE {
                    return Err(HttpError::from(ResponseTooLarge));
                }
            }
            let mut result = http::Response::new(Bytes::from(body));
            *result.status_mut() = status;
            *result.headers_mut() = headers;
            Ok(result)
        });
        Box::pin(async move { sent.await? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_url_gets_the_traces_path_once() {
        for (given, used) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://otlp.example/base/", "https://otlp.example/base/v1/traces"),
            ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"),
        ] {
            assert_eq!(parse_collector_url(given).unwrap().as_str(), used);
        }
        for bad in ["collector:4318", "grpc://collector:4317", "", "http://u:p@collector", "http://c/?key=x"] {
            assert!(matches!(parse_collector_url(bad), Err(TracesError::Endpoint)), "{bad}");
        }
    }

    #[test]
    fn off_is_the_default_and_makes_no_spans() {
        assert!(Traces::default().tracer().is_none() && Traces::off().tracer().is_none());
    }
}
