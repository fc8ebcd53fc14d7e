//! `GET /api/treasury/routing/decisions`: the decisions, and one of them with every candidate explained.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical::{self, Hash};
use crate::domain::decision::DecisionRecord;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{is_object_name, page_limit};
use crate::gateway::problem::Problem;
use crate::gateway::routing::access::{RoutingRight, path_id};
use crate::gateway::routing::fields::invalid;
use crate::gateway::routing::view::{DecisionView, OutcomeView, kind};
use crate::gateway::state::Gateway;
use crate::ledger::decisions::{DecisionFilter, StoredDecision};
use crate::routing::{Decided, RoutingError};

/// What is not found.
const NOT_FOUND: &str = "decision not found: the ID does not exist or is older than the retention; check the ID";

/// Filters and page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DecisionsQuery {
    /// Only decisions of routes in this namespace. Unset: `--gateway-default-namespace`, and without that all namespaces, which
    /// needs a cluster-wide permission.
    pub namespace: Option<String>,
    /// Only decisions of this route.
    pub route: Option<String>,
    /// Only decisions for this bank: name of the candidate. `bank` is accepted too.
    #[serde(alias = "bank")]
    pub candidate: Option<String>,
    /// Only decisions made at or after this time.
    #[param(format = DateTime)]
    pub from_time: Option<String>,
    /// Only decisions made before this time.
    #[param(format = DateTime)]
    pub to_time: Option<String>,
    /// The `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of decisions on a page. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// A decision of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionSummary {
    /// Its ID.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub decision_id: Uuid,
    /// `decision`, or `override`: the choice of operations staff.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// Namespace of the route.
    pub namespace: String,
    /// Name of the route.
    pub route: String,
    /// ID of the payout.
    pub payout_id: String,
    /// Number of the attempt to execute the payout, from 1.
    #[schema(minimum = 1)]
    pub attempt_no: u32,
    /// The chosen bank: name of the candidate.
    pub candidate: String,
    /// Amount in `currency`; null if the stored record cannot be read: run `busbar audit verify`.
    #[serde(with = "canonical::decimal::option")]
    #[schema(value_type = Option<String>)]
    pub amount: Option<Decimal>,
    /// Currency; null like `amount`.
    pub currency: Option<String>,
    /// Country of the beneficiary, if it was named.
    pub country: Option<String>,
    /// When it was made.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub decided_at: Timestamp,
    /// The caller.
    pub subject: Option<String>,
    /// The reason that operations staff gave; null for a decision that is no override.
    pub override_reason: Option<String>,
    /// The override that replaces this decision, if one does.
    #[serde(with = "canonical::uuid_text::option")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub superseded_by: Option<Uuid>,
    /// ID of the snapshot of route, banks and rules.
    #[serde(with = "canonical::hash")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub snapshot: Hash,
    /// Its place in the audit.
    #[schema(minimum = 1)]
    pub seq: u64,
    /// Hash of its entry in the audit, over all entries before it.
    #[serde(with = "canonical::hash")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub hash: Hash,
    /// What was reported of the attempt, in order of receipt.
    pub outcomes: Vec<OutcomeView>,
}

/// A page of decisions.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionPageView {
    /// Newest first. A page may have fewer items than `limit` although others follow.
    pub items: Vec<DecisionSummary>,
    /// Where the next page starts; null on the last page.
    pub next_cursor: Option<String>,
}

impl From<StoredDecision> for DecisionSummary {
    fn from(stored: StoredDecision) -> Self {
        let record = DecisionRecord::decode(&stored.body).ok();
        let request = record.as_ref().map(|record| &record.request);
        Self {
            decision_id: stored.id,
            kind: kind(stored.kind),
            namespace: stored.key.namespace,
            route: stored.route,
            payout_id: stored.key.payout_id,
            attempt_no: stored.key.attempt_no,
            candidate: stored.candidate,
            amount: request.map(|request| request.payout.amount),
            currency: request.map(|request| request.payout.currency.to_string()),
            country: request.and_then(|request| request.payout.country.clone()),
            decided_at: stored.at,
            subject: record.as_ref().map(|record| record.subject.clone()),
            override_reason: record.as_ref().and_then(|record| record.reason.clone()),
            superseded_by: stored.superseded_by,
            snapshot: stored.snapshot,
            seq: stored.seq,
            hash: stored.hash,
            outcomes: stored.outcomes.into_iter().map(OutcomeView::from).collect(),
        }
    }
}

