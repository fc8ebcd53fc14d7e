//! `/api/providers/{namespace}/{connection}/{operation}`: calls any operation of any provider, with one response
//! format.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::cluster::auth::UserInfo;
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::gateway::Gateway;
use crate::gateway::access::call_access;
use crate::gateway::call::{CallRequest, CallResponse};
use crate::gateway::envelope::Envelope;
use crate::gateway::extract::{CallInput, body, invalid_path, json_parameters, parse_target, path_target, query};
use crate::gateway::observe::RequestId;
use crate::gateway::operation::{MAX_DEADLINE, execute};
use crate::gateway::problem::{ErrorCode, Problem};

/// The header that selects one of the caller's licence profiles.
pub const RIGHTS_PROFILE: HeaderName = HeaderName::from_static("x-rights-profile");
/// The header of a response with expired data.
pub const DATA_STALE: HeaderName = HeaderName::from_static("x-data-stale");

/// The shortest accepted deadline.
const MIN_DEADLINE: Duration = Duration::from_millis(100);
/// Maximum number of parameters of one call: the profiles' operations have ten at most.
const MAX_PARAMETERS: usize = 64;

/// A provider's answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProviderAnswer {
    /// The canonical record, or the provider's own body (`shape=provider`, and operations without a canonical record).
    pub result: Value,
    /// Where the answer comes from.
    pub meta: AnswerMeta,
}

/// Where an answer comes from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AnswerMeta {
    /// The provider of the connection that was called.
    #[schema(example = "fmp")]
    pub provider: String,
    /// The provider that answered; ends with `_fallback` if a fallback connection answered.
    #[schema(example = "polygon_fallback")]
    pub provider_used: String,
    /// The operation.
    #[schema(example = "quote")]
    pub endpoint: String,
    /// The HTTP status of the provider that answered.
    #[schema(minimum = 100, maximum = 599)]
    pub status_code: u16,
    /// Whether the answer is from the cache.
    pub cached: bool,
    /// Whether the answer has expired and is served because no fresh one is available; the header `X-Data-Stale` is
    /// sent too.
    pub stale: bool,
    /// Time spent in the gateway, in milliseconds.
    #[schema(minimum = 0)]
    pub latency_ms: u64,
}

/// Calls a read operation.
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
        ("shape" = Option<ResponseShape>, Query, description = "`provider` returns the provider's own body, `canonical` (the default) the canonical record if the operation has one"),
        ("purpose" = Option<String>, Query, description = "The purpose of the call, such as `export_pdf`; checked against the licence profiles in addition to the operation"),
        ("deadline_ms" = Option<u32>, Query, minimum = 100, maximum = 60000, description = "Deadline of the whole call, fallbacks included, in milliseconds. Unset: 3000 if the connection has fallbacks, else the connection's own time-outs"),
        ("X-Rights-Profile" = Option<String>, Header, description = "Selects one of the caller's licence profiles"),
    ),
    responses((
        status = 200, description = "The answer", body = Envelope<ProviderAnswer>,
        headers(("X-Data-Stale" = Option<String>, description = "`true` if the data has expired")),
    ))
)]
pub async fn call(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(request): Extension<RequestId>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let input = CallInput { item: None, query: query(&uri)?, body: BTreeMap::new(), post: false };
    respond(&gateway, &subject, request, path_target(path)?, &headers, input).await
}

/// Calls the operation for one item of a list: the operation whose path in the provider's profile is the list's path
/// plus one parameter. Equivalent to calling that operation by name.
#[utoipa::path(
    get,
    path = "/api/providers/{namespace}/{connection}/{operation}/{id}",
    operation_id = "callProviderForItem",
    tag = "providers",
    params(
        ("namespace" = String, Path, description = "Namespace of the connection"),
        ("connection" = String, Path, description = "Name of the connection"),
        ("operation" = String, Path, description = "The list operation, by its name in the provider's profile", example = "collaterals"),
        ("id" = String, Path, description = "The ID of the item"),
        ("parameters" = Option<BTreeMap<String, String>>, Query, style = Form, explode, description = "The operation's parameters, each as a query parameter of its own name"),
        ("shape" = Option<ResponseShape>, Query, description = "As for GET without an item ID"),
        ("purpose" = Option<String>, Query, description = "As for GET without an item ID"),
        ("deadline_ms" = Option<u32>, Query, minimum = 100, maximum = 60000, description = "As for GET without an item ID"),
        ("X-Rights-Profile" = Option<String>, Header, description = "Selects one of the caller's licence profiles"),
    ),
    responses((
        status = 200, description = "The answer", body = Envelope<ProviderAnswer>,
        headers(("X-Data-Stale" = Option<String>, description = "`true` if the data has expired")),
    ))
)]
pub async fn call_item(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(request): Extension<RequestId>,
    path: Result<Path<(String, String, String, String)>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let Path((namespace, connection, operation, id)) = path.map_err(invalid_path)?;
    let input = CallInput { item: Some(id), query: query(&uri)?, body: BTreeMap::new(), post: false };
    respond(&gateway, &subject, request, parse_target(namespace, connection, operation)?, &headers, input).await
}

