//! `GET /api/syncs/{namespace}/{name}/runs`: the runs of a job.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::page_limit;
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::gateway::syncs::target::{JobPath, JobRight, target};
use crate::gateway::syncs::view::{RunPage, RunView};

/// More than the ledger keeps of a job.
const ALL_RUNS: u32 = 1_000;

/// Page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// The `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of runs on a page. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// Lists the runs of the job, newest first.
#[utoipa::path(
    get,
    path = "/api/syncs/{namespace}/{name}/runs",
    operation_id = "listSyncRuns",
    tag = "syncs",
    params(
        ("namespace" = String, Path, description = "Namespace of the SyncJob"),
        ("name" = String, Path, description = "Name of the SyncJob"),
        RunsQuery,
    ),
    responses((status = 200, description = "A page", body = Envelope<RunPage>))
)]
pub async fn runs(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    path: JobPath,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let found = target(&gateway, &subject, path, JobRight::LIST_RUNS).await?;
    let Query(query) = query.map_err(|_| {
        Problem::new(ErrorCode::InvalidRequest, "invalid query; allowed, once each: cursor, limit (1 to 500)")
    })?;
    let limit = page_limit(query.limit)?;
    let after = query.cursor.as_deref().map(decode_cursor).transpose()?;
    let (namespace, name) = (Some(&*found.job.namespace), Some(&*found.job.name));
    let all = gateway.ledger.newest_runs(namespace, name, ALL_RUNS).await.map_err(|e| Problem::ledger(&e))?;
    let skipped = match after {
        None => 0,
        // A run that is not kept any more: all kept ones are newer, so none follows.
        Some(id) => all.iter().position(|run| run.run.id.0 == id).map_or(all.len(), |place| place + 1),
    };
    let mut rest = all.into_iter().skip(skipped);
    let items: Vec<RunView> = rest.by_ref().take(limit).map(RunView::from).collect();
    let next_cursor = match (items.last(), rest.next()) {
        (Some(last), Some(_)) => Uuid::parse_str(&last.id).ok().map(|id| URL_SAFE_NO_PAD.encode(id.as_bytes())),
        _ => None,
    };
    Ok(Envelope::ok(RunPage { items, next_cursor }).into_response())
}

/// The run that a cursor encodes.
fn decode_cursor(cursor: &str) -> Result<Uuid, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok());
    bytes.ok_or_else(|| {
        Problem::new(ErrorCode::InvalidRequest, "cursor must be the next_cursor of a page").with("parameter", "cursor")
    })
}