/// Lists decisions, newest first.
#[utoipa::path(
    get,
    path = "/api/treasury/routing/decisions",
    operation_id = "listDecisions",
    tag = "routing",
    params(DecisionsQuery),
    responses((status = 200, description = "A page", body = Envelope<DecisionPageView>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    query: Result<Query<DecisionsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| {
        let text = "invalid query; allowed, once each: namespace, route, candidate, from_time, to_time, cursor, limit (1 to 500)";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    let limit = u32::try_from(page_limit(query.limit)?).unwrap_or(u32::MAX);
    let before = query.cursor.as_deref().map(decode_cursor).transpose()?;
    let filter = filter(&gateway, query)?;
    let (namespace, route) = (filter.namespace.as_deref().unwrap_or_default(), filter.route.as_deref());
    let right = RoutingRight::LIST_DECISIONS;
    gateway.require_routing(&subject, right, namespace, route.unwrap_or_default()).await?;
    let page = gateway.routing.list(&filter, before, limit).await?;
    let items = page.decisions.into_iter().map(DecisionSummary::from).collect();
    Ok(Envelope::ok(DecisionPageView { items, next_cursor: page.next.map(encode_cursor) }).into_response())
}

/// One decision: the payout, the choice, and every candidate with its costs or the reason why it was excluded, derived again
/// from the record.
#[utoipa::path(
    get,
    path = "/api/treasury/routing/decisions/{id}",
    operation_id = "getDecision",
    tag = "routing",
    params(("id" = String, Path, description = "ID of the decision", format = "uuid")),
    responses((status = 200, description = "The decision", body = Envelope<DecisionView<'static>>))
)]
pub async fn one(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let decided = find(&gateway, &subject, id, RoutingRight::GET_DECISION).await?;
    Ok(Envelope::ok(DecisionView::from(&decided)).into_response())
}

/// The decision of a path, if RBAC allows the caller this on its route. A caller without that right gets the denial,
/// whether or not the decision exists.
pub(super) async fn find(
    gateway: &Gateway,
    subject: &UserInfo,
    id: Result<Path<String>, PathRejection>,
    right: RoutingRight,
) -> Result<Decided, Problem> {
    let id = path_id(id, ErrorCode::DecisionNotFound, NOT_FOUND);
    let found: Result<Decided, Problem> = match id {
        Ok(id) => match gateway.routing.get(id).await {
            Err(error @ RoutingError::Unavailable { .. }) => return Err(error.into()),
            found => found.map_err(Problem::from),
        },
        Err(problem) => Err(problem),
    };
    let (namespace, route) = match &found {
        Ok(decided) => (decided.record.request.namespace.as_str(), decided.snapshot.snapshot.route.as_str()),
        Err(_) => ("", ""),
    };
    gateway.require_routing(subject, right, namespace, route).await?;
    found
}

fn filter(gateway: &Gateway, query: DecisionsQuery) -> Result<DecisionFilter, Problem> {
    let instant = |text: Option<String>, name: &str| {
        let parse = |text: String| {
            let at: Option<Timestamp> = text.parse().ok();
            at.ok_or_else(|| invalid(name, "must be an RFC 3339 instant such as \"2030-01-31T18:00:00Z\""))
        };
        text.map(parse).transpose()
    };
    for (name, value) in [("namespace", &query.namespace), ("route", &query.route), ("candidate", &query.candidate)] {
        if value.as_deref().is_some_and(|value| !is_object_name(value)) {
            return Err(invalid(name, "must have 1 to 253 of a-z, 0-9, - and ."));
        }
    }
    Ok(DecisionFilter {
        namespace: query.namespace.or_else(|| gateway.default_namespace.clone()),
        route: query.route,
        candidate: query.candidate,
        from: instant(query.from_time, "from_time")?,
        to: instant(query.to_time, "to_time")?,
    })
}

/// A place in the audit as a cursor.
pub(super) fn encode_cursor(before: u64) -> String {
    URL_SAFE_NO_PAD.encode(before.to_be_bytes())
}

/// The place that a cursor encodes.
pub(super) fn decode_cursor(cursor: &str) -> Result<u64, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    // The ledgers count in signed numbers.
    let before = bytes.map(u64::from_be_bytes).filter(|before| i64::try_from(*before).is_ok());
    before.ok_or_else(|| invalid("cursor", "must be the next_cursor of a page"))
}
