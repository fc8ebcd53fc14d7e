//! Traces over OTLP/HTTP, off unless a collector is named.
//!
//! The OpenTelemetry API is used as it is, not through `tracing`: only attributes that we name can be in a span, so a log
//! field that somebody adds never leaves the house as a by-product. Spans wait in a queue of fixed size; when the
//! collector is slow or gone they are dropped and counted, and no call ever waits for one.

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
use prometheus::IntCounter;
use reqwest::Url;
use tokio::runtime::Handle;

use crate::metrics::{Metrics, MetricsError};

/// Where OTLP/HTTP collectors take spans, below their address.
const PATH: &str = "v1/traces";
/// Spans that may wait: some seconds of a thousand calls a second, about 2 MiB.
const QUEUE: usize = 4_096;
/// Spans of one request to the collector.
const BATCH: usize = 512;
/// How long a span waits for company. Long enough to fill batches, short enough to see a call while one looks for it.
const DELAY: Duration = Duration::from_secs(1);
/// One request to the collector.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A collector's answer is a few bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Where spans go; by default nowhere, at no cost. Cloning shares it.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Inner>>);

struct Inner {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
}

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// Nothing that a collector can be at.
    #[error("must be the address of an OTLP/HTTP collector, such as http://collector:4318, without user or password")]
    Endpoint,
    /// The exporter cannot be built.
    #[error("traces: {0}")]
    Exporter(String),
    /// The counter of spans is somebody else's.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// Reads the address of a collector: `http` or `https`, credentials refused, `/v1/traces` added where it is missing.
pub fn collector(text: &str) -> Result<Url, TracesError> {
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

    /// Traces to the collector at `endpoint` (see [`collector`]), told apart from other replicas by `instance`. Needs a
    /// tokio runtime, in which requests to the collector run.
    pub fn to(endpoint: &Url, version: &'static str, instance: &str, metrics: &Metrics) -> Result<Self, TracesError> {
        let spans = metrics.counter(
            "busbar_trace_spans_total",
            "Spans of traces: ended, then exported to the collector or failed with it. The rest was dropped, the queue being full.",
            &["outcome"],
        )?;
        let [ended, exported, failed] =
            ["ended", "exported", "failed"].map(|outcome| spans.with_label_values(&[outcome]));
        let failure = |error: &dyn fmt::Display| TracesError::Exporter(error.to_string());
        let client = Client {
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(TIMEOUT)
                .build()
                .map_err(|error| failure(&error.without_url()))?,
            runtime: Handle::current(),
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
        let queue =
            BatchSpanProcessor::builder(Counting { inner: sender, exported, failed, failing: AtomicBool::new(false) })
                .with_batch_config(batches)
                .build();
        let resource = Resource::builder_empty()
            .with_service_name("busbar")
            .with_attribute(KeyValue::new("service.version", version))
            .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Ended { inner: queue, ended })
            // A caller of the gateway who does not trace his request does not want ours traced either.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("busbar");
        Ok(Self(Some(Arc::new(Inner { tracer, provider }))))
    }

    /// What makes spans, if anything does.
    pub fn tracer(&self) -> Option<&SdkTracer> {
        self.0.as_deref().map(|inner| &inner.tracer)
    }

    /// Sends what waits, for at most `patience`. No span is taken from then on.
    pub async fn close(&self, patience: Duration) {
        let Some(inner) = self.0.clone() else { return };
        // It waits for the exporter's thread, which waits for this runtime.
        let closed = tokio::task::spawn_blocking(move || inner.provider.shutdown_with_timeout(patience));
        if !matches!(closed.await, Ok(Ok(()))) {
            tracing::warn!("the last traces could not be sent");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.0.is_some()).finish()
    }
}

/// Counts spans on their way into the queue.
#[derive(Debug)]
struct Ended {
    inner: BatchSpanProcessor,
    ended: IntCounter,
}

impl SpanProcessor for Ended {
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

/// Counts spans on their way out of the process.
#[derive(Debug)]
struct Counting {
    inner: SpanExporter,
    exported: IntCounter,
    failed: IntCounter,
    /// Whether the last batch failed: the log tells of the turns only.
    failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let end = self.inner.export(batch).await;
        if end.is_ok() { &self.exported } else { &self.failed }.inc_by(spans);
        match (self.failing.swap(end.is_err(), Ordering::Relaxed), end.is_err()) {
            (false, true) => tracing::warn!("traces cannot be sent to the collector (--otlp-endpoint)"),
            (true, false) => tracing::info!("traces can be sent again"),
            _ => {}
        }
        end
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

/// The exporter's way out: our HTTP client, on our runtime. The exporter's own thread has none.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

/// The collector's answer is larger than any.
#[derive(Debug, thiserror::Error)]
#[error("the collector's answer is larger than {MAX_ANSWER} bytes")]
struct TooLarge;

type Sending<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(&'life0 self, request: http::Request<Bytes>) -> Sending<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let request = reqwest::Request::try_from(request.map(reqwest::Body::from))?;
            let mut response = http.execute(request).await.map_err(reqwest::Error::without_url)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() as u64 > MAX_ANSWER {
                    return Err(HttpError::from(TooLarge));
                }
            }
            let mut answer = http::Response::new(Bytes::from(body));
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(answer)
        });
        Box::pin(async move { sent.await? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_collector_gets_the_path_of_traces_once() {
        for (given, used) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://otlp.example/base/", "https://otlp.example/base/v1/traces"),
            ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"),
        ] {
            assert_eq!(collector(given).unwrap().as_str(), used);
        }
        for bad in ["collector:4318", "grpc://collector:4317", "", "http://u:p@collector", "http://c/?key=x"] {
            assert!(matches!(collector(bad), Err(TracesError::Endpoint)), "{bad}");
        }
    }

    #[test]
    fn off_is_the_default_and_makes_no_spans() {
        assert!(Traces::default().tracer().is_none() && Traces::off().tracer().is_none());
    }
}
