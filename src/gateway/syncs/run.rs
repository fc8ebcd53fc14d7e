//! `POST /api/syncs/{namespace}/{name}/run`: a run now.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;
use crate::gateway::syncs::target::{JobAction, JobPath, JobRight, JobTarget, request_key, target};
use crate::gateway::syncs::view::RunRequested;
use crate::ledger::RunId;
use crate::ledger::audit::AuditEntry;
use crate::ledger::requests::{NewRunRequest, RequestOutcome, RequestState, RequestedRun};

/// Asks for a run of the job. The request is stored: a replica that stops or a leader that changes does not lose it. The same
/// `Idempotency-Key` of the same caller is the same request.
#[utoipa::path(
    post,
    path = "/api/syncs/{namespace}/{name}/run",
    operation_id = "runSync",
    tag = "syncs",
    params(
        ("namespace" = String, Path, description = "Namespace of the SyncJob"),
        ("name" = String, Path, description = "Name of the SyncJob"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one request; unset: X-Request-ID does"),
    ),
    responses((status = 202, description = "The request is stored", body = Envelope<RunRequested>))
)]
pub async fn run(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    path: JobPath,
) -> Result<Response, Problem> {
    let found = target(&gateway, &subject, path, JobRight::RUN).await?;
    let request = NewRunRequest {
        id: request_key(&headers, request_id, &subject, &found.job)?,
        job: found.job.clone(),
        requested: RequestedRun::Run,
        run: RunId(request_id),
        subject: subject.user.clone(),
        reason: None,
        at: gateway.clock.now().wall,
    };
    let connection = &found.connection;
    let action =
        JobAction { action: "run", gateway: &gateway, subject: &subject, connection, reason: None, request_id };
    store(&gateway, &found, &request, &action.audit_entry()).await
}

/// Stores a request and answers it.
pub(super) async fn store(
    gateway: &Gateway,
    found: &JobTarget<'_>,
    request: &NewRunRequest,
    audit: &AuditEntry,
) -> Result<Response, Problem> {
    let outcome = gateway.ledger.request_run(request, audit).await.map_err(|e| Problem::ledger(&e))?;
    let view = match outcome {
        RequestOutcome::Stored(run) => {
            let request = &NewRunRequest { run, ..request.clone() };
            tracing::info!(
                request_id = %request.run, namespace = %request.job.namespace, name = %request.job.name,
                action = audit.action, "run request stored"
            );
            found.syncs.notify(&request.job);
            RunRequested::new(request, RequestState::Open, None)
        }
        RequestOutcome::Repeated(stored) => RunRequested::new(&stored.request, stored.state, stored.outcome.clone()),
        RequestOutcome::Conflict => {
            let text = "the same Idempotency-Key, or the same resync ID, was used for another request; use a new one";
            return Err(Problem::new(ErrorCode::IdempotencyConflict, text));
        }
    };
    Ok(Envelope::accepted(view).into_response())
}
