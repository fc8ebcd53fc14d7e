//! `POST /api/treasury/routing/predictions`: what an external scorer predicts of the banks.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::domain::forecast::PredictionRefused;
use crate::domain::forecast::prediction_book::Accepted;
use crate::domain::forecast::wire::{FieldError, PredictionBatch};
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{RoutingRight, actor, json_text};
use crate::gateway::routing::fields::DecimalInput;
use crate::gateway::state::Gateway;
use crate::profile::json::Scan;

/// Most values of a body: a thousand predictions with all of their fields. More are refused before anything is built.
const MAX_VALUES: usize = 20_000;

/// Predictions for banks of a namespace.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictionsBody {
    /// Namespace of the banks. Unset: `--gateway-default-namespace`.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// The predictions.
    #[schema(max_items = 1000)]
    pub predictions: Vec<PredictionBody>,
}

/// What is predicted of one bank. Exactly one of `bank_profile_id`, `candidate` and `connection` names it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictionBody {
    /// `bankProfileID` of a candidate.
    #[schema(min_length = 1, max_length = 253)]
    pub bank_profile_id: Option<String>,
    /// Name of a candidate.
    #[schema(min_length = 1, max_length = 253)]
    pub candidate: Option<String>,
    /// Name of the bank's connection.
    #[schema(min_length = 1, max_length = 253)]
    pub connection: Option<String>,
    /// Name of the route that has the candidate. Unset: any of the namespace.
    #[schema(min_length = 1, max_length = 253)]
    pub route: Option<String>,
    /// Only for payouts in this currency.
    #[schema(min_length = 3, max_length = 3)]
    pub currency: Option<String>,
    /// Only for payouts by this rail.
    #[schema(min_length = 1, max_length = 253)]
    pub rail: Option<String>,
    /// Predicted success rate, from 0 to 1.
    pub success: DecimalInput,
    /// Predicted risk of an outage, from 0 to 1.
    pub risk: Option<DecimalInput>,
    /// Score of the bank, from 0 to 1: breaks ties of cost and success.
    pub score: Option<DecimalInput>,
    /// Predicted exchange spread in basis points of the amount; negative is a gain.
    pub expected_fx: Option<DecimalInput>,
    /// Predicted days until settlement, from 0 to 365.
    pub settlement_days: Option<DecimalInput>,
    /// Predicted risk of fraud, from 0 to 1; recorded and shown, never used.
    pub fraud_risk: Option<DecimalInput>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub issued_at: String,
    /// Start of its window.
    #[schema(format = DateTime)]
    pub valid_from: String,
    /// End of its window, at most 24 hours after its start.
    #[schema(format = DateTime)]
    pub valid_until: String,
}

/// What was done with one prediction.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictionResultView {
    /// Whether it is used from now on.
    pub accepted: bool,
    /// Why it is not; null if it is.
    #[schema(value_type = Option<String>)]
    pub error: Option<&'static str>,
    /// What to do about it; null if it was accepted.
    #[schema(value_type = Option<String>)]
    pub remedy: Option<&'static str>,
}

/// What was done with each prediction.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictionResults {
    /// In the order of the request.
    pub results: Vec<PredictionResultView>,
}

impl From<Result<Accepted, PredictionRefused>> for PredictionResultView {
    fn from(result: Result<Accepted, PredictionRefused>) -> Self {
        let refused = result.err();
        Self {
            accepted: refused.is_none(),
            error: refused.map(PredictionRefused::as_str),
            remedy: refused.map(PredictionRefused::remedy),
        }
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        Self::new(ErrorCode::InvalidRequest, error.to_string()).with("parameter", error.path())
    }
}

/// Takes predictions of an external scorer. A prediction counts while its window lasts, weighted by what earlier ones were
/// worth; one that is refused does not keep the others from being taken.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/predictions",
    operation_id = "pushPredictions",
    tag = "routing",
    request_body = PredictionsBody,
    responses((status = 200, description = "What was done with each", body = Envelope<PredictionResults>))
)]
pub async fn predictions(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (text, permit) = json_text(&gateway, &headers, body).await?;
    Scan::new(MAX_VALUES).push(&text).map_err(|_| {
        Problem::new(ErrorCode::InvalidRequest, "the body has more values than 1000 predictions; send several bodies")
    })?;
    let batch = PredictionBatch::from_json(&text)?;
    drop(permit);
    let namespace = gateway.routing_namespace(batch.namespace.as_deref())?;
    gateway.require_routing(&subject, RoutingRight::PUSH_PREDICTIONS, &namespace, "").await?;
    let actor = actor(&subject, request_id);
    let results = gateway.routing.push_predictions(&namespace, batch.predictions, &actor)?;
    let results = results.into_iter().map(PredictionResultView::from).collect();
    Ok(Envelope::ok(PredictionResults { results }).into_response())
}
