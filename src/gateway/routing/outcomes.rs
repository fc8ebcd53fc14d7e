//! `POST /api/treasury/routing/outcomes`: what became of decided payouts.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use jiff::SignedDuration;
use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical;
use crate::domain::decision::OutcomeClass;
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{RoutingRight, actor, json_text};
use crate::gateway::routing::fields::{DecimalInput, Fields, invalid, items};
use crate::gateway::state::Gateway;
use crate::routing::{OutcomeReport, OutcomeStored, RoutingError};

/// Most outcomes of a request.
const MAX_OUTCOMES: usize = 500;
/// Longest latency of a bank: a day, in milliseconds.
const MAX_LATENCY: u64 = 86_400_000;
/// How far ahead of this clock a reported instant may be.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(4);
/// The names of [`OutcomesBody`] and of a body with a single outcome.
const NAMES: &[&str] = &["namespace", "outcomes", "decision_id", "attempt_id", "class", "latency_ms", "at"];
/// The names of [`OutcomeBody`].
const ITEM_NAMES: &[&str] = &["decision_id", "attempt_id", "class", "latency_ms", "at"];

/// Outcomes of attempts. A list of outcomes, or a single one, is accepted too.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomesBody {
    /// Namespace of the decisions. Unset: `--gateway-default-namespace`.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// The outcomes.
    #[schema(min_items = 1, max_items = 500)]
    pub outcomes: Vec<OutcomeBody>,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeBody {
    /// ID of the decision. Either this or `attempt_id` is required.
    #[schema(format = "uuid")]
    pub decision_id: Option<String>,
    /// ID of the attempt: that of its decision.
    #[schema(format = "uuid")]
    pub attempt_id: Option<String>,
    /// What happened. `not_sent` (nothing was sent to the bank) and `rejected` (the bank refused for good) are proof that the
    /// attempt was not executed.
    pub class: OutcomeClassInput,
    /// How long the bank took, in milliseconds.
    pub latency_ms: Option<DecimalInput>,
    /// When it happened. Unset: now.
    #[schema(format = DateTime)]
    pub at: Option<String>,
}

/// What became of an attempt: the name of an outcome class.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeClassInput(pub String);

impl PartialSchema for OutcomeClassInput {
    fn schema() -> RefOr<Schema> {
        let names = OutcomeClass::ALL.iter().map(|class| class.as_str());
        let meanings = OutcomeClass::ALL.iter().map(|class| format!("`{class}`: {}", class.meaning()));
        let text = meanings.collect::<Vec<_>>().join(" ");
        ObjectBuilder::new().schema_type(Type::String).description(Some(text)).enum_values(Some(names)).into()
    }
}

impl ToSchema for OutcomeClassInput {}

/// What was done with one outcome.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeResultView {
    /// ID of the decision.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub decision_id: Uuid,
    /// `stored`, `repeated` (the same was reported before), `decision_not_found`, or `full`: the decision has 256 outcomes, and
    /// this one changes nothing.
    #[schema(value_type = String)]
    pub result: &'static str,
}

/// What was done with each outcome.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeResults {
    /// In the order of the request.
    pub items: Vec<OutcomeResultView>,
}

/// Reports what became of decided payouts: evidence of the banks' health, and proof for further attempts. All outcomes of a
/// request are checked before the first is stored; one whose decision is unknown does not keep the others from being stored.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/outcomes",
    operation_id = "reportOutcomes",
    tag = "routing",
    request_body = OutcomesBody,
    responses((status = 200, description = "What was done with each", body = Envelope<OutcomeResults>))
)]
pub async fn outcomes(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (text, permit) = json_text(&gateway, &headers, body).await?;
    let (namespace, reports) = read(&gateway, &text)?;
    let latest = gateway.clock.now().wall + MAX_SKEW;
    if let Some(index) = reports.iter().position(|report| report.at.is_some_and(|at| at > latest)) {
        let text = "must not be in the future; send the time at which the outcome was known";
        return Err(invalid(format!("outcomes[{index}].at"), text));
    }
    drop(permit);
    gateway.require_routing(&subject, RoutingRight::REPORT_OUTCOMES, &namespace, "").await?;
    let results = gateway.routing.outcomes(&namespace, reports, &actor(&subject, request_id)).await?;
    let items = results.into_iter().map(|done| {
        let result = match done.result {
            Ok(OutcomeStored::Stored) => "stored",
            Ok(OutcomeStored::Repeated) => "repeated",
            Err(RoutingError::DecisionNotFound { .. }) => "decision_not_found",
            Err(RoutingError::OutcomesFull { .. }) => "full",
            Err(error) => return Err(Problem::from(error)),
        };
        Ok(OutcomeResultView { decision_id: done.decision, result })
    });
    let items = items.collect::<Result<_, Problem>>()?;
    Ok(Envelope::ok(OutcomeResults { items }).into_response())
}

/// The namespace and the outcomes of a body: of an object with a list, of a list, or of a single outcome.
fn read(gateway: &Gateway, body: &[u8]) -> Result<(String, Vec<OutcomeReport>), Problem> {
    let text = std::str::from_utf8(body).unwrap_or_default().trim_ascii();
    if text.starts_with('[') {
        let all = items(text, MAX_OUTCOMES);
        let all = all.ok_or_else(|| invalid("outcomes", "must be a list of 1 to 500 outcomes"))?;
        return Ok((gateway.routing_namespace(None)?, reports(&all)?));
    }
    let fields = Fields::of_body(body, NAMES)?;
    let namespace = gateway.namespace_field(&fields)?;
    let Some(all) = fields.items("outcomes", MAX_OUTCOMES)? else {
        if !fields.has("decision_id") && !fields.has("attempt_id") {
            return Err(fields.missing("outcomes"));
        }
        return Ok((namespace, vec![report(&fields)?]));
    };
    if let Some(stray) = ITEM_NAMES.iter().find(|name| fields.has(name)) {
        return Err(fields.invalid(stray, "given beside outcomes; it is a field of one outcome"));
    }
    Ok((namespace, reports(&all)?))
}

fn reports(all: &[&str]) -> Result<Vec<OutcomeReport>, Problem> {
    let read =
        |(index, text): (usize, &&str)| report(&Fields::of_item(text, ITEM_NAMES, &format!("outcomes[{index}]"))?);
    all.iter().enumerate().map(read).collect()
}

/// One outcome.
fn report(fields: &Fields<'_>) -> Result<OutcomeReport, Problem> {
    let decision = match (fields.uuid("decision_id")?, fields.uuid("attempt_id")?) {
        (Some(id), None) | (None, Some(id)) => id,
        (Some(_), Some(_)) => {
            return Err(fields.invalid("attempt_id", "given beside decision_id; send one of the two"));
        }
        (None, None) => return Err(fields.missing("decision_id")),
    };
    let class: Option<OutcomeClass> = fields.required_text("class")?.parse().ok();
    let class = class.ok_or_else(|| {
        let all: Vec<&str> = OutcomeClass::ALL.iter().map(|class| class.as_str()).collect();
        fields.invalid("class", &format!("must be one of: {}", all.join(", ")))
    })?;
    let latency = fields.whole("latency_ms", 0, MAX_LATENCY)?.map(Duration::from_millis);
    Ok(OutcomeReport { at: fields.instant("at")?, class, decision, latency })
}
