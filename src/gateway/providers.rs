//! `/api/providers/{namespace}/{connection}/{operation}`: any operation of any provider, in one form.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::cluster::auth::{Act, Subject};
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::gateway::Gateway;
use crate::gateway::envelope::Envelope;
use crate::gateway::observe::RequestId;
use crate::gateway::operation::{Asked, Got, LONGEST_DEADLINE, run};
use crate::gateway::problem::{ErrorCode, Problem};

/// The header that chooses among the caller's licence profiles.
pub const RIGHTS_PROFILE: HeaderName = HeaderName::from_static("x-rights-profile");
/// The header of an answer that is past its time.
pub const DATA_STALE: HeaderName = HeaderName::from_static("x-data-stale");

/// The shortest deadline that leaves time for anything.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(100);
/// Parameters of one call: the profiles' operations have ten at most.
const MAX_PARAMETERS: usize = 64;

/// A provider's answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProviderAnswer {
    /// The canonical record, or the provider's own body (`shape=provider`, and operations without a canonical record).
    pub result: Value,
    /// How it came about.
    pub meta: AnswerMeta,
}

/// How an answer came about.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AnswerMeta {
    /// The provider of the connection that was called.
    #[schema(example = "fmp")]
    pub provider: String,
    /// The provider that answered; ends with `_fallback` if it stood in.
    #[schema(example = "polygon_fallback")]
    pub provider_used: String,
    /// The operation.
    #[schema(example = "quote")]
    pub endpoint: String,
    /// The HTTP status of the provider that answered.
    #[schema(minimum = 100, maximum = 599)]
    pub status_code: u16,
    /// Whether the answer was kept from an earlier call.
    pub cached: bool,
    /// Whether it is past its time, and given because there is no better one; `X-Data-Stale: true` says so too.
    pub stale: bool,
    /// How long the caller waited in the gateway.
    #[schema(minimum = 0)]
    pub latency_ms: u64,
}

/// Calls an operation that reads.
#[utoipa::path(
    get,
    path = "/api/providers/{namespace}/{connection}/{operation}",
    operation_id = "callProvider",
    tag = "providers",
    params(
        ("namespace" = String, Path, description = "Namespace of the connection"),
        ("connection" = String, Path, description = "Name of the connection"),
        ("operation" = String, Path, description = "The operation, by its name in the provider's profile", example = "quote"),
        ("parameters" = Option<BTreeMap<String, String>>, Query, style = Form, explode, description = "The operation's parameters, each as a query parameter of its own name"),
        ("shape" = Option<Shape>, Query, description = "`provider` answers the provider's own body, `canonical` (the default) the canonical record where there is one"),
        ("purpose" = Option<String>, Query, description = "What the answer is for, such as `export_pdf`: checked as an action beside the operation"),
        ("deadline_ms" = Option<u32>, Query, minimum = 100, maximum = 60000, description = "The whole time, stand-ins included. Unset: 3000 where there are stand-ins, else the connection's own time-outs"),
        ("X-Rights-Profile" = Option<String>, Header, description = "Chooses among the licence profiles that you have"),
    ),
    responses((
        status = 200, description = "The answer", body = Envelope<ProviderAnswer>,
        headers(("X-Data-Stale" = Option<String>, description = "`true` if the answer is past its time")),
    ))
)]
pub async fn call(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(request): Extension<RequestId>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let given = Given { item: None, query: query(&uri)?, body: BTreeMap::new(), post: false };
    answer(&gateway, &subject, request, target(path)?, &headers, given).await
}

/// Calls the operation for one item of a list: the one whose path, in the provider's profile, is the list's and one
/// parameter more. It is the same as calling that operation by its name.
#[utoipa::path(
    get,
    path = "/api/providers/{namespace}/{connection}/{operation}/{id}",
    operation_id = "callProviderForItem",
    tag = "providers",
    params(
        ("namespace" = String, Path, description = "Namespace of the connection"),
        ("connection" = String, Path, description = "Name of the connection"),
        ("operation" = String, Path, description = "The list's operation, by its name in the provider's profile", example = "collaterals"),
        ("id" = String, Path, description = "The item's id"),
        ("parameters" = Option<BTreeMap<String, String>>, Query, style = Form, explode, description = "The operation's parameters, each as a query parameter of its own name"),
        ("shape" = Option<Shape>, Query, description = "As for the list"),
        ("purpose" = Option<String>, Query, description = "As for the list"),
        ("deadline_ms" = Option<u32>, Query, minimum = 100, maximum = 60000, description = "As for the list"),
        ("X-Rights-Profile" = Option<String>, Header, description = "Chooses among the licence profiles that you have"),
    ),
    responses((
        status = 200, description = "The answer", body = Envelope<ProviderAnswer>,
        headers(("X-Data-Stale" = Option<String>, description = "`true` if the answer is past its time")),
    ))
)]
pub async fn call_item(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(request): Extension<RequestId>,
    path: Result<Path<(String, String, String, String)>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let Path((namespace, connection, operation, id)) = path.map_err(unreadable)?;
    let given = Given { item: Some(id), query: query(&uri)?, body: BTreeMap::new(), post: false };
    answer(&gateway, &subject, request, named(namespace, connection, operation)?, &headers, given).await
}

