//! `GET /api/treasury/routing/audit/verify`: checks the hash chain of the audit.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical::{self, Hash};
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::routing::access::RoutingRight;
use crate::gateway::state::Gateway;
use crate::routing::audit::AuditVerdict;

/// What a verification of the audit found.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Whether every record is as it was written, none is missing and none was added.
    pub verified: bool,
    /// Records that were verified.
    #[schema(minimum = 0)]
    pub entries: u64,
    /// Decisions and overrides among them.
    #[schema(minimum = 0)]
    pub decisions: u64,
    /// Number of the last record that retention has removed; 0 before the first time.
    #[schema(minimum = 0)]
    pub checkpoint: u64,
    /// Number of the last record.
    #[schema(minimum = 0)]
    pub head: u64,
    /// Its hash: keep it elsewhere to notice that the whole audit is replaced.
    #[serde(with = "canonical::hash")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub head_hash: Hash,
    /// The first record that does not verify; null if all do.
    pub broken: Option<BrokenRecordView>,
}

/// A record that does not verify.
#[derive(Debug, Serialize, ToSchema)]
pub struct BrokenRecordView {
    /// Its number.
    #[schema(minimum = 0)]
    pub seq: u64,
    /// What is wrong, as a code.
    #[schema(value_type = String)]
    pub problem: &'static str,
    /// What is wrong.
    pub description: String,
}

impl From<AuditVerdict> for AuditView {
    fn from(verdict: AuditVerdict) -> Self {
        let AuditVerdict { entries, decisions, checkpoint, head, head_hash, broken } = verdict;
        let broken = broken.map(|broken| BrokenRecordView {
            seq: broken.seq,
            problem: broken.problem.as_str(),
            description: broken.to_string(),
        });
        Self { verified: broken.is_none(), entries, decisions, checkpoint, head, head_hash, broken }
    }
}

/// Reads the whole audit and verifies its hash chain; names the first record that does not verify. Needs a cluster-wide
/// permission: there is one chain for all namespaces. A replica verifies for one caller at a time; others get 503.
#[utoipa::path(
    get,
    path = "/api/treasury/routing/audit/verify",
    operation_id = "verifyAudit",
    tag = "routing",
    responses((status = 200, description = "What was found", body = Envelope<AuditView>))
)]
pub async fn verify(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
) -> Result<Response, Problem> {
    gateway.require_routing(&subject, RoutingRight::VERIFY_AUDIT, "", "").await?;
    Ok(Envelope::ok(AuditView::from(gateway.routing.verify().await?)).into_response())
}
