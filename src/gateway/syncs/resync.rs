//! `POST /api/syncs/{namespace}/{name}/resync`: a range again.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::json_body;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;
use crate::gateway::syncs::run::store;
use crate::gateway::syncs::target::{JobAction, JobPath, JobRight, request_key, target};
use crate::gateway::syncs::view::RunRequested;
use crate::ledger::RunId;
use crate::ledger::requests::{NewRunRequest, RequestedRun};

/// Longest ID of a resync and name of a partition: that of the schema.
const MAX_NAME_LEN: usize = 63;
/// Most partitions of a resync: that of the schema.
const MAX_PARTITIONS: usize = 256;
/// Longest reason, in characters.
const MAX_REASON: usize = 256;

/// A range to fetch again.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResyncBody {
    /// ID of the resync: each runs once, those of `spec.resync` included.
    #[schema(min_length = 1, max_length = 63)]
    pub id: String,
    /// Start of the range, inclusive.
    #[schema(format = DateTime)]
    pub from_time: String,
    /// End of the range, after its start.
    #[schema(format = DateTime)]
    pub to_time: String,
    /// Names of the partitions. Unset: all.
    #[serde(default)]
    #[schema(max_items = 256)]
    pub partitions: Vec<String>,
    /// Reason, for the audit.
    #[schema(max_length = 256)]
    pub reason: Option<String>,
}

/// Asks for a range of the job's records again. The cursor does not move, and `spec.resync` is not written. The request is
/// stored.
#[utoipa::path(
    post,
    path = "/api/syncs/{namespace}/{name}/resync",
    operation_id = "resyncSync",
    tag = "syncs",
    params(
        ("namespace" = String, Path, description = "Namespace of the SyncJob"),
        ("name" = String, Path, description = "Name of the SyncJob"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one request; unset: X-Request-ID does"),
    ),
    request_body = ResyncBody,
    responses((status = 202, description = "The request is stored", body = Envelope<RunRequested>))
)]
pub async fn resync(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    path: JobPath,
    body: Body,
) -> Result<Response, Problem> {
    let found = target(&gateway, &subject, path, JobRight::RESYNC).await?;
    let body: ResyncBody = json_body(&gateway.request_limits, &headers, body).await?;
    let reason = body.reason.clone();
    let request = NewRunRequest {
        id: request_key(&headers, request_id, &subject, &found.job)?,
        job: found.job.clone(),
        requested: requested(body)?,
        run: RunId(request_id),
        subject: subject.user.clone(),
        reason: reason.clone(),
        at: gateway.clock.now().wall,
    };
    let connection = &found.connection;
    let reason = reason.as_deref();
    let action = JobAction { action: "resync", gateway: &gateway, subject: &subject, connection, reason, request_id };
    store(&gateway, &found, &request, &action.audit_entry()).await
}

/// The request of a body, checked.
fn requested(body: ResyncBody) -> Result<RequestedRun, Problem> {
    let invalid = |text: &str, name: &str| Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name);
    let is_name = |name: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !name.is_empty() && name.len() <= MAX_NAME_LEN && name.chars().all(plain)
    };
    if !is_name(&body.id) {
        return Err(invalid("id must have 1 to 63 letters, digits, -, _ or .", "id"));
    }
    let instant = |text: &str, name: &str| {
        let text: Option<Timestamp> = text.parse().ok();
        text.ok_or_else(|| invalid("must be an RFC 3339 instant such as \"2030-01-31T18:00:00Z\"", name))
    };
    let (from, to) = (instant(&body.from_time, "from_time")?, instant(&body.to_time, "to_time")?);
    if from >= to {
        return Err(invalid("from_time must be before to_time", "from_time"));
    }
    if body.partitions.len() > MAX_PARTITIONS || body.partitions.iter().any(|name| name.is_empty() || name.len() > 253)
    {
        return Err(invalid("partitions must be at most 256 names", "partitions"));
    }
    if body.reason.as_ref().is_some_and(|reason| reason.chars().count() > MAX_REASON) {
        return Err(invalid("reason must have at most 256 characters", "reason"));
    }
    Ok(RequestedRun::Resync { id: body.id, from, to, partitions: body.partitions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(id: &str, from: &str, to: &str) -> ResyncBody {
        let (id, from_time, to_time) = (id.to_owned(), from.to_owned(), to.to_owned());
        ResyncBody { id, from_time, to_time, partitions: Vec::new(), reason: None }
    }

    #[test]
    fn a_range_must_have_a_name_a_start_and_a_later_end() {
        let (may, june) = ("2029-05-01T00:00:00Z", "2029-06-01T02:00:00+02:00");
        assert!(requested(body("may", may, june)).is_ok());
        for (id, from, to) in
            [("", may, june), ("a b", may, june), ("may", june, may), ("may", may, may), ("may", "may", june)]
        {
            let problem = requested(body(id, from, to)).unwrap_err();
            assert_eq!(problem.code(), ErrorCode::InvalidRequest, "{id} {from} {to}");
        }
        let long = ResyncBody { reason: Some("x".repeat(257)), ..body("may", may, june) };
        assert!(requested(long).is_err());
        let of_too_many = ResyncBody { partitions: vec!["p".to_owned(); 257], ..body("may", may, june) };
        assert!(requested(of_too_many).is_err());
    }
}
