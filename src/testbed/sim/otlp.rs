//! A trace collector: receives OTLP/HTTP in protobuf, stores the spans and returns them.
//!
//! It can reject exports, to test that an exporter tolerates it. Spans are stored as plain text and numbers, so that a
//! test can also search for what they must not contain.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::testbed::sim::error::SimError;

/// One span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The parent's span id; empty for a root.
    pub parent_id: String,
    /// Name of the operation.
    pub name: String,
    /// `INTERNAL`, `SERVER`, `CLIENT`, …
    pub kind: String,
    /// Attributes, every value as text.
    pub attributes: BTreeMap<String, String>,
    /// Status message of a failed span.
    pub failure: Option<String>,
    /// Start and end, in nanoseconds since 1970.
    pub nanos: (u64, u64),
    /// Attributes of the process.
    pub resource: BTreeMap<String, String>,
}

/// The received exports.
#[derive(Debug, Default)]
pub(crate) struct ReceivedTraces {
    spans: Vec<Span>,
    bodies: Vec<Bytes>,
    requests: u64,
    rejection: Option<StatusCode>,
}

/// A running collector. Dropping it stops it.
#[derive(Debug)]
pub struct TraceCollector {
    address: SocketAddr,
    received: Arc<Mutex<ReceivedTraces>>,
    _stop: DropGuard,
}

impl TraceCollector {
    /// Starts a collector on a free loopback port.
    pub async fn start() -> Result<Self, SimError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failed = |source| SimError::Listen { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let received = Arc::<Mutex<ReceivedTraces>>::default();
        let router = router(Arc::clone(&received));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                result = axum::serve(listener, router) => tracing::error!(?result, "trace collector stopped"),
            }
        });
        Ok(Self { address, received, _stop: stop.drop_guard() })
    }

    /// The value for `--otlp-endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans in order of arrival: a child precedes its parent, which ends later.
    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// The spans with this name.
    pub fn spans_named(&self, name: &str) -> Vec<Span> {
        self.lock().spans.iter().filter(|span| span.name == name).cloned().collect()
    }

    /// All received bodies, to search for what they must not contain.
    pub fn bytes(&self) -> Vec<Bytes> {
        self.lock().bodies.clone()
    }

    /// Number of export requests, accepted or rejected.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Rejects exports with this status from now on; `None` accepts them.
    pub fn reject_with(&self, status: Option<StatusCode>) {
        self.lock().rejection = status;
    }

    fn lock(&self) -> MutexGuard<'_, ReceivedTraces> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives, returns and deletes traces; also part of the simulator's control API.
pub(crate) fn router(received: Arc<Mutex<ReceivedTraces>>) -> Router {
    Router::new().route("/v1/traces", post(receive)).route("/traces", get(list).delete(clear)).with_state(received)
}

/// A span with the name of its parent, if the parent has arrived.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanView {
    #[serde(flatten)]
    span: Span,
    parent_name: Option<String>,
}

/// The query of `GET /traces`.
#[derive(Deserialize)]
struct SpanFilter {
    name: Option<String>,
}

async fn list(
    State(received): State<Arc<Mutex<ReceivedTraces>>>,
    Query(filter): Query<SpanFilter>,
) -> Json<Vec<SpanView>> {
    let received = received.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = |span: &Span| {
        let is = |other: &&Span| other.trace_id == span.trace_id && other.span_id == span.parent_id;
        received.spans.iter().find(is).map(|other| other.name.clone())
    };
    let spans = received.spans.iter().filter(|span| filter.name.as_ref().is_none_or(|name| *name == span.name));
    Json(spans.map(|span| SpanView { parent_name: parent(span), span: span.clone() }).collect())
}

async fn clear(State(received): State<Arc<Mutex<ReceivedTraces>>>) -> StatusCode {
    *received.lock().unwrap_or_else(PoisonError::into_inner) = ReceivedTraces::default();
    StatusCode::NO_CONTENT
}

async fn receive(
    State(received): State<Arc<Mutex<ReceivedTraces>>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    received.requests += 1;
    if let Some(status) = received.rejection {
        return (status, Vec::new());
    }
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/x-protobuf") {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Vec::new());
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else {
        return (StatusCode::BAD_REQUEST, Vec::new());
    };
    received.bodies.push(body);
    for part in request.resource_spans {
        let resource = part.resource.map(|r| texts(r.attributes)).unwrap_or_default();
        let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
        received.spans.extend(spans.map(|span| convert(span, &resource)));
    }
    // An empty message means that all spans were accepted.
    (StatusCode::OK, Vec::new())
}

fn convert(span: proto::Span, resource: &BTreeMap<String, String>) -> Span {
    let kind = span.kind().as_str_name().trim_start_matches("SPAN_KIND_").to_owned();
    let failed = span.status.filter(|status| status.code() == proto::status::StatusCode::Error);
    Span {
        trace_id: hex::encode(&span.trace_id),
        span_id: hex::encode(&span.span_id),
        parent_id: hex::encode(&span.parent_span_id),
        name: span.name,
        kind,
        attributes: texts(span.attributes),
        failure: failed.map(|status| status.message),
        nanos: (span.start_time_unix_nano, span.end_time_unix_nano),
        resource: resource.clone(),
    }
}

fn texts(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, pair.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
