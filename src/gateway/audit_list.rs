//! `GET /api/audit`: the audit log, newest first.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::cluster::auth::{AccessRequest, UserInfo};
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{is_object_name, page_limit};
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::ledger::audit::StoredAudit;

/// Filter and page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only entries of this namespace. Unset: all, which needs a cluster-wide permission; acts on consumers are of none.
    pub namespace: Option<String>,
    /// The `next_cursor` of the previous page. Unset: from the newest entry.
    pub cursor: Option<String>,
    /// Maximum number of entries on a page. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// One audited act.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditLogEntry {
    /// When it happened.
    #[schema(format = DateTime)]
    pub time: String,
    /// `call`, `dead_request`, `sync`, `consumer`, or `request`: one that was answered with an error.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// The operation, the act, or the method and path of a request.
    pub action: String,
    /// Who asked.
    pub subject: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Namespace of the object; empty for a consumer and a request.
    pub namespace: String,
    /// Name of the connection, or of the consumer; empty: all, or a request.
    pub object: String,
    /// The licence profile that decided.
    pub rights_profile: Option<String>,
    /// The purpose that the caller declared.
    pub purpose: Option<String>,
    /// Code of the refusal or failure, or what was asked for.
    pub reason: Option<String>,
    /// The correlation ID of the request.
    #[schema(format = "uuid")]
    pub request_id: Option<String>,
    /// How often it happened; equal refusals are one entry.
    #[schema(minimum = 1)]
    pub count: u64,
}

impl From<StoredAudit> for AuditLogEntry {
    fn from(StoredAudit { entry, .. }: StoredAudit) -> Self {
        Self {
            time: entry.at.to_string(),
            kind: entry.kind.as_str(),
            count: entry.count(),
            action: entry.action,
            subject: entry.subject,
            allowed: entry.allowed,
            namespace: entry.namespace,
            object: entry.connection,
            rights_profile: entry.rights_profile,
            purpose: entry.purpose,
            reason: entry.reason,
            request_id: entry.request_id.map(|id| id.to_string()),
        }
    }
}

/// A page of the audit log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Newest first.
    pub items: Vec<AuditLogEntry>,
    /// Where the next page starts; null at the end.
    pub next_cursor: Option<String>,
}

/// Lists the audit log, newest first: calls and refusals, acts on dead requests, syncs and consumers, requests of known callers
/// that were answered with an error. Equal errors of a caller are one entry.
#[utoipa::path(
    get,
    path = "/api/audit",
    operation_id = "listAudit",
    tag = "audit",
    params(AuditQuery),
    responses((status = 200, description = "A page", body = Envelope<AuditPage>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| {
        let text = "invalid query; allowed, once each: namespace, cursor, limit (1 to 500)";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    let limit = page_limit(query.limit)?;
    if query.namespace.as_deref().is_some_and(|name| !is_object_name(name)) {
        let text = "namespace must be the name of a namespace";
        return Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", "namespace"));
    }
    let before = query.cursor.map(|cursor| cursor.parse::<i64>()).transpose().map_err(|_| {
        let text = "cursor must be the next_cursor of a page";
        Problem::new(ErrorCode::InvalidRequest, text).with("parameter", "cursor")
    })?;
    let namespace = query.namespace.clone().unwrap_or_default();
    let access = AccessRequest { verb: "list", resource: "audit", subresource: "", namespace, name: String::new() };
    gateway.access.require(&subject, access).await?;
    let most = u32::try_from(limit).unwrap_or(u32::MAX);
    let entries = gateway.ledger.list_audit(query.namespace.as_deref(), before, most).await;
    let entries = entries.map_err(|error| Problem::ledger(&error))?;
    let next_cursor = entries.last().filter(|_| entries.len() == limit).map(|last| last.seq.to_string());
    Ok(Envelope::ok(AuditPage { items: entries.into_iter().map(AuditLogEntry::from).collect(), next_cursor })
        .into_response())
}
