//! Audit entries for what the operator itself does with dead requests.

use jiff::Timestamp;

use crate::domain::key::ObjectKey;
use crate::ledger::audit::{AuditEntry, AuditKind};

/// The audit entry for an action of the operator on a dead request.
pub(super) fn audit_entry(at: Timestamp, action: &str, connection: &ObjectKey, reason: &str) -> AuditEntry {
    AuditEntry {
        at,
        kind: AuditKind::DeadRequest,
        action: action.to_owned(),
        subject: "busbar".to_owned(),
        rights_profile: None,
        allowed: true,
        namespace: connection.namespace.to_string(),
        connection: connection.name.to_string(),
        provider: None,
        purpose: None,
        reason: Some(reason.to_owned()),
        request_id: None,
        repeats: None,
    }
}
