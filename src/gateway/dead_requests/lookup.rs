//! What the handlers of dead requests share: finding one, the RBAC check and the audit entry.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use jiff::Timestamp;
use uuid::Uuid;

use crate::cluster::auth::{AccessRequest, UserInfo};
use crate::domain::key::ObjectKey;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::dead_requests::DeadRequest;

/// The dead request of that ID, if RBAC allows `subject` to do `verb` on it. A caller without that permission gets the
/// denial, whether or not the request exists.
pub(super) async fn find(
    gateway: &Gateway,
    subject: &UserInfo,
    id: Result<Path<String>, PathRejection>,
    verb: &'static str,
) -> Result<DeadRequest, Problem> {
    let id = id.ok().and_then(|Path(text)| Uuid::parse_str(&text).ok());
    let found = match id {
        Some(id) => gateway.ledger.get_dead_request(id).await.map_err(|e| Problem::ledger(&e))?,
        None => None,
    };
    let of = found.as_ref().map_or_else(|| ObjectKey::new("", ""), |dead| dead.request.connection.clone());
    gateway.access.require(subject, access_request(verb, of.namespace.to_string(), of.name.to_string())).await?;
    found.ok_or_else(|| Problem::new(ErrorCode::NotFound, "dead request not found"))
}

/// A caller's action on dead requests of a connection.
pub(super) struct DeadRequestAction<'a> {
    pub(super) action: &'a str,
    pub(super) at: Timestamp,
    pub(super) subject: &'a UserInfo,
    pub(super) connection: &'a ObjectKey,
    /// The provider, if the action is about one request.
    pub(super) provider: Option<&'a str>,
    pub(super) request_id: Uuid,
}

impl DeadRequestAction<'_> {
    /// The audit entry of the action.
    pub(super) fn audit_entry(&self) -> AuditEntry {
        AuditEntry {
            at: self.at,
            kind: AuditKind::DeadRequest,
            action: self.action.to_owned(),
            subject: self.subject.user.clone(),
            rights_profile: None,
            allowed: true,
            namespace: self.connection.namespace.to_string(),
            connection: self.connection.name.to_string(),
            provider: self.provider.map(str::to_owned),
            purpose: None,
            reason: None,
            request_id: Some(self.request_id),
            repeats: None,
        }
    }
}

/// The permission on the subresource `deadrequests` of a connection.
pub(super) fn access_request(verb: &'static str, namespace: String, name: String) -> AccessRequest {
    AccessRequest { verb, resource: "providerconnections", subresource: "deadrequests", namespace, name }
}
