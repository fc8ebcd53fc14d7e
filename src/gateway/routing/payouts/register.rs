//! `POST /api/treasury/payouts`: registers a payout with its first attempt.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{actor, json_text};
use crate::gateway::routing::decide::{DecideBody, draft};
use crate::gateway::routing::fields::invalid;
use crate::gateway::routing::payouts::target::PayoutRight;
use crate::gateway::routing::payouts::view::PayoutView;
use crate::gateway::routing::view::DecisionView;
use crate::gateway::state::Gateway;

/// The header that names a request once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest idempotency key.
const MAX_KEY: usize = 255;

/// A registered payout.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegisteredView<'a> {
    /// Whether this answers an earlier request with the same body; the payout is as it stands now.
    pub replayed: bool,
    /// The payout. Send its last attempt to its bank, before `expires_at`, with `end_to_end_id` and `idempotency_key`.
    pub payout: PayoutView,
    /// The decision of its first attempt, with every bank explained.
    pub decision: DecisionView<'a>,
}

/// Registers a payout: its bank is decided, its first attempt is handed out, and Busbar follows it until its fate is proven.
/// The body is that of a decision. The same body again is answered with the same payout, `replayed`; another body for the same
/// `payout_id`, or an `Idempotency-Key` that registered another payout, is 409. A payout that was decided before is followed
/// with that decision. Without a bank nothing is recorded. 503 `payouts_suspended` after a restore of the ledger with loss.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts",
    operation_id = "registerPayout",
    tag = "payouts",
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "Names the request once in the namespace: 1 to 255 visible ASCII characters"
    )),
    request_body = DecideBody,
    responses((status = 200, description = "The payout and its decision", body = Envelope<RegisteredView<'static>>))
)]
pub async fn register(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (text, permit) = json_text(&gateway, &headers, body).await?;
    let draft = draft(&gateway, &text)?;
    drop(permit);
    gateway.require_payouts(&subject, PayoutRight::CREATE, &draft.namespace).await?;
    if draft.attempt_no.is_some_and(|number| number != 1) {
        let text = "must be 1, or left out; further attempts are decided by POST /api/treasury/routing/decide";
        return Err(invalid("attempt_no", text));
    }
    let key = idempotency_key(&headers)?;
    let request = draft.validate(gateway.clock.now().wall)?;
    let registered = gateway.routing.register(request, key, &actor(&subject, request_id)).await?;
    let view = RegisteredView {
        replayed: registered.decided.replayed,
        payout: registered.payout.into(),
        decision: DecisionView::from(&registered.decided),
    };
    Ok(Envelope::ok(view).into_response())
}

/// The idempotency key of a request, if it has one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key
        .to_str()
        .ok()
        .filter(|key| !key.is_empty() && key.len() <= MAX_KEY && key.bytes().all(|byte| byte.is_ascii_graphic()));
    if let (Some(key), None) = (key, keys.next()) {
        return Ok(Some(key.to_owned()));
    }
    let text = "Idempotency-Key: must be sent once, with 1 to 255 visible ASCII characters";
    Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", "Idempotency-Key"))
}
