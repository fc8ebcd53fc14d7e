//! Extracts the path, the query and the body of a request; a malformed one is a [`Problem`].

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use serde_json::Value;

use crate::domain::key::ObjectKey;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;

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
    let name = |s: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        !s.is_empty() && s.len() <= 253 && s.bytes().all(plain)
    };
    if !name(&namespace) || !name(&connection) {
        let text = "invalid namespace or connection name in the path: allowed are a-z, 0-9, - and ., at most 253";
        return Err(Problem::new(ErrorCode::ConnectionNotFound, text));
    }
    Ok(CallTarget { connection: ObjectKey::new(namespace, connection), operation })
}

/// The query's name-value pairs.
pub(super) fn query(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .map_err(|_| Problem::new(ErrorCode::InvalidRequest, "the query cannot be decoded"))
}

/// The parameters of a JSON body.
pub(super) fn json_parameters(headers: &HeaderMap, body: &[u8]) -> Result<BTreeMap<String, String>, Problem> {
    if body.is_empty() {
        return Ok(BTreeMap::new());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let invalid = |text: &str| Problem::new(ErrorCode::InvalidRequest, text);
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(invalid("the body must have Content-Type application/json"));
    }
    let fields: Option<BTreeMap<String, Value>> =
        serde_json::from_slice(body).map_err(|_| invalid("the body must be a JSON object of parameters"))?;
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        Value::Bool(on) => Ok((name, on.to_string())),
        _ => Err(invalid("a parameter must be a string, a number or a boolean").with("parameter", name)),
    };
    fields.unwrap_or_default().into_iter().map(text).collect()
}

/// The body.
pub(super) fn body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::new(ErrorCode::BodyTooLarge, "the body is larger than 1 MiB")
        } else {
            Problem::new(ErrorCode::InvalidRequest, "reading the body failed")
        }
    })
}