/// Calls any operation, its parameters in the query or in a JSON object. What must not be in a log of addresses on the way
/// (an account, say) belongs into the object.
#[utoipa::path(
    post,
    path = "/api/providers/{namespace}/{connection}/{operation}",
    operation_id = "callProviderByPost",
    tag = "providers",
    params(
        ("namespace" = String, Path, description = "Namespace of the connection"),
        ("connection" = String, Path, description = "Name of the connection"),
        ("operation" = String, Path, description = "The operation, by its name in the provider's profile", example = "quote"),
        ("parameters" = Option<BTreeMap<String, String>>, Query, style = Form, explode, description = "The operation's parameters, each as a query parameter of its own name"),
        ("shape" = Option<Shape>, Query, description = "As for GET"),
        ("purpose" = Option<String>, Query, description = "As for GET"),
        ("deadline_ms" = Option<u32>, Query, minimum = 100, maximum = 60000, description = "As for GET"),
        ("X-Rights-Profile" = Option<String>, Header, description = "Chooses among the licence profiles that you have"),
    ),
    request_body(content = Option<BTreeMap<String, ParameterValue>>, description = "Further parameters"),
    responses((
        status = 200, description = "The answer", body = Envelope<ProviderAnswer>,
        headers(("X-Data-Stale" = Option<String>, description = "`true` if the answer is past its time")),
    ))
)]
pub async fn call_by_post(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(request): Extension<RequestId>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Problem> {
    let body = object(&headers, &super::router::body(body)?)?;
    let given = Given { item: None, query: query(&uri)?, body, post: true };
    answer(&gateway, &subject, request, target(path)?, &headers, given).await
}

/// Whose body is answered.
#[derive(Copy, Clone, Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Shape {
    /// The canonical record.
    Canonical,
    /// The provider's own body.
    Provider,
}

/// A parameter in a JSON object: a text, a number (read digit by digit) or a switch.
#[derive(Clone, Debug)]
pub struct ParameterValue;

impl PartialSchema for ParameterValue {
    fn schema() -> RefOr<Schema> {
        let types = SchemaType::from_iter([Type::String, Type::Number, Type::Boolean]);
        let text = "A text, a number (read digit by digit), true or false";
        ObjectBuilder::new().schema_type(types).description(Some(text)).into()
    }
}

impl ToSchema for ParameterValue {}

/// What a caller gave.
pub(super) struct Given {
    /// Which item of a list.
    pub(super) item: Option<String>,
    /// In the query, in its order.
    pub(super) query: Vec<(String, String)>,
    /// In the body.
    pub(super) body: BTreeMap<String, String>,
    /// Whether by POST.
    pub(super) post: bool,
}

/// Whom and what a path names.
pub(super) fn target(
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<(ObjectKey, String), Problem> {
    let Path((namespace, connection, operation)) = path.map_err(unreadable)?;
    named(namespace, connection, operation)
}

#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn unreadable(_: PathRejection) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, "the path is not UTF-8")
}

fn named(namespace: String, connection: String, operation: String) -> Result<(ObjectKey, String), Problem> {
    let name = |s: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        !s.is_empty() && s.len() <= 253 && s.bytes().all(plain)
    };
    if !name(&namespace) || !name(&connection) {
        return Err(Problem::new(ErrorCode::ConnectionNotFound, "a namespace or a connection has no such name"));
    }
    Ok((ObjectKey::new(namespace, connection), operation))
}

/// The query's pairs.
pub(super) fn query(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .map_err(|_| Problem::new(ErrorCode::InvalidRequest, "the query cannot be read"))
}

