//! Extracts the path, the query and the body of a request; a malformed one is a [`Problem`].

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, Uri, header};
use bytes::BytesMut;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::domain::key::ObjectKey;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::{DEFAULT_RETRY_AFTER, Problem};
use crate::gateway::request_limits::RequestLimits;
use crate::profile::json;

/// Maximum size of a request body: it holds parameters, not documents.
pub(super) const MAX_BODY: usize = 1024 * 1024;
/// Bodies up to this size are limited by the number of requests alone.
const SMALL_BODY: usize = 64 * 1024;

/// The parameters of a request.
pub(super) struct CallInput {
    /// The ID of a list item, from the path.
    pub(super) item: Option<String>,
    /// Query parameters, in order.
    pub(super) query: Vec<(String, String)>,
    /// Parameters of the JSON body.
    pub(super) body: BTreeMap<String, String>,
    /// Whether the method is POST.
    pub(super) post: bool,
}

/// What a call is for.
pub(super) struct CallTarget {
    /// The connection.
    pub(super) connection: ObjectKey,
    /// The operation.
    pub(super) operation: String,
}

/// The connection and the operation of a path.
pub(super) fn path_target(path: Result<Path<(String, String, String)>, PathRejection>) -> Result<CallTarget, Problem> {
    let Path((namespace, connection, operation)) = path.map_err(invalid_path)?;
    parse_target(namespace, connection, operation)
}

/// The error for a path that cannot be decoded.
#[allow(clippy::needless_pass_by_value, reason = "it is an argument of map_err")]
pub(super) fn invalid_path(_: PathRejection) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, "the path is not valid UTF-8")
}

/// The connection and the operation, if the names are valid.
pub(super) fn parse_target(namespace: String, connection: String, operation: String) -> Result<CallTarget, Problem> {
    if !is_object_name(&namespace) || !is_object_name(&connection) {
        let text = "invalid namespace or connection name in the path: allowed are a-z, 0-9, - and ., at most 253";
        return Err(Problem::new(ErrorCode::ConnectionNotFound, text));
    }
    Ok(CallTarget { connection: ObjectKey::new(namespace, connection), operation })
}

/// Whether a text can be the name of an object or of a namespace.
pub(super) fn is_object_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !text.is_empty() && text.len() <= 253 && text.bytes().all(plain)
}

/// The number of items on a page of a list.
pub(super) fn page_limit(limit: Option<u32>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(50);
    if !(1..=500).contains(&limit) {
        let text = "limit must be from 1 to 500";
        return Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", "limit"));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The query's name-value pairs.
pub(super) fn query(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .map_err(|_| Problem::new(ErrorCode::InvalidRequest, "the query cannot be decoded"))
}

/// The parameters in the body of a request. Few large bodies are read and parsed at the same time: any caller with a token
/// could otherwise have the operator hold as many as it admits requests.
pub(super) async fn body_parameters(
    limits: &RequestLimits,
    headers: &HeaderMap,
    body: Body,
) -> Result<BTreeMap<String, String>, Problem> {
    let (text, permit) = read_body(limits, body).await?;
    let parameters = json_parameters(headers, &text);
    drop(permit);
    parameters
}

/// The JSON object in the body of a request. Without a body that of an empty object.
pub(super) async fn json_body<T: DeserializeOwned>(
    limits: &RequestLimits,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    let (text, permit) = read_body(limits, body).await?;
    if !text.is_empty() {
        check_json_type(headers)?;
    }
    let read = json::read(if text.is_empty() { b"{}" } else { &text });
    drop(permit);
    read.map_err(|_| {
        let text = "the body must be a JSON object with the fields that /openapi.json describes, and no others";
        Problem::new(ErrorCode::InvalidRequest, text)
    })
}

/// A body, and the permit for a large one, which is held until it is parsed.
pub(super) async fn read_body(
    limits: &RequestLimits,
    body: Body,
) -> Result<(BytesMut, Option<OwnedSemaphorePermit>), Problem> {
    let (mut text, mut permit) = (BytesMut::new(), None);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Problem::new(ErrorCode::InvalidRequest, "reading the body failed"))?;
        let length = text.len() + part.len();
        if length > MAX_BODY {
            return Err(Problem::new(ErrorCode::BodyTooLarge, "the body is larger than 1 MiB"));
        }
        if length > SMALL_BODY && permit.is_none() {
            permit = Some(limits.try_start_large_body().ok_or_else(too_many_large_bodies)?);
        }
        text.extend_from_slice(&part);
    }
    Ok((text, permit))
}

pub(super) fn check_json_type(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let text = "the body must have Content-Type application/json";
        return Err(Problem::new(ErrorCode::InvalidRequest, text));
    }
    Ok(())
}

fn too_many_large_bodies() -> Problem {
    let text = "too many large bodies on this replica; retry after Retry-After, or send less than 64 KiB";
    Problem::new(ErrorCode::Unavailable, text).retry_in(DEFAULT_RETRY_AFTER)
}

/// The parameters of a JSON body.
fn json_parameters(headers: &HeaderMap, body: &[u8]) -> Result<BTreeMap<String, String>, Problem> {
    if body.is_empty() {
        return Ok(BTreeMap::new());
    }
    check_json_type(headers)?;
    let invalid = |text: &str| Problem::new(ErrorCode::InvalidRequest, text);
    // Counts the values first: a tree of a megabyte of empty objects takes a hundred.
    let fields: Option<BTreeMap<String, Value>> =
        json::read(body).map_err(|_| invalid("the body must be a JSON object of parameters"))?;
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        Value::Bool(on) => Ok((name, on.to_string())),
        _ => Err(invalid("a parameter must be a string, a number or a boolean").with("parameter", name)),
    };
    fields.unwrap_or_default().into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn json_headers() -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
    }

    #[tokio::test]
    async fn few_large_bodies_are_read_at_a_time_and_small_ones_always() {
        let (limits, headers) = (RequestLimits::new(64), json_headers());
        let read = async |length: usize| {
            let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(length));
            body_parameters(&limits, &headers, Body::from(text)).await.map_err(|problem| problem.code())
        };
        assert_eq!(read(SMALL_BODY).await.unwrap()["a"].len(), SMALL_BODY);
        let held: Vec<_> = std::iter::from_fn(|| limits.try_start_large_body()).collect();
        assert_eq!(read(SMALL_BODY).await, Err(ErrorCode::Unavailable));
        assert!(read(1_000).await.is_ok());
        drop(held);
        assert!(read(SMALL_BODY).await.is_ok());
        assert_eq!(read(MAX_BODY).await, Err(ErrorCode::BodyTooLarge));
    }

    #[test]
    fn a_body_of_very_many_values_is_refused_before_a_tree_is_built() {
        let parameters = |count: usize| {
            let list: Vec<String> = (0..count).map(|n| format!(r#""p{n}":{n}"#)).collect();
            json_parameters(&json_headers(), format!("{{{}}}", list.join(",")).as_bytes())
        };
        assert_eq!(parameters(65).unwrap()["p64"], "64");
        assert_eq!(parameters(20_000).unwrap_err().code(), ErrorCode::InvalidRequest);
    }
}
