//! The two requests to a scorer: by the operations `predictions` and `outcomes` of its profile, else by their documented
//! paths.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Method, header};

use crate::domain::breaker::CallClass;
use crate::domain::forecast::wire::{FieldError, OutcomeBatch};
use crate::profile::ParameterError;
use crate::provider::call::{CallError, Request};
use crate::provider::invoke::{InvalidOperation, InvokeOptions, build_request, find_operation};
use crate::settings::Settings;

/// Most bytes of a response with predictions.
const MAX_BODY: usize = 1024 * 1024;

/// Why predictions could not be pulled.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    #[error("connection of the scorer is not running; check its conditions")]
    NotRunning,
    #[error(transparent)]
    Operation(#[from] InvalidOperation),
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("scorer responded with status {0}")]
    Status(u16),
    #[error("response of the scorer is invalid: {0}")]
    Body(#[from] FieldError),
}

/// Why outcomes could not be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("connection of the scorer is not running; check its conditions")]
    NotRunning,
    #[error(transparent)]
    Operation(#[from] InvalidOperation),
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("scorer responded with status {0}")]
    Status(u16),
    #[error("outcomes could not be written")]
    Encoding(#[from] serde_json::Error),
}

/// `GET /predictions?namespace=…&bank=…`: what the scorer predicts of these connections.
pub(super) fn predictions_request(settings: &Settings, namespace: &str, banks: &[&str]) -> Result<Request, PullError> {
    let mut request = match find_operation(settings, "predictions") {
        Ok(operation) => build_request(settings, "predictions", operation, &BTreeMap::new(), InvokeOptions::default())?,
        Err(InvalidOperation::Unknown) => Request::get("predictions", "/predictions"),
        Err(error) => return Err(error.into()),
    };
    request.query.push(("namespace".to_owned(), namespace.to_owned()));
    request.query.extend(banks.iter().map(|bank| ("bank".to_owned(), (*bank).to_owned())));
    request.expect_json = true;
    request.max_body = MAX_BODY;
    Ok(request)
}

/// `POST /outcomes` with the outcomes of payouts.
pub(super) fn outcomes_request(settings: &Settings, batch: &OutcomeBatch) -> Result<Request, SendError> {
    let mut request = match find_operation(settings, "outcomes") {
        Ok(operation) => build_request(settings, "outcomes", operation, &BTreeMap::new(), InvokeOptions::default())?,
        Err(InvalidOperation::Unknown) => {
            Request { class: CallClass::Write, method: Method::POST, ..Request::get("outcomes", "/outcomes") }
        }
        Err(error) => return Err(error.into()),
    };
    request.body = Some(Bytes::from(serde_json::to_vec(batch)?));
    request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(request)
}
