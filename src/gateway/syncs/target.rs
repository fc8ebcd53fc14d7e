//! What the handlers of sync jobs share: the job of a path, its RBAC check, keys of requests and audit entries.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use uuid::Uuid;

use crate::cluster::auth::{AccessRequest, UserInfo};
use crate::domain::key::ObjectKey;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{invalid_path, is_object_name};
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::gateway::syncs::operations::{OperationError, SyncOperations};
use crate::ledger::audit::{AuditEntry, AuditKind};

/// The header that makes a repeated request one request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest key, in bytes.
const MAX_KEY_LEN: usize = 255;
/// The namespace of the IDs of requests (UUID version 5).
const REQUEST_IDS: Uuid = Uuid::from_u128(0x51f4_8c0a_27d3_5e96_b1a8_0c44_93e7_6f02);

/// The path of a job.
pub(super) type JobPath = Result<Path<(String, String)>, PathRejection>;

/// A right on a subresource of a job.
#[derive(Copy, Clone, Debug)]
pub(super) struct JobRight {
    verb: &'static str,
    subresource: &'static str,
}

impl JobRight {
    pub(super) const RUN: Self = Self { verb: "create", subresource: "run" };
    pub(super) const PLAN: Self = Self { verb: "create", subresource: "plan" };
    pub(super) const RESYNC: Self = Self { verb: "create", subresource: "resync" };
    pub(super) const LIST_RUNS: Self = Self { verb: "list", subresource: "runs" };
    pub(super) const LIST_DEAD_LETTERS: Self = Self { verb: "list", subresource: "deadletters" };
    pub(super) const UPDATE_DEAD_LETTERS: Self = Self { verb: "update", subresource: "deadletters" };
}

/// A job that the caller may access.
pub(super) struct JobTarget<'a> {
    pub(super) job: ObjectKey,
    pub(super) connection: ObjectKey,
    pub(super) syncs: &'a dyn SyncOperations,
}

/// The job of a path, if RBAC allows the caller to do this on it. A caller without that right gets the denial,
/// whether or not the job exists.
pub(super) async fn allowed_job(
    gateway: &Gateway,
    subject: &UserInfo,
    path: JobPath,
    right: JobRight,
) -> Result<ObjectKey, Problem> {
    let Path((namespace, name)) = path.map_err(invalid_path)?;
    if !is_object_name(&namespace) || !is_object_name(&name) {
        return Err(job_not_found());
    }
    let JobRight { verb, subresource } = right;
    let access =
        AccessRequest { verb, resource: "syncjobs", subresource, namespace: namespace.clone(), name: name.clone() };
    gateway.access.require(subject, access).await?;
    Ok(ObjectKey::new(namespace, name))
}

/// The same, of a job that exists.
pub(super) async fn target<'a>(
    gateway: &'a Gateway,
    subject: &UserInfo,
    path: JobPath,
    right: JobRight,
) -> Result<JobTarget<'a>, Problem> {
    let job = allowed_job(gateway, subject, path, right).await?;
    let syncs = gateway.syncs.as_deref().ok_or_else(job_not_found)?;
    let connection = syncs.connection_of(&job).ok_or_else(job_not_found)?;
    Ok(JobTarget { job, connection, syncs })
}

/// The error for a job that does not exist.
pub(super) fn job_not_found() -> Problem {
    Problem::new(ErrorCode::JobNotFound, "sync job not found; check namespace and name in the path")
}

/// The ID of a request: the same for the same key of the same caller on the same job. The key is `Idempotency-Key`, or
/// without it the request's ID.
pub(super) fn request_key(
    headers: &HeaderMap,
    request_id: Uuid,
    subject: &UserInfo,
    job: &ObjectKey,
) -> Result<Uuid, Problem> {
    let key = match headers.get(IDEMPOTENCY_KEY) {
        None => request_id.to_string(),
        Some(value) => {
            let key = value.to_str().ok().map(str::trim).filter(|key| !key.is_empty() && key.len() <= MAX_KEY_LEN);
            let invalid = || {
                let text = "Idempotency-Key must have 1 to 255 visible ASCII characters";
                Problem::new(ErrorCode::InvalidRequest, text).with("parameter", "Idempotency-Key")
            };
            key.ok_or_else(invalid)?.to_owned()
        }
    };
    let name = [&*job.namespace, &*job.name, subject.user.as_str(), key.as_str()].join("\0");
    Ok(Uuid::new_v5(&REQUEST_IDS, name.as_bytes()))
}

/// A caller's action on a job.
pub(super) struct JobAction<'a> {
    pub(super) action: &'a str,
    pub(super) gateway: &'a Gateway,
    pub(super) subject: &'a UserInfo,
    pub(super) connection: &'a ObjectKey,
    pub(super) reason: Option<&'a str>,
    pub(super) request_id: Uuid,
}

impl JobAction<'_> {
    /// The audit entry of the action.
    pub(super) fn audit_entry(&self) -> AuditEntry {
        AuditEntry {
            at: self.gateway.clock.now().wall,
            kind: AuditKind::Sync,
            action: self.action.to_owned(),
            subject: self.subject.user.clone(),
            rights_profile: None,
            allowed: true,
            namespace: self.connection.namespace.to_string(),
            connection: self.connection.name.to_string(),
            provider: None,
            purpose: None,
            reason: self.reason.map(str::to_owned),
            request_id: Some(self.request_id),
            repeats: None,
        }
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        match &error {
            OperationError::NotReady { reason, .. } => {
                Self::new(ErrorCode::Conflict, error.to_string()).with("state", *reason)
            }
            OperationError::Busy => Self::new(ErrorCode::Unavailable, error.to_string()),
            OperationError::Ledger(error) => Self::ledger(error),
        }
    }
}
