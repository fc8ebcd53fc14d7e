//! `POST /api/treasury/payouts/{payout_id}/attempts/{attempt_no}/…`: what the system that submits payouts says of an attempt,
//! and its question whether it may send it again.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::SignedDuration;
use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::cluster::auth::UserInfo;
use crate::domain::canonical::sha256;
use crate::domain::decision::OutcomeClass;
use crate::domain::payout::{BankReport, Evidence, EvidenceSource, PayoutInput};
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{actor, json_text};
use crate::gateway::routing::adjustments::NamespaceQuery;
use crate::gateway::routing::fields::{DecimalInput, Fields};
use crate::gateway::routing::payouts::acts::{ActedView, acted};
use crate::gateway::routing::payouts::target::{PayoutRight, PayoutTarget, path_attempt};
use crate::gateway::state::Gateway;
use crate::ledger::payouts::PayoutAct;
use crate::routing::{OutcomeReport, OutcomeStored, PayoutRequest, RoutingError};

/// The class that says that the attempt was sent, and nothing of what the bank did.
const SUBMITTED: &str = "submitted";
/// Longest latency of a bank: a day, in milliseconds.
const MAX_LATENCY: u64 = 86_400_000;
/// How far ahead of this clock a reported instant may be.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(4);
/// The names of [`AttemptOutcomeBody`].
const NAMES: &[&str] = &["class", "latency_ms", "at"];

/// What became of an attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptOutcomeBody {
    /// What happened.
    pub class: AttemptOutcomeInput,
    /// How long the bank took, in milliseconds.
    pub latency_ms: Option<DecimalInput>,
    /// When it happened. Unset: now.
    #[schema(format = DateTime)]
    pub at: Option<String>,
}

/// `submitted`, or the name of an outcome class.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptOutcomeInput(pub String);

impl PartialSchema for AttemptOutcomeInput {
    fn schema() -> RefOr<Schema> {
        let names = std::iter::once(SUBMITTED).chain(OutcomeClass::ALL.iter().map(|class| class.as_str()));
        let sent = std::iter::once(format!("`{SUBMITTED}`: The attempt was sent to the bank."));
        let meanings = OutcomeClass::ALL.iter().map(|class| format!("`{class}`: {}", class.meaning()));
        let text = sent.chain(meanings).collect::<Vec<_>>().join(" ");
        ObjectBuilder::new().schema_type(Type::String).description(Some(text)).enum_values(Some(names)).into()
    }
}

impl ToSchema for AttemptOutcomeInput {}

/// Reports what became of an attempt. A time-out or a server error is no failure of the payout: its fate is unknown from then
/// on, and the bank is inquired. `rejected` proves that it was not executed; so does `not_sent`, unless it was reported as sent or
/// timed out before, or a permission to send it once more was given. The same report again changes nothing.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/{payout_id}/attempts/{attempt_no}/outcomes",
    operation_id = "reportAttempt",
    tag = "payouts",
    params(
        ("payout_id" = String, Path, description = "The caller's ID of the payout"),
        ("attempt_no" = u32, Path, description = "Number of the attempt, from 1", minimum = 1, maximum = 1000),
        NamespaceQuery,
    ),
    request_body = AttemptOutcomeBody,
    responses((status = 200, description = "The payout then", body = Envelope<ActedView>))
)]
pub async fn outcomes(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let (id, number) = split(path);
    let target = gateway.payout_target(&subject, PayoutRight::REPORT, id, query).await?;
    let number = path_attempt(&number)?;
    let (text, permit) = json_text(&gateway, &headers, body).await?;
    let fields = Fields::of_body(&text, NAMES)?;
    let class = fields.required_text("class")?.into_owned();
    let latency = fields.whole("latency_ms", 0, MAX_LATENCY)?.map(Duration::from_millis);
    let at = fields.instant("at")?;
    if at.is_some_and(|at| at > gateway.clock.now().wall + MAX_SKEW) {
        return Err(fields.invalid("at", "must not be in the future; send the time at which the outcome was known"));
    }
    let outcome = class.parse::<OutcomeClass>().ok();
    if outcome.is_none() && class != SUBMITTED {
        let all: Vec<&str> = OutcomeClass::ALL.iter().map(|class| class.as_str()).collect();
        return Err(fields.invalid("class", &format!("must be one of: {SUBMITTED}, {}", all.join(", "))));
    }
    drop(permit);
    let actor = actor(&subject, request_id);
    let stored = gateway.stored_payout(&target).await?;
    let attempt = stored.payout.attempt(number).ok_or_else(|| no_attempt(number))?;
    let Some(class) = outcome else {
        let at = at.unwrap_or_else(|| gateway.clock.now().wall);
        let message = Evidence::message(EvidenceSource::Submitter, at, sha256(&text));
        let evidence = message.by(actor.subject.as_str());
        let input = PayoutInput::Report { attempt_no: number, report: BankReport::Submitted, evidence };
        let repeated = attempt.sent_at == Some(crate::domain::canonical::to_millis(at));
        if repeated {
            return Ok(acted(stored, true));
        }
        let request = request(&target, PayoutAct::Report, input);
        return Ok(acted(gateway.routing.act_on(stored, &request, &actor).await?, false));
    };
    let report = OutcomeReport { at, class, decision: attempt.plan.decision_id, latency };
    let results = gateway.routing.outcomes(&target.namespace, vec![report], &actor).await?;
    let mut repeated = false;
    for done in results {
        repeated = done.result? == OutcomeStored::Repeated;
    }
    Ok(acted(gateway.stored_payout(&target).await?, repeated))
}

