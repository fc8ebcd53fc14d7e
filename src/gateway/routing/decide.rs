//! `POST /api/treasury/routing/decide` and `/test`: the bank for a payout, with and without effects.
//!
//! The path of every payout: the body is parsed once, from its bytes, and the answer is printed once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::domain::decision::{DecisionRequest, RateDraft, RequestDraft};
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{RoutingRight, actor, json_text, route_field};
use crate::gateway::routing::fields::{DecimalInput, Fields};
use crate::gateway::routing::view::{DecisionView, TestView};
use crate::gateway::state::Gateway;

/// Most rates that are read of a request; fewer are accepted.
const MAX_RATES: usize = 64;
/// Highest number of an attempt.
const MAX_ATTEMPT: u64 = 1_000;
/// Longest name of a pair of currencies in an error.
const MAX_PAIR: usize = 16;

/// The names of [`DecideBody`].
const NAMES: &[&str] =
    &["namespace", "route", "payout_id", "attempt_no", "amount", "currency", "country", "merchant", "rail", "rates"];

/// A payout.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "namespace": "treasury", "payout_id": "po-1", "amount": "1000.00", "currency": "USD", "country": "SN",
    "rates": {"USD/XOF": {"rate": "600.5"}},
}))]
pub struct DecideBody {
    /// Namespace of the route. Unset: `--gateway-default-namespace`.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// Name of the route. Unset: of the routes that apply to the payout the one of highest priority, then the oldest, then by
    /// name.
    #[schema(min_length = 1, max_length = 253, pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    pub route: Option<String>,
    /// ID of the payout: the same request with the same ID is the same decision.
    #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    pub payout_id: String,
    /// Number of the attempt to execute the payout. Unset: 1. A higher one is decided only with proof that no earlier attempt
    /// was executed.
    #[schema(minimum = 1, maximum = 1000)]
    pub attempt_no: Option<u32>,
    /// Amount in `currency`: above 0, at most 10¹⁸ minor units, with at most the decimal places of the currency.
    pub amount: DecimalInput,
    /// Currency, of ISO 4217.
    #[schema(min_length = 3, max_length = 3, pattern = "^[A-Z]{3}$")]
    pub currency: String,
    /// Country of the beneficiary, of ISO 3166.
    #[schema(min_length = 2, max_length = 2, pattern = "^[A-Z]{2}$")]
    pub country: String,
    /// The merchant, for adjustments of one merchant.
    #[schema(min_length = 1, max_length = 128)]
    pub merchant: Option<String>,
    /// The payment rail.
    #[schema(min_length = 1, max_length = 32, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    pub rail: Option<String>,
    /// Exchange rates by pair of currencies, such as `USD/XOF`; they count before those of the route. At most 32.
    pub rates: Option<BTreeMap<String, RateBody>>,
}

/// An exchange rate.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateBody {
    /// What one unit of the first currency is worth in the second.
    pub rate: DecimalInput,
    /// When it was read. Unset: now.
    #[schema(format = DateTime)]
    pub at: Option<String>,
}

/// Decides which bank takes the payout, and records it. The same body again is answered with the same decision, `replayed`,
/// even if another bank would be chosen now; another body for the same `payout_id` and `attempt_no` is 409. Without a bank
/// nothing is recorded.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/decide",
    operation_id = "decideRoute",
    tag = "routing",
    request_body = DecideBody,
    responses((status = 200, description = "The decision", body = Envelope<DecisionView<'static>>))
)]
pub async fn decide(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let request = payout(&gateway, &subject, RoutingRight::DECIDE, &headers, body).await?;
    let decided = gateway.routing.decide(request, &actor(&subject, request_id)).await?;
    Ok(Envelope::ok(DecisionView::from(&decided)).into_response())
}

/// The bank that would take the payout now. Nothing is recorded, reserved or counted.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/test",
    operation_id = "testRoute",
    tag = "routing",
    request_body = DecideBody,
    responses((status = 200, description = "The choice", body = Envelope<TestView<'static>>))
)]
pub async fn test(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let request = payout(&gateway, &subject, RoutingRight::GET_DECISION, &headers, body).await?;
    let tested = gateway.routing.test(&request).await?;
    // Without a bank the service answers an error.
    let view = TestView::new(&request, &tested);
    view.map(|view| Envelope::ok(view).into_response())
        .ok_or_else(|| Problem::new(ErrorCode::Internal, "no bank in a successful test; report it with the request ID"))
}

/// The payout of a body, for which RBAC allows the caller this.
async fn payout(
    gateway: &Gateway,
    subject: &UserInfo,
    right: RoutingRight,
    headers: &HeaderMap,
    body: Body,
) -> Result<DecisionRequest, Problem> {
    let (text, permit) = json_text(gateway, headers, body).await?;
    let draft = draft(gateway, &text)?;
    drop(permit);
    gateway.require_routing(subject, right, &draft.namespace, draft.route.as_deref().unwrap_or_default()).await?;
    Ok(draft.validate(gateway.clock.now().wall)?)
}

/// The fields of a body, each of the right type.
pub(super) fn draft(gateway: &Gateway, body: &[u8]) -> Result<RequestDraft, Problem> {
    let fields = Fields::of_body(body, NAMES)?;
    let owned = |name| Ok::<_, Problem>(fields.text(name)?.map(Cow::into_owned));
    let attempt_no = fields.whole("attempt_no", 1, MAX_ATTEMPT)?;
    Ok(RequestDraft {
        namespace: gateway.namespace_field(&fields)?,
        route: route_field(&fields)?,
        payout_id: fields.required_text("payout_id")?.into_owned(),
        attempt_no: attempt_no.and_then(|number| u32::try_from(number).ok()),
        amount: fields.required_number("amount")?,
        currency: fields.required_text("currency")?.into_owned(),
        country: Some(fields.required_text("country")?.into_owned()),
        merchant: owned("merchant")?,
        rail: owned("rail")?,
        rates: fields
            .entries("rates", MAX_RATES)?
            .into_iter()
            .map(|(pair, text)| rate(pair, text))
            .collect::<Result<_, _>>()?,
    })
}

/// One rate.
fn rate(pair: String, text: &str) -> Result<RateDraft, Problem> {
    const NAMES: &[&str] = &["rate", "at"];
    let shown = crate::domain::printable::cell_of(&pair, MAX_PAIR);
    let fields = Fields::of_item(text, NAMES, &format!("rates.{shown}"))?;
    let at = fields.text("at")?.map(Cow::into_owned);
    Ok(RateDraft { at, rate: fields.required_number("rate")?, pair })
}
