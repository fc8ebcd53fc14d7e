//! `GET /api/syncs/{namespace}/{name}/dead-letters`: the rejected records of a job.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::page_limit;
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::gateway::syncs::target::{JobPath, JobRight, target};
use crate::gateway::syncs::view::{DeadLetterPage, DeadLetterView};
use crate::ledger::raw::DeadLetterFilter;

/// Filter and page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadLettersQuery {
    /// Whether resolved ones are listed too. Unset: false.
    pub resolved: Option<bool>,
    /// The `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of dead letters on a page. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// Lists the dead letters of the job, newest first, without the values of their records.
#[utoipa::path(
    get,
    path = "/api/syncs/{namespace}/{name}/dead-letters",
    operation_id = "listDeadLetters",
    tag = "syncs",
    params(
        ("namespace" = String, Path, description = "Namespace of the SyncJob"),
        ("name" = String, Path, description = "Name of the SyncJob"),
        DeadLettersQuery,
    ),
    responses((status = 200, description = "A page", body = Envelope<DeadLetterPage>))
)]
pub async fn dead_letters(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    path: JobPath,
    query: Result<Query<DeadLettersQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let found = target(&gateway, &subject, path, JobRight::LIST_DEAD_LETTERS).await?;
    let Query(query) = query.map_err(|_| {
        let text = "invalid query; allowed, once each: resolved (true, false), cursor, limit (1 to 500)";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    let limit = page_limit(query.limit)?;
    let filter = DeadLetterFilter {
        job: found.job.clone(),
        ids: Vec::new(),
        resolved: query.resolved.unwrap_or(false),
        before: query.cursor.as_deref().map(decode_cursor).transpose()?,
    };
    let most = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
    let listed = gateway.ledger.list_dead_letters(&filter, most).await.map_err(|e| Problem::ledger(&e))?;
    let next_cursor = match listed.get(limit - 1) {
        Some(last) if listed.len() > limit => Some(URL_SAFE_NO_PAD.encode(last.id.to_be_bytes())),
        _ => None,
    };
    let now = gateway.clock.now().wall;
    let items = listed.into_iter().take(limit).map(|letter| DeadLetterView::new(letter, now)).collect();
    Ok(Envelope::ok(DeadLetterPage { items, next_cursor }).into_response())
}

/// The dead letter that a cursor encodes.
fn decode_cursor(cursor: &str) -> Result<i64, Problem> {
    let bytes: Option<[u8; 8]> = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(i64::from_be_bytes).filter(|id| *id > 0).ok_or_else(|| {
        Problem::new(ErrorCode::InvalidRequest, "cursor must be the next_cursor of a page").with("parameter", "cursor")
    })
}
