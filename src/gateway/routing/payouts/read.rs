//! `GET /api/treasury/payouts`: the payouts, and one of them with its attempts, its timeline and the evidence.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::cluster::auth::UserInfo;
use crate::domain::payout::PayoutState;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{is_object_name, page_limit};
use crate::gateway::problem::Problem;
use crate::gateway::routing::adjustments::NamespaceQuery;
use crate::gateway::routing::decisions::{decode_cursor, encode_cursor};
use crate::gateway::routing::fields::invalid;
use crate::gateway::routing::payouts::target::PayoutRight;
use crate::gateway::routing::payouts::view::{PayoutView, TimelineView};
use crate::gateway::state::Gateway;
use crate::ledger::payouts::{PayoutFilter, StoredPayout};

/// Rows of a timeline that are read at a time.
const TIMELINE_PAGE: u32 = 500;
/// Rows of a timeline in one answer. A payout that is held for two weeks and inquired every hour has some 700.
const MAX_TIMELINE: usize = 2_000;
/// The ID of a payout that the path of another call hides.
const RESUME: &str = "resume";

/// Filters and page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PayoutsQuery {
    /// Only payouts of this namespace. Unset: `--gateway-default-namespace`, and without that all namespaces, which needs a
    /// cluster-wide permission.
    pub namespace: Option<String>,
    /// Only payouts of this route.
    pub route: Option<String>,
    /// Only payouts in this state: `open`, `stuck`, `held`, `frozen`, `confirmed` or `not_executed`.
    pub state: Option<String>,
    /// The `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of payouts on a page. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// A page of payouts.
#[derive(Debug, Serialize, ToSchema)]
pub struct PayoutPageView {
    /// The last registered first. A page may have fewer items than `limit` although others follow.
    pub items: Vec<PayoutView>,
    /// Where the next page starts; null on the last page.
    pub next_cursor: Option<String>,
}

/// A payout and what happened to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PayoutDetailView {
    /// The payout.
    pub payout: PayoutView,
    /// What happened to it, oldest first: the newest 2000 rows.
    pub timeline: Vec<TimelineView>,
}

/// Lists payouts, the last registered first.
#[utoipa::path(
    get,
    path = "/api/treasury/payouts",
    operation_id = "listPayouts",
    tag = "payouts",
    params(PayoutsQuery),
    responses((status = 200, description = "A page", body = Envelope<PayoutPageView>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    query: Result<Query<PayoutsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| {
        let text = "invalid query; allowed, once each: namespace, route, state, cursor, limit (1 to 500)";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    let limit = u32::try_from(page_limit(query.limit)?).unwrap_or(u32::MAX);
    let before = query.cursor.as_deref().map(decode_cursor).transpose()?;
    let filter = filter(&gateway, query)?;
    gateway.require_payouts(&subject, PayoutRight::LIST, filter.namespace.as_deref().unwrap_or_default()).await?;
    let page = gateway.routing.list_payouts(&filter, before, limit).await?;
    let items = page.payouts.into_iter().map(PayoutView::from).collect();
    Ok(Envelope::ok(PayoutPageView { items, next_cursor: page.next.map(encode_cursor) }).into_response())
}

/// One payout: where it stands, its attempts, and what happened to it with the evidence of every state.
#[utoipa::path(
    get,
    path = "/api/treasury/payouts/{payout_id}",
    operation_id = "getPayout",
    tag = "payouts",
    params(("payout_id" = String, Path, description = "The caller's ID of the payout"), NamespaceQuery),
    responses((status = 200, description = "The payout", body = Envelope<PayoutDetailView>))
)]
pub async fn one(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    detail(&gateway, &subject, id, query).await
}

/// The payout whose ID is `resume`: another call has the same path.
#[utoipa::path(
    get,
    path = "/api/treasury/payouts/resume",
    operation_id = "getPayoutNamedResume",
    tag = "payouts",
    params(NamespaceQuery),
    responses((status = 200, description = "The payout", body = Envelope<PayoutDetailView>))
)]
pub async fn one_named_resume(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    detail(&gateway, &subject, Ok(Path(RESUME.to_owned())), query).await
}

async fn detail(
    gateway: &Gateway,
    subject: &UserInfo,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let target = gateway.payout_target(subject, PayoutRight::GET, id, query).await?;
    let stored = gateway.stored_payout(&target).await?;
    let timeline = timeline(gateway, &stored).await?;
    Ok(Envelope::ok(PayoutDetailView { payout: stored.into(), timeline }).into_response())
}

/// What happened to a payout. Of a long timeline the end counts: it says why the payout stands where it does.
async fn timeline(gateway: &Gateway, stored: &StoredPayout) -> Result<Vec<TimelineView>, Problem> {
    let (mut rows, mut after) = (VecDeque::new(), 0);
    loop {
        let page = gateway.routing.payout_timeline(stored, after, TIMELINE_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let is_last = page.len() < TIMELINE_PAGE as usize;
        rows.extend(page);
        rows.drain(..rows.len().saturating_sub(MAX_TIMELINE));
        if is_last {
            break;
        }
    }
    Ok(rows.into_iter().map(TimelineView::from).collect())
}

fn filter(gateway: &Gateway, query: PayoutsQuery) -> Result<PayoutFilter, Problem> {
    for (name, value) in [("namespace", &query.namespace), ("route", &query.route)] {
        if value.as_deref().is_some_and(|value| !is_object_name(value)) {
            return Err(invalid(name, "must have 1 to 253 of a-z, 0-9, - and ."));
        }
    }
    let state = query.state.as_deref().map(|text| {
        text.parse::<PayoutState>().map_err(|_| {
            let all: Vec<&str> = PayoutState::ALL.iter().map(|state| state.as_str()).collect();
            invalid("state", &format!("must be one of: {}", all.join(", ")))
        })
    });
    Ok(PayoutFilter {
        namespace: query.namespace.or_else(|| gateway.default_namespace.clone()),
        route: query.route,
        state: state.transpose()?,
    })
}