/// The parameters of a JSON body.
fn object(headers: &HeaderMap, body: &[u8]) -> Result<BTreeMap<String, String>, Problem> {
    if body.is_empty() {
        return Ok(BTreeMap::new());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let invalid = |text: &str| Problem::new(ErrorCode::InvalidRequest, text);
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(invalid("a body must be of Content-Type application/json"));
    }
    let fields: Option<BTreeMap<String, Value>> =
        serde_json::from_slice(body).map_err(|_| invalid("the body must be a JSON object of parameters"))?;
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        Value::Bool(on) => Ok((name, on.to_string())),
        _ => Err(invalid("a parameter must be a text, a number, true or false").with("parameter", name)),
    };
    fields.unwrap_or_default().into_iter().map(text).collect()
}

/// Calls, and puts the answer into its form.
pub(super) async fn answer(
    gateway: &Gateway,
    subject: &Subject,
    RequestId(request_id): RequestId,
    (connection, operation): (ObjectKey, String),
    headers: &HeaderMap,
    given: Given,
) -> Result<Response, Problem> {
    let began = gateway.clock.mono();
    let act = Act {
        verb: "create",
        resource: "providerconnections",
        subresource: "call",
        namespace: connection.namespace.to_string(),
        name: connection.name.to_string(),
    };
    if let Err(problem) = gateway.access.require(subject, act).await {
        if problem.code() == ErrorCode::Forbidden {
            gateway.refused_by_rbac(&connection, &operation, &caller(subject, request_id));
        }
        return Err(problem);
    }
    let asked = asked(subject, request_id, connection, operation, headers, given)?;
    let got = run(gateway, asked).await?;
    let Got { result, provider, provider_used, endpoint, status_code, cached, stale } = got;
    let took = gateway.clock.mono().since(began);
    let latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let meta = AnswerMeta { provider, provider_used, endpoint, status_code, cached, stale, latency_ms };
    let mut response = Envelope::ok(ProviderAnswer { result, meta }).into_response();
    if stale {
        response.headers_mut().insert(DATA_STALE, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn asked(
    subject: &Subject,
    request_id: uuid::Uuid,
    connection: ObjectKey,
    operation: String,
    headers: &HeaderMap,
    given: Given,
) -> Result<Asked, Problem> {
    let invalid = |text: &str, name: &str| Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name);
    let Given { item, query, body: mut parameters, post } = given;
    let (mut raw, mut purpose, mut deadline) = (false, None, None);
    if query.len() + parameters.len() > MAX_PARAMETERS {
        return Err(Problem::new(ErrorCode::InvalidRequest, "there are too many parameters"));
    }
    for (name, value) in query {
        match name.as_str() {
            "shape" => {
                raw = match value.as_str() {
                    "provider" => true,
                    "canonical" => false,
                    _ => return Err(invalid("shape must be provider or canonical", "shape")),
                }
            }
            "purpose" if value.is_empty() || value.len() > 63 => {
                return Err(invalid("purpose must have 1 to 63 characters", "purpose"));
            }
            "purpose" => purpose = Some(value),
            "deadline_ms" => {
                let wanted = value.parse().ok().map(Duration::from_millis);
                let bounds = SHORTEST_DEADLINE..=LONGEST_DEADLINE;
                let text = "deadline_ms must be from 100 to 60000";
                deadline = Some(wanted.filter(|d| bounds.contains(d)).ok_or_else(|| invalid(text, "deadline_ms"))?);
            }
            _ => {
                if parameters.contains_key(&name) {
                    return Err(invalid("a parameter was given twice", &name));
                }
                parameters.insert(name, value);
            }
        }
    }
    let profile = match headers.get(&RIGHTS_PROFILE) {
        None => None,
        Some(value) => {
            let text = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= 63);
            let problem = "X-Rights-Profile must have 1 to 63 plain characters";
            Some(text.ok_or_else(|| Problem::new(ErrorCode::InvalidRequest, problem))?.to_owned())
        }
    };
    let caller = Arc::new(Caller { profile, purpose, ..caller(subject, request_id) });
    Ok(Asked { connection, operation, item, parameters, raw, post, deadline, caller })
}

fn caller(subject: &Subject, request_id: uuid::Uuid) -> Caller {
    let request_id = Some(request_id);
    Caller { user: subject.user.clone(), groups: subject.groups.clone(), profile: None, purpose: None, request_id }
}
