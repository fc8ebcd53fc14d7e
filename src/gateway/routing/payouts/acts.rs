//! What people do about a payout: they ask the bank, accept the risk of a duplicate, say what became of an attempt, release
//! the payout.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical::parse_hash;
use crate::domain::payout::{Evidence, EvidenceSource, Payout, PayoutInput, PayoutRefusal, Refusal, Resolution};
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::actor;
use crate::gateway::routing::adjustments::NamespaceQuery;
use crate::gateway::routing::fields::Fields;
use crate::gateway::routing::payouts::target::{MAX_REASON, PayoutRight, PayoutTarget, attempt_field};
use crate::gateway::routing::payouts::view::PayoutView;
use crate::gateway::state::Gateway;
use crate::ledger::payouts::{PayoutAct, StoredPayout};
use crate::routing::{Actor, PayoutRequest, RoutingError};

/// Longest reference of a message.
pub(super) const MAX_REFERENCE: usize = 128;

/// The attempt that is meant, and why.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptActBody {
    /// Number of the attempt. Unset: the last one whose fate is not known.
    #[schema(minimum = 1, maximum = 1000)]
    pub attempt_no: Option<u32>,
    /// Reason, for the audit.
    #[schema(min_length = 1, max_length = 256)]
    pub reason: Option<String>,
}

/// The acceptance of a risk.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveBody {
    /// Must be true: the payout may be executed twice.
    pub accept_duplicate_risk: bool,
    /// Reason, for the audit.
    #[schema(min_length = 1, max_length = 256)]
    pub reason: Option<String>,
}

/// What became of an attempt, and the bank's message that says so.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolvePayoutBody {
    /// Number of the attempt. Unset: the last one whose fate is not known.
    #[schema(minimum = 1, maximum = 1000)]
    pub attempt_no: Option<u32>,
    /// `confirmed`, `rejected`, `returned` or `never_received`.
    pub resolution: String,
    /// The bank's reference of its message. This or `message_hash` is required.
    #[schema(min_length = 1, max_length = 128)]
    pub reference: Option<String>,
    /// SHA-256 of the bank's message, hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub message_hash: Option<String>,
    /// Reason, for the audit.
    #[schema(min_length = 1, max_length = 256)]
    pub reason: Option<String>,
}

/// Why something is done.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// Reason, for the audit.
    #[schema(min_length = 1, max_length = 256)]
    pub reason: Option<String>,
}

/// A payout after an act.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActedView {
    /// Whether the same was done before, so that nothing changed now.
    pub repeated: bool,
    /// The payout then.
    pub payout: PayoutView,
}

/// The answer to an act.
pub(super) fn acted(stored: StoredPayout, repeated: bool) -> Response {
    Envelope::ok(ActedView { repeated, payout: stored.into() }).into_response()
}

/// Asks the bank for the status of an attempt now. The answer is in the timeline, a moment later.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/{payout_id}/inquire",
    operation_id = "inquirePayout",
    tag = "payouts",
    params(("payout_id" = String, Path, description = "The caller's ID of the payout"), NamespaceQuery),
    request_body = Option<AttemptActBody>,
    responses((status = 200, description = "The payout then", body = Envelope<ActedView>))
)]
pub async fn inquire(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let target = gateway.payout_target(&subject, PayoutRight::INQUIRE, id, query).await?;
    let text = gateway.act_text(&headers, body).await?;
    let fields = Fields::of_body(&text, &["attempt_no", "reason"])?;
    let (stored, person) = (gateway.stored_payout(&target).await?, person(&gateway, &subject));
    let input = PayoutInput::RequestInquiry { attempt_no: attempt_field(&fields, &stored.payout)?, evidence: person };
    let request = request(target, PayoutAct::Inquire, input, &fields)?;
    Ok(acted(gateway.routing.act_on(stored, &request, &actor(&subject, request_id)).await?, false))
}