/// Asks whether the attempt may be sent to the same bank again, with the same idempotency key and the same body: only inside the
/// window in which the bank knows the key, less a margin. A new permission ends at the attempt's `expires_at`. 503
/// `payouts_suspended` after a restore of the ledger with loss.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/{payout_id}/attempts/{attempt_no}/resend",
    operation_id = "resendAttempt",
    tag = "payouts",
    params(
        ("payout_id" = String, Path, description = "The caller's ID of the payout"),
        ("attempt_no" = u32, Path, description = "Number of the attempt, from 1", minimum = 1, maximum = 1000),
        NamespaceQuery,
    ),
    responses((status = 200, description = "The payout then: see expires_at of the attempt", body = Envelope<ActedView>))
)]
pub async fn resend(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (id, number) = split(path);
    let target = gateway.payout_target(&subject, PayoutRight::CREATE, id, query).await?;
    let attempt_no = path_attempt(&number)?;
    // A newer attempt may be missing: this one is sent again as little as a further one is decided.
    if gateway.routing.payouts_suspended().await? {
        return Err(RoutingError::PayoutsSuspended.into());
    }
    let stored = gateway.stored_payout(&target).await?;
    let attempt = stored.payout.attempt(attempt_no).ok_or_else(|| no_attempt(attempt_no))?;
    let leads_to = gateway.routing.target_of(&target.namespace, attempt);
    let actor = actor(&subject, request_id);
    let evidence = Evidence::new(EvidenceSource::Submitter, gateway.clock.now().wall).by(actor.subject.as_str());
    let input = PayoutInput::RequestResend { attempt_no, evidence, target: leads_to };
    let request = request(&target, PayoutAct::Report, input);
    Ok(acted(gateway.routing.act_on(stored, &request, &actor).await?, false))
}

/// The two parts of a path.
fn split(path: Result<Path<(String, String)>, PathRejection>) -> (Result<Path<String>, PathRejection>, String) {
    match path {
        Ok(Path((id, number))) => (Ok(Path(id)), number),
        Err(rejection) => (Err(rejection), String::new()),
    }
}

fn request(target: &PayoutTarget, act: PayoutAct, input: PayoutInput) -> PayoutRequest {
    let (namespace, payout_id) = (target.namespace.clone(), target.payout_id.clone());
    PayoutRequest { act, input, namespace, payout_id, reason: None }
}

fn no_attempt(number: u32) -> Problem {
    let text = "attempt not found: the payout has no attempt of this number; read the payout";
    Problem::new(ErrorCode::PayoutNotFound, text).with("attempt_no", number)
}
