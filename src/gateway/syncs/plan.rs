//! `POST /api/syncs/{namespace}/{name}/plan`: what a run would write.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;
use crate::gateway::syncs::target::{JobAction, JobPath, JobRight, target};
use crate::ledger::RunId;

/// Most rows that a plan shows.
const MAX_SAMPLES: u32 = 10;

/// What a run would write.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PlanView {
    /// The ID of the dry run: the correlation ID of its requests and log lines.
    #[schema(format = "uuid")]
    pub run_id: String,
    /// Its result.
    pub result: String,
    /// The reason, unless it succeeded.
    pub reason: Option<String>,
    /// Records read: at most one page of each partition.
    #[schema(minimum = 0)]
    pub fetched: u64,
    /// Records that would be rejected.
    #[schema(minimum = 0)]
    pub rejected: u64,
    /// Rows that would be new.
    #[schema(minimum = 0)]
    pub inserted: u64,
    /// Rows that would change.
    #[schema(minimum = 0)]
    pub updated: u64,
    /// Rows that are stored already.
    #[schema(minimum = 0)]
    pub unchanged: u64,
    /// Some of the rows, masked as they would be stored; at most 10.
    #[schema(value_type = Vec<Object>, max_items = 10)]
    pub samples: Vec<Value>,
}

/// Fetches and converts one page of each partition, and says what a run would write. Writes nothing.
#[utoipa::path(
    post,
    path = "/api/syncs/{namespace}/{name}/plan",
    operation_id = "planSync",
    tag = "syncs",
    params(
        ("namespace" = String, Path, description = "Namespace of the SyncJob"),
        ("name" = String, Path, description = "Name of the SyncJob"),
    ),
    responses((status = 200, description = "What a run would write", body = Envelope<PlanView>))
)]
pub async fn plan(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    path: JobPath,
) -> Result<Response, Problem> {
    let found = target(&gateway, &subject, path, JobRight::PLAN).await?;
    let connection = &found.connection;
    let action =
        JobAction { action: "plan", gateway: &gateway, subject: &subject, connection, reason: None, request_id };
    gateway.ledger.append_audit(&[action.audit_entry()]).await.map_err(|e| Problem::ledger(&e))?;
    let run = RunId(request_id);
    let planned = found.syncs.plan(&found.job, run, MAX_SAMPLES).await?;
    let view = PlanView {
        run_id: run.to_string(),
        result: planned.result,
        reason: planned.reason,
        fetched: planned.fetched,
        rejected: planned.rejected,
        inserted: planned.inserted,
        updated: planned.updated,
        unchanged: planned.unchanged,
        samples: planned.samples,
    };
    Ok(Envelope::ok(view).into_response())
}