/// Asks the bank to cancel an attempt now. A recall is repeated with the same key; the answer is in the timeline, a moment later.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/{payout_id}/recall",
    operation_id = "recallPayout",
    tag = "payouts",
    params(("payout_id" = String, Path, description = "The caller's ID of the payout"), NamespaceQuery),
    request_body = Option<AttemptActBody>,
    responses((status = 200, description = "The payout then", body = Envelope<ActedView>))
)]
pub async fn recall(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let target = gateway.payout_target(&subject, PayoutRight::RECALL, id, query).await?;
    let text = gateway.act_text(&headers, body).await?;
    let fields = Fields::of_body(&text, &["attempt_no", "reason"])?;
    let (stored, person) = (gateway.stored_payout(&target).await?, person(&gateway, &subject));
    let input = PayoutInput::RequestRecall { attempt_no: attempt_field(&fields, &stored.payout)?, evidence: person };
    let request = request(target, PayoutAct::Recall, input, &fields)?;
    Ok(acted(gateway.routing.act_on(stored, &request, &actor(&subject, request_id)).await?, false))
}

/// Accepts the risk that the next attempt is a duplicate, for a payout whose fate cannot be proven. Two different people must
/// accept it, and the amount must be within the limit; then the next attempt is decided. The same person again changes nothing.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/{payout_id}/approve-reroute",
    operation_id = "approveReroute",
    tag = "payouts",
    params(("payout_id" = String, Path, description = "The caller's ID of the payout"), NamespaceQuery),
    request_body = ApproveBody,
    responses((status = 200, description = "The payout then", body = Envelope<ActedView>))
)]
pub async fn approve_reroute(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let target = gateway.payout_target(&subject, PayoutRight::APPROVE, id, query).await?;
    let text = gateway.act_text(&headers, body).await?;
    let fields = Fields::of_body(&text, &["accept_duplicate_risk", "reason"])?;
    if fields.flag("accept_duplicate_risk")? != Some(true) {
        let text =
            "must be true: the payout may be executed twice; with the bank's evidence, resolve the payout instead";
        return Err(fields.invalid("accept_duplicate_risk", text));
    }
    let input = PayoutInput::AcceptDuplicateRisk { evidence: person(&gateway, &subject) };
    let request = request(target, PayoutAct::AcceptRisk, input, &fields)?;
    act_once(&gateway, &request, &actor(&subject, request_id), |payout, actor| {
        payout.risk_accepted_by.iter().any(|accepted| accepted.subject.as_deref() == Some(actor.subject.as_str()))
    })
    .await
}

/// Says what became of an attempt, by a message of the bank. That it was executed needs one person; that it was not, two
/// different ones who say the same. The same statement again changes nothing.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/{payout_id}/resolve",
    operation_id = "resolvePayout",
    tag = "payouts",
    params(("payout_id" = String, Path, description = "The caller's ID of the payout"), NamespaceQuery),
    request_body = ResolvePayoutBody,
    responses((status = 200, description = "The payout then", body = Envelope<ActedView>))
)]
pub async fn resolve(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let target = gateway.payout_target(&subject, PayoutRight::RESOLVE, id, query).await?;
    let text = gateway.act_text(&headers, body).await?;
    let fields = Fields::of_body(&text, &["attempt_no", "resolution", "reference", "message_hash", "reason"])?;
    let given = fields.required_text("resolution")?;
    let resolution = Resolution::ALL.into_iter().find(|resolution| resolution.as_str() == given).ok_or_else(|| {
        let all: Vec<&str> = Resolution::ALL.iter().map(|resolution| resolution.as_str()).collect();
        fields.invalid("resolution", &format!("must be one of: {}", all.join(", ")))
    })?;
    let evidence = said(&fields, person(&gateway, &subject))?;
    let stored = gateway.stored_payout(&target).await?;
    let attempt_no = attempt_field(&fields, &stored.payout)?;
    let input = PayoutInput::Resolve { attempt_no, resolution, evidence };
    let request = request(target, PayoutAct::Resolve, input, &fields)?;
    act_once(&gateway, &request, &actor(&subject, request_id), |payout, actor| {
        let Some(attempt) = payout.attempt(attempt_no) else { return false };
        let proposed = attempt.proposed.as_ref().filter(|proposed| proposed.resolution == resolution);
        let is_own = proposed.is_some_and(|one| one.evidence.subject.as_deref() == Some(actor.subject.as_str()));
        is_own || attempt.state == resolution.state()
    })
    .await
}