/// Calls any operation, with parameters in the query or in a JSON object. Sensitive parameters, such as account
/// numbers, belong in the object: proxies may log the query.
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
        ("shape" = Option<ResponseShape>, Query, description = "As for GET"),
        ("purpose" = Option<String>, Query, description = "As for GET"),
        ("deadline_ms" = Option<u32>, Query, minimum = 100, maximum = 60000, description = "As for GET"),
        ("X-Rights-Profile" = Option<String>, Header, description = "Selects one of the caller's licence profiles"),
    ),
    request_body(content = Option<BTreeMap<String, ParameterValue>>, description = "Further parameters"),
    responses((
        status = 200, description = "The answer", body = Envelope<ProviderAnswer>,
        headers(("X-Data-Stale" = Option<String>, description = "`true` if the data has expired")),
    ))
)]
pub async fn call_by_post(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(request): Extension<RequestId>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
    raw_body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Problem> {
    let body = json_parameters(&headers, &body(raw_body)?)?;
    let input = CallInput { item: None, query: query(&uri)?, body, post: true };
    respond(&gateway, &subject, request, path_target(path)?, &headers, input).await
}

/// The shape of the result.
#[derive(Copy, Clone, Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum ResponseShape {
    /// The canonical record.
    Canonical,
    /// The provider's own body.
    Provider,
}

/// A parameter in a JSON object: a string, a number (kept digit by digit) or a boolean.
#[derive(Clone, Debug)]
pub struct ParameterValue;

impl PartialSchema for ParameterValue {
    fn schema() -> RefOr<Schema> {
        let types = SchemaType::from_iter([Type::String, Type::Number, Type::Boolean]);
        let text = "A string, a number (kept digit by digit) or a boolean";
        ObjectBuilder::new().schema_type(types).description(Some(text)).into()
    }
}

impl ToSchema for ParameterValue {}

/// Authorizes and executes a call, and builds the response.
pub(super) async fn respond(
    gateway: &Gateway,
    subject: &UserInfo,
    RequestId(request_id): RequestId,
    (connection, operation): (ObjectKey, String),
    headers: &HeaderMap,
    input: CallInput,
) -> Result<Response, Problem> {
    let began = gateway.clock.mono();
    if let Err(problem) = gateway.access.require(subject, call_access(&connection)).await {
        if problem.code() == ErrorCode::Forbidden {
            gateway.audit_rbac_denial(&connection, &operation, &caller(subject, request_id));
        }
        return Err(problem);
    }
    let request = call_request(subject, request_id, connection, operation, headers, input)?;
    let response = execute(gateway, request).await?;
    let CallResponse { result, provider, provider_used, endpoint, status_code, cached, stale } = response;
    let took = gateway.clock.mono().since(began);
    let latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let meta = AnswerMeta { provider, provider_used, endpoint, status_code, cached, stale, latency_ms };
    let mut response = Envelope::ok(ProviderAnswer { result, meta }).into_response();
    if stale {
        response.headers_mut().insert(DATA_STALE, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The call request from the query, body and headers.
fn call_request(
    subject: &UserInfo,
    request_id: uuid::Uuid,
    connection: ObjectKey,
    operation: String,
    headers: &HeaderMap,
    input: CallInput,
) -> Result<CallRequest, Problem> {
    let invalid = |text: &str, name: &str| Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name);
    let CallInput { item, query, body: mut parameters, post } = input;
    let (mut raw, mut purpose, mut deadline) = (false, None, None);
    if query.len() + parameters.len() > MAX_PARAMETERS {
        return Err(Problem::new(ErrorCode::InvalidRequest, "too many parameters; at most 64"));
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
                let deadline_ms = value.parse().ok().map(Duration::from_millis);
                let bounds = MIN_DEADLINE..=MAX_DEADLINE;
                let text = "deadline_ms must be from 100 to 60000";
                deadline =
                    Some(deadline_ms.filter(|d| bounds.contains(d)).ok_or_else(|| invalid(text, "deadline_ms"))?);
            }
            _ => {
                if parameters.contains_key(&name) {
                    return Err(invalid("duplicate parameter", &name));
                }
                parameters.insert(name, value);
            }
        }
    }
    let profile = match headers.get(&RIGHTS_PROFILE) {
        None => None,
        Some(value) => {
            let name = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= 63);
            let problem = "X-Rights-Profile must have 1 to 63 ASCII characters";
            Some(name.ok_or_else(|| Problem::new(ErrorCode::InvalidRequest, problem))?.to_owned())
        }
    };
    let caller = Arc::new(Caller { profile, purpose, ..caller(subject, request_id) });
    let subject = Arc::new(subject.clone());
    Ok(CallRequest { connection, operation, item, parameters, raw, post, deadline, caller, subject })
}

fn caller(subject: &UserInfo, request_id: uuid::Uuid) -> Caller {
    let request_id = Some(request_id);
    Caller { user: subject.user.clone(), groups: subject.groups.clone(), profile: None, purpose: None, request_id }
}
