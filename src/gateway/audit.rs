//! Audit entries for calls that are denied before the call path, and for requests that end with an error.
//!
//! Only authenticated callers cause entries, and each has a rate limit. Operation names that the profile does not have and
//! paths of no route are not written, because a caller could otherwise store any text in the audit.

use axum::http::StatusCode;

use crate::cluster::auth::UserInfo;
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::gateway::problem::UnauditedError;
use crate::gateway::request_label::RequestLabel;
use crate::gateway::state::Gateway;
use crate::ledger::audit::{AuditEntry, AuditKind};

/// The audit's action for an operation that the provider's profile does not have.
pub const UNKNOWN_OPERATION: &str = "unknown_operation";

/// The audit's reason for a denial by RBAC.
pub const RBAC: &str = "rbac";

/// A denied call.
#[derive(Debug)]
pub struct DeniedCall<'a> {
    /// The connection.
    pub connection: &'a ObjectKey,
    /// The connection's provider, if known.
    pub provider: Option<&'a str>,
    /// The operation.
    pub operation: &'a str,
    /// The caller.
    pub caller: &'a Caller,
    /// The licence profile that denied the call, if any.
    pub profile: Option<&'a str>,
    /// The reason code.
    pub reason: &'a str,
}

impl Gateway {
    /// Writes a denial into the audit.
    pub fn audit_denied(&self, denied_call: &DeniedCall<'_>) {
        let Some(audit) = &self.audit else { return };
        audit.enqueue(AuditEntry {
            at: self.clock.now().wall,
            kind: AuditKind::Call,
            action: denied_call.operation.to_owned(),
            subject: denied_call.caller.user.clone(),
            rights_profile: denied_call.profile.map(str::to_owned),
            allowed: false,
            namespace: denied_call.connection.namespace.to_string(),
            connection: denied_call.connection.name.to_string(),
            provider: denied_call.provider.map(str::to_owned),
            purpose: denied_call.caller.purpose.clone(),
            reason: Some(denied_call.reason.to_owned()),
            request_id: denied_call.caller.request_id,
            repeats: None,
        });
    }

    /// Writes an error that `subject` was answered with into the audit.
    pub(super) fn audit_error(&self, subject: &UserInfo, request: &RequestLabel, error: UnauditedError) {
        let Some(audit) = &self.audit else { return };
        let UnauditedError(code) = error;
        audit.enqueue(AuditEntry {
            at: self.clock.now().wall,
            kind: AuditKind::Request,
            action: request.to_string(),
            subject: subject.user.clone(),
            rights_profile: None,
            allowed: code.status() != StatusCode::FORBIDDEN,
            namespace: String::new(),
            connection: String::new(),
            provider: None,
            purpose: None,
            reason: Some(code.as_str().to_owned()),
            request_id: Some(request.id()),
            repeats: None,
        });
    }

    /// Writes an RBAC denial of `caller` for `operation` into the audit, if the connection exists; whether it does.
    pub(super) fn audit_rbac_denial(&self, connection: &ObjectKey, operation: &str, caller: &Caller) -> bool {
        let live = self.registry.get(connection);
        if live.is_none() && !(self.exists)(connection) {
            return false;
        }
        let settings = live.map(|live| live.settings());
        let known = settings.as_ref().is_some_and(|s| s.profile().operations.contains_key(operation));
        self.audit_denied(&DeniedCall {
            connection,
            provider: settings.as_ref().map(|s| s.provider()),
            operation: if known { operation } else { UNKNOWN_OPERATION },
            caller,
            profile: None,
            reason: RBAC,
        });
        true
    }
}
