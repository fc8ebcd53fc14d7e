//! `GET /api/treasury/routing/health`: the banks of the routes of a namespace.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical;
use crate::domain::health::{Health, RiskTier};
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::routing::access::RoutingRight;
use crate::gateway::routing::adjustments::NamespaceQuery;
use crate::gateway::routing::candidate_view::{PredictionView, Share};
use crate::gateway::state::Gateway;
use crate::routing::{BankHealth, BankUse};

/// The health of a bank: of a connection that routes use.
#[derive(Debug, Serialize, ToSchema)]
pub struct BankHealthView {
    /// Name of the connection.
    pub connection: String,
    /// `bankProfileID`s that routes give it.
    pub bank_profile_ids: Vec<String>,
    /// Where routes use it.
    pub used_by: Vec<BankUseView>,
    /// `Live`, `NotReady` or `Missing`.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// `Healthy`, `Degraded`, `Unhealthy` or `Unknown`.
    #[schema(value_type = String)]
    pub health: &'static str,
    /// Risk of failing payouts, from 0 to 1; null if the connection is not running.
    #[schema(value_type = Option<String>)]
    pub risk: Option<Share>,
    /// `Low`, `Elevated`, `High` or `Critical`; null if the connection is not running.
    #[schema(value_type = Option<String>)]
    pub risk_tier: Option<&'static str>,
    /// Estimated success rate, from 0 to 1; null if the connection is not running.
    #[schema(value_type = Option<String>)]
    pub success: Option<Share>,
    /// 95th percentile of the latency in milliseconds, if it is known.
    #[schema(minimum = 0)]
    pub p95_ms: Option<u64>,
    /// State of the circuit: `Closed`, `HalfOpen`, `Open`, `ForcedOpen`, `ForcedClosed` or `Shadow`; null if the connection is not running.
    #[schema(value_type = Option<String>)]
    pub circuit: Option<&'static str>,
    /// Since when the circuit is in that state.
    #[serde(with = "canonical::instant::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// The predictions for it.
    pub predictions: Vec<PredictionView>,
}

/// Where a bank is used.
#[derive(Debug, Serialize, ToSchema)]
pub struct BankUseView {
    /// Name of the route.
    pub route: String,
    /// Name of the candidate.
    pub candidate: String,
}

/// The banks of a namespace.
#[derive(Debug, Serialize, ToSchema)]
pub struct BankHealthList {
    /// By name of the connection.
    pub items: Vec<BankHealthView>,
}

impl From<BankHealth> for BankHealthView {
    fn from(bank: BankHealth) -> Self {
        let live = bank.health;
        Self {
            connection: bank.connection,
            bank_profile_ids: bank.bank_profile_ids,
            used_by: bank
                .uses
                .into_iter()
                .map(|BankUse { route, candidate }| BankUseView { route, candidate })
                .collect(),
            state: bank.state.as_str(),
            health: health_name(live.map_or(Health::Unknown, |live| live.health)),
            risk: live.map(|live| Share(live.risk.get())),
            risk_tier: live.map(|live| tier_name(live.tier)),
            success: live.map(|live| Share(live.success.get())),
            p95_ms: live.and_then(|live| live.p95).map(|p95| u64::try_from(p95.as_millis()).unwrap_or(u64::MAX)),
            circuit: live.map(|live| live.circuit.as_str()),
            since: live.map(|live| live.since),
            predictions: bank.predictions.iter().map(PredictionView::from).collect(),
        }
    }
}

const fn health_name(health: Health) -> &'static str {
    match health {
        Health::Healthy => "Healthy",
        Health::Degraded => "Degraded",
        Health::Unhealthy => "Unhealthy",
        Health::Unknown => "Unknown",
    }
}

const fn tier_name(tier: RiskTier) -> &'static str {
    match tier {
        RiskTier::Low => "Low",
        RiskTier::Elevated => "Elevated",
        RiskTier::High => "High",
        RiskTier::Critical => "Critical",
    }
}

/// Lists the banks that routes of the namespace use: health, risk, success, latency, circuit and predictions of each.
#[utoipa::path(
    get,
    path = "/api/treasury/routing/health",
    operation_id = "routingHealth",
    tag = "routing",
    params(NamespaceQuery),
    responses((status = 200, description = "The banks", body = Envelope<BankHealthList>))
)]
pub async fn health(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let namespace = NamespaceQuery::read(&gateway, query)?;
    gateway.require_routing(&subject, RoutingRight::LIST_ROUTES, &namespace, "").await?;
    let items = gateway.routing.health(&namespace).into_iter().map(BankHealthView::from).collect();
    Ok(Envelope::ok(BankHealthList { items }).into_response())
}
