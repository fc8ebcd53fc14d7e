//! A collector of traces: takes OTLP/HTTP in protobuf, keeps the spans, and shows them.
//!
//! It can fail on purpose, because an exporter must bear that. A span is kept as plain text and numbers, so that a test
//! can also look for what must not be in it.

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
    /// What happened.
    pub name: String,
    /// `INTERNAL`, `SERVER`, `CLIENT`, …
    pub kind: String,
    /// What is said of it, every value as text.
    pub attributes: BTreeMap<String, String>,
    /// Why it failed, where it did.
    pub failure: Option<String>,
    /// Start and end, in nanoseconds since 1970.
    pub nanos: (u64, u64),
    /// What is said of the process.
    pub resource: BTreeMap<String, String>,
}

/// What has arrived.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    spans: Vec<Span>,
    bodies: Vec<Bytes>,
    requests: u64,
    answer: Option<StatusCode>,
}

/// A running collector. It ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    _ends: DropGuard,
}

impl Collector {
    /// Listens on a free loopback port.
    pub async fn start() -> Result<Self, SimError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failed = |source| SimError::Listen { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let kept = Arc::<Mutex<Kept>>::default();
        let router = router(Arc::clone(&kept));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                ended = axum::serve(listener, router) => tracing::error!(?ended, "the collector has ended"),
            }
        });
        Ok(Self { address, kept, _ends: stop.drop_guard() })
    }

    /// What `--otlp-endpoint` must be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span so far, in the order of arrival: a child comes before its parent, which ends later.
    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// The spans of this name.
    pub fn named(&self, name: &str) -> Vec<Span> {
        self.lock().spans.iter().filter(|span| span.name == name).cloned().collect()
    }

    /// Every byte that has arrived, for whoever looks for what must not be there.
    pub fn bytes(&self) -> Vec<Bytes> {
        self.lock().bodies.clone()
    }

    /// How often something was sent, taken or not.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Answers with this status from now on and keeps nothing; with `None`, takes what comes.
    pub fn refuse_with(&self, status: Option<StatusCode>) {
        self.lock().answer = status;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes traces, and shows and forgets them: also part of the simulator's control API.
pub(crate) fn router(kept: Arc<Mutex<Kept>>) -> Router {
    Router::new().route("/v1/traces", post(take)).route("/traces", get(show).delete(forget)).with_state(kept)
}

/// A span with the name of its parent, where that has arrived too.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    span: Span,
    parent_name: Option<String>,
}

/// Which spans are shown.
#[derive(Deserialize)]
struct Wanted {
    name: Option<String>,
}

async fn show(State(kept): State<Arc<Mutex<Kept>>>, Query(wanted): Query<Wanted>) -> Json<Vec<Shown>> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = |span: &Span| {
        let is = |other: &&Span| other.trace_id == span.trace_id && other.span_id == span.parent_id;
        kept.spans.iter().find(is).map(|other| other.name.clone())
    };
    let spans = kept.spans.iter().filter(|span| wanted.name.as_ref().is_none_or(|name| *name == span.name));
    Json(spans.map(|span| Shown { parent_name: parent(span), span: span.clone() }).collect())
}

async fn forget(State(kept): State<Arc<Mutex<Kept>>>) -> StatusCode {
    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    StatusCode::NO_CONTENT
}

async fn take(State(kept): State<Arc<Mutex<Kept>>>, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.requests += 1;
    if let Some(status) = kept.answer {
        return (status, Vec::new());
    }
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/x-protobuf") {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Vec::new());
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else {
        return (StatusCode::BAD_REQUEST, Vec::new());
    };
    kept.bodies.push(body);
    for part in request.resource_spans {
        let resource = part.resource.map(|r| texts(r.attributes)).unwrap_or_default();
        let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
        kept.spans.extend(spans.map(|span| read(span, &resource)));
    }
    // An empty message: everything was taken.
    (StatusCode::OK, Vec::new())
}

fn read(span: proto::Span, resource: &BTreeMap<String, String>) -> Span {
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