/// Releases a payout that is frozen or held as a whole. Its attempts stay as they are, and so does the proof that a further
/// attempt needs.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/{payout_id}/resume",
    operation_id = "resumePayout",
    tag = "payouts",
    params(("payout_id" = String, Path, description = "The caller's ID of the payout"), NamespaceQuery),
    request_body = Option<ReasonBody>,
    responses((status = 200, description = "The payout then", body = Envelope<ActedView>))
)]
pub async fn resume(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let target = gateway.payout_target(&subject, PayoutRight::RESUME, id, query).await?;
    let text = gateway.act_text(&headers, body).await?;
    let fields = Fields::of_body(&text, &["reason"])?;
    let input = PayoutInput::Resume { evidence: person(&gateway, &subject) };
    let request = request(target, PayoutAct::Resume, input, &fields)?;
    act_once(&gateway, &request, &actor(&subject, request_id), |payout, _| !payout.frozen && payout.hold.is_none())
        .await
}

/// Does an act; where it is refused because it was done before, the answer is the payout as it is.
async fn act_once(
    gateway: &Gateway,
    request: &PayoutRequest,
    actor: &Actor,
    is_done: impl Fn(&Payout, &Actor) -> bool,
) -> Result<Response, Problem> {
    match gateway.routing.act(request, actor).await {
        Ok(stored) => Ok(acted(stored, false)),
        Err(RoutingError::ActRefused { payout, refusal }) if may_be_done(&refusal) && is_done(&payout, actor) => {
            let stored = gateway.routing.get_payout(&request.namespace, &request.payout_id).await?;
            Ok(acted(stored, true))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an act is refused for what the same act did.
fn may_be_done(refusal: &Refusal) -> bool {
    use PayoutRefusal::{AlreadyFinal, NotFrozen, SameSubject};
    matches!(refusal, Refusal::Payout { reason: AlreadyFinal | NotFrozen | SameSubject })
}

/// The person who acts.
pub(super) fn person(gateway: &Gateway, subject: &UserInfo) -> Evidence {
    Evidence::new(EvidenceSource::Operator, gateway.clock.now().wall).by(subject.user.as_str())
}

/// Evidence with the message that the body names.
fn said(fields: &Fields<'_>, evidence: Evidence) -> Result<Evidence, Problem> {
    let reference = fields.short_text("reference", MAX_REFERENCE)?;
    let hash = message_hash(fields)?;
    if reference.is_none() && hash.is_none() {
        let text = "missing; name the bank's message by reference or message_hash";
        return Err(fields.invalid("reference", text));
    }
    Ok(Evidence { message_hash: hash, message_id: reference, ..evidence })
}

/// The hash in the field `message_hash`.
pub(super) fn message_hash(fields: &Fields<'_>) -> Result<Option<[u8; 32]>, Problem> {
    let Some(text) = fields.text("message_hash")? else { return Ok(None) };
    let hash = parse_hash(&text);
    hash.map(Some).ok_or_else(|| fields.invalid("message_hash", "must be a SHA-256: 64 hexadecimal digits"))
}

fn request(
    target: PayoutTarget,
    act: PayoutAct,
    input: PayoutInput,
    fields: &Fields<'_>,
) -> Result<PayoutRequest, Problem> {
    let PayoutTarget { namespace, payout_id } = target;
    Ok(PayoutRequest { act, input, namespace, payout_id, reason: fields.short_text("reason", MAX_REASON)? })
}
