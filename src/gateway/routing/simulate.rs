//! `POST /api/treasury/routing/simulate`: recorded decisions against a changed route.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical;
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::routing::access::{RoutingRight, json_text, route_field};
use crate::gateway::routing::fields::Fields;
use crate::gateway::state::Gateway;
use crate::profile::json;
use crate::routing::{SimulatedDifference, Simulation, SimulationRequest};

/// Most decisions of a simulation.
const MAX_DECISIONS: u64 = 10_000;
/// Decisions of a simulation that names no number.
const DEFAULT_DECISIONS: u64 = 1_000;
/// The names of [`SimulateBody`].
const NAMES: &[&str] = &["namespace", "route", "spec", "from_time", "to_time", "limit"];

/// A changed route, and which decisions to hold against it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulateBody {
    /// Namespace of the route. Unset: `--gateway-default-namespace`.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// Name of the route whose decisions are taken.
    #[schema(min_length = 1, max_length = 253, pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    pub route: String,
    /// The changed `spec` of the `BankRoute`, whole.
    #[schema(value_type = Object)]
    pub spec: Value,
    /// Only decisions made at or after this time.
    #[schema(format = DateTime)]
    pub from_time: Option<String>,
    /// Only decisions made before this time.
    #[schema(format = DateTime)]
    pub to_time: Option<String>,
    /// Maximum number of decisions, the newest first. Unset: 1000.
    #[schema(minimum = 1, maximum = 10000)]
    pub limit: Option<u32>,
}

/// What the changed route would have decided.
#[derive(Debug, Serialize, ToSchema)]
pub struct SimulationView {
    /// Decisions that were simulated.
    #[schema(minimum = 0)]
    pub decisions: u32,
    /// Those that another bank, or none, would have taken.
    #[schema(minimum = 0)]
    pub changed: u32,
    /// Those that cannot be simulated, because their record does not replay: run `busbar audit verify`.
    #[schema(minimum = 0)]
    pub unexplained: u32,
    /// Whether the range may have more decisions: it has more than `limit`, or the search ended after 64 readings of the audit.
    pub truncated: bool,
    /// The first 100 of those that changed, newest first.
    pub differences: Vec<DifferenceView>,
    /// The sums of the costs by currency, of the decisions whose cost is known before and after.
    pub costs: Vec<CostComparisonView>,
    /// What each bank took and would have taken, by currency.
    pub banks: Vec<BankShareView>,
}

/// A decision that would have been another one.
#[derive(Debug, Serialize, ToSchema)]
pub struct DifferenceView {
    /// ID of the decision.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub decision_id: Uuid,
    /// ID of the payout.
    pub payout_id: String,
    /// The bank that took it.
    pub from: String,
    /// The bank that would have taken it; null: none would.
    pub to: Option<String>,
    /// Currency of the costs.
    pub currency: String,
    /// Its cost, if it was known.
    #[serde(with = "canonical::decimal::option")]
    #[schema(value_type = Option<String>)]
    pub cost_before: Option<Decimal>,
    /// What it would have cost, if that is known.
    #[serde(with = "canonical::decimal::option")]
    #[schema(value_type = Option<String>)]
    pub cost_after: Option<Decimal>,
}

/// The costs of the same decisions, before and after.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostComparisonView {
    /// Currency.
    pub currency: String,
    /// As recorded.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub before: Decimal,
    /// As simulated.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub after: Decimal,
}

/// What a bank takes of the payouts, before and after.
#[derive(Debug, Serialize, ToSchema)]
pub struct BankShareView {
    /// Name of the candidate.
    pub candidate: String,
    /// Currency of the amounts.
    pub currency: String,
    /// Payouts as recorded.
    #[schema(minimum = 0)]
    pub decisions_before: u32,
    /// Payouts as simulated.
    #[schema(minimum = 0)]
    pub decisions_after: u32,
    /// Their amount as recorded.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub amount_before: Decimal,
    /// Their amount as simulated.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub amount_after: Decimal,
}

impl From<Simulation> for SimulationView {
    fn from(simulation: Simulation) -> Self {
        let Simulation { decisions, changed, unexplained, truncated, differences, costs, banks } = simulation;
        let costs = costs.into_iter().map(|(currency, comparison)| CostComparisonView {
            currency: currency.to_string(),
            before: comparison.before,
            after: comparison.after,
        });
        let banks = banks.into_iter().map(|((candidate, currency), share)| BankShareView {
            candidate,
            currency: currency.to_string(),
            decisions_before: share.decisions_before,
            decisions_after: share.decisions_after,
            amount_before: share.amount_before,
            amount_after: share.amount_after,
        });
        Self {
            decisions,
            changed,
            unexplained,
            truncated,
            differences: differences.into_iter().map(DifferenceView::from).collect(),
            costs: costs.collect(),
            banks: banks.collect(),
        }
    }
}

impl From<SimulatedDifference> for DifferenceView {
    fn from(difference: SimulatedDifference) -> Self {
        Self {
            decision_id: difference.decision,
            payout_id: difference.payout_id,
            from: difference.from,
            to: difference.to,
            currency: difference.currency.to_string(),
            cost_before: difference.cost_before,
            cost_after: difference.cost_after,
        }
    }
}

/// Which banks recorded payouts would have taken by a changed route, and at what cost: each decision is derived again from
/// what was known then, with the changed spec. Nothing is recorded. One simulation runs at a time on a replica: another one is
/// answered 503 with `Retry-After`.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/simulate",
    operation_id = "simulateRoute",
    tag = "routing",
    request_body = SimulateBody,
    responses((status = 200, description = "The differences", body = Envelope<SimulationView>))
)]
pub async fn simulate(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (text, permit) = json_text(&gateway, &headers, body).await?;
    let fields = Fields::of_body(&text, NAMES)?;
    let namespace = gateway.namespace_field(&fields)?;
    let route = route_field(&fields)?.ok_or_else(|| fields.missing("route"))?;
    gateway.require_routing(&subject, RoutingRight::LIST_DECISIONS, &namespace, &route).await?;
    let limit = fields.whole("limit", 1, MAX_DECISIONS)?.unwrap_or(DEFAULT_DECISIONS);
    let request = SimulationRequest {
        from: fields.instant("from_time")?,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        spec: spec(&fields)?,
        to: fields.instant("to_time")?,
        namespace,
        route,
    };
    drop(permit);
    let simulation = gateway.routing.simulate(request).await?;
    Ok(Envelope::ok(SimulationView::from(simulation)).into_response())
}

/// The changed spec: an object; what is wrong within it is told by its resolution.
fn spec(fields: &Fields<'_>) -> Result<Value, Problem> {
    let raw = fields.raw("spec").ok_or_else(|| fields.missing("spec"))?;
    let spec = json::parse(raw.as_bytes()).ok().filter(Value::is_object);
    spec.ok_or_else(|| fields.invalid("spec", "must be the spec of a BankRoute: a JSON object"))
}
