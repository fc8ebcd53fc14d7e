//! `/api/providers/{namespace}/{connection}/{operation}`: calls any operation of any provider, with one response
//! format.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::gateway::answer_body;
use crate::gateway::call::CallResponse;
use crate::gateway::call_request::CallParts;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{CallInput, CallTarget, body_parameters, invalid_path, parse_target, path_target, query};
use crate::gateway::metrics::AnswerSource;
use crate::gateway::operation::execute;
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;

/// The header of a response with expired data.
pub const DATA_STALE: HeaderName = HeaderName::from_static("x-data-stale");

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
    parts: CallParts,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let input = CallInput { item: None, query: query(&parts.uri)?, body: BTreeMap::new(), post: false };
    respond(&gateway, &parts, path_target(path)?, input).await
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
    parts: CallParts,
    path: Result<Path<(String, String, String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let Path((namespace, connection, operation, id)) = path.map_err(invalid_path)?;
    let input = CallInput { item: Some(id), query: query(&parts.uri)?, body: BTreeMap::new(), post: false };
    respond(&gateway, &parts, parse_target(namespace, connection, operation)?, input).await
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
    parts: CallParts,
    path: Result<Path<(String, String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let body = body_parameters(&gateway.request_limits, &parts.headers, request.into_body()).await?;
    let input = CallInput { item: None, query: query(&parts.uri)?, body, post: true };
    respond(&gateway, &parts, path_target(path)?, input).await
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
    parts: &CallParts,
    target: CallTarget,
    input: CallInput,
) -> Result<Response, Problem> {
    let began = gateway.clock.mono();
    if let Err(problem) = gateway.require_call(&parts.subject, &target.connection).await {
        let is_audited = problem.code() == ErrorCode::Forbidden
            && gateway.audit_rbac_denial(&target.connection, &target.operation, &parts.caller());
        return Err(if is_audited { problem.audited() } else { problem });
    }
    let response = execute(gateway, parts.call_request(target, input)?).await?;
    let CallResponse { result, provider, provider_used, endpoint, status_code, cached, stale } = response;
    let took = gateway.clock.mono().since(began);
    let latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let meta = AnswerMeta { provider, provider_used, endpoint, status_code, cached, stale, latency_ms };
    let source = match (cached, stale) {
        (_, true) => AnswerSource::Stale,
        (true, false) => AnswerSource::Cache,
        (false, false) => AnswerSource::Provider,
    };
    let mut response = answer_body::respond(result, &meta)?;
    response.extensions_mut().insert(source);
    if stale {
        response.headers_mut().insert(DATA_STALE, HeaderValue::from_static("true"));
    }
    Ok(response)
}
