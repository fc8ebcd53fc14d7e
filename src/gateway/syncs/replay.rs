//! `POST /api/syncs/{namespace}/{name}/dead-letters/replay` and `/resolve`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::json_body;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;
use crate::gateway::syncs::target::{JobAction, JobPath, JobRight, target};
use crate::ledger::raw::DeadLetterFilter;

/// Most dead letters of one request.
const MAX_LETTERS: usize = 500;

/// The dead letters to replay.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayBody {
    /// IDs of the dead letters. Unset: the newest unresolved ones, at most 500.
    #[serde(default)]
    #[schema(max_items = 500)]
    pub ids: Vec<i64>,
}

/// The dead letters to resolve.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveBody {
    /// IDs of the dead letters.
    #[schema(min_items = 1, max_items = 500)]
    pub ids: Vec<i64>,
    /// Reason, for the audit.
    #[schema(max_length = 256)]
    pub reason: Option<String>,
}

/// The outcome of one dead letter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReplayedView {
    /// Its ID.
    #[schema(minimum = 1)]
    pub id: i64,
    /// `Replayed`, `Superseded` (a newer version of the record is stored), or why not: `StillRejected`, `RawNotStored`,
    /// `RawMasked`, `RawExpired`, `KeyMissing`, `SourceChanged`.
    pub outcome: String,
}

/// The result of a replay.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReplayResult {
    /// Number of dead letters that are resolved.
    #[schema(minimum = 0)]
    pub resolved: u64,
    /// The outcome of each.
    pub items: Vec<ReplayedView>,
}

/// The result of a resolution by hand.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Resolved {
    /// Number of dead letters that were not resolved before.
    #[schema(minimum = 0)]
    pub resolved: u64,
}

/// Converts dead letters again, from their raw payloads and by the current spec and profile, and stores their records. A
/// record whose row is stored already is changed, not doubled, unless a newer version of it is stored.
#[utoipa::path(
    post,
    path = "/api/syncs/{namespace}/{name}/dead-letters/replay",
    operation_id = "replayDeadLetters",
    tag = "syncs",
    params(
        ("namespace" = String, Path, description = "Namespace of the SyncJob"),
        ("name" = String, Path, description = "Name of the SyncJob"),
    ),
    request_body = ReplayBody,
    responses((status = 200, description = "The outcome of each dead letter", body = Envelope<ReplayResult>))
)]
pub async fn replay(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    path: JobPath,
    body: Body,
) -> Result<Response, Problem> {
    let found = target(&gateway, &subject, path, JobRight::UPDATE_DEAD_LETTERS).await?;
    let body: ReplayBody = json_body(&gateway.request_limits, &headers, body).await?;
    check_ids(&body.ids)?;
    let filter = DeadLetterFilter { job: found.job.clone(), ids: body.ids, resolved: false, before: None };
    let most = u32::try_from(MAX_LETTERS).unwrap_or(u32::MAX);
    let letters = gateway.ledger.list_dead_letters(&filter, most).await.map_err(|e| Problem::ledger(&e))?;
    if letters.is_empty() && !filter.ids.is_empty() {
        return Err(Problem::new(ErrorCode::NotFound, "no unresolved dead letter of the job has one of these IDs"));
    }
    let connection = &found.connection;
    let action = JobAction {
        action: "replay_dead_letters",
        gateway: &gateway,
        subject: &subject,
        connection,
        reason: None,
        request_id,
    };
    let entry = action.audit_entry();
    let outcomes = found.syncs.replay(&found.job, &letters, &entry).await?;
    let resolved = outcomes.iter().filter(|letter| letter.outcome.resolves()).count() as u64;
    if resolved == 0 {
        // Else it is stored with the rows.
        gateway.ledger.append_audit(&[entry]).await.map_err(|e| Problem::ledger(&e))?;
    }
    let items =
        outcomes.iter().map(|letter| ReplayedView { id: letter.id, outcome: letter.outcome.as_str().to_owned() });
    Ok(Envelope::ok(ReplayResult { resolved, items: items.collect() }).into_response())
}

/// Marks dead letters as resolved without a replay: their records are not stored.
#[utoipa::path(
    post,
    path = "/api/syncs/{namespace}/{name}/dead-letters/resolve",
    operation_id = "resolveDeadLetters",
    tag = "syncs",
    params(
        ("namespace" = String, Path, description = "Namespace of the SyncJob"),
        ("name" = String, Path, description = "Name of the SyncJob"),
    ),
    request_body = ResolveBody,
    responses((status = 200, description = "The number of resolved dead letters", body = Envelope<Resolved>))
)]
pub async fn resolve(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    path: JobPath,
    body: Body,
) -> Result<Response, Problem> {
    let found = target(&gateway, &subject, path, JobRight::UPDATE_DEAD_LETTERS).await?;
    let body: ResolveBody = json_body(&gateway.request_limits, &headers, body).await?;
    check_ids(&body.ids)?;
    let invalid = |text: &str, name: &str| Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name);
    if body.ids.is_empty() {
        return Err(invalid("ids must name at least one dead letter", "ids"));
    }
    if body.reason.as_ref().is_some_and(|reason| reason.chars().count() > 256) {
        return Err(invalid("reason must have at most 256 characters", "reason"));
    }
    let connection = &found.connection;
    let action = JobAction {
        action: "resolve_dead_letters",
        gateway: &gateway,
        subject: &subject,
        connection,
        reason: body.reason.as_deref(),
        request_id,
    };
    let resolved = gateway.ledger.resolve_dead_letters(&found.job, &body.ids, &action.audit_entry()).await;
    Ok(Envelope::ok(Resolved { resolved: resolved.map_err(|e| Problem::ledger(&e))? }).into_response())
}

fn check_ids(ids: &[i64]) -> Result<(), Problem> {
    if ids.len() > MAX_LETTERS || ids.iter().any(|id| *id <= 0) {
        let text = "ids must be at most 500 IDs of dead letters";
        return Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", "ids"));
    }
    Ok(())
}
