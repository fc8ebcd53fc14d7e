//! The audit of what was refused before the call path could write it down.
//!
//! Only callers whom the API server knows get so far, and each has a rate; who is nobody writes nothing. Names that a caller
//! makes up are not written either, or the audit would be his notebook.

use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::gateway::Gateway;
use crate::ledger::audit::{AuditEntry, AuditKind};

/// What stands in the audit for an operation that the provider's profile does not have.
pub const UNKNOWN_OPERATION: &str = "unknown_operation";

/// What stands there as the reason where RBAC refused.
pub const RBAC: &str = "rbac";

/// A refusal.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Of which connection.
    pub connection: &'a ObjectKey,
    /// Its provider, where that is known.
    pub provider: Option<&'a str>,
    /// What was asked for.
    pub operation: &'a str,
    /// By whom.
    pub caller: &'a Caller,
    /// The licence profile that refused, if it was one.
    pub profile: Option<&'a str>,
    /// Why, as a code.
    pub reason: &'a str,
}

impl Gateway {
    /// Writes a refusal into the audit.
    pub fn refused(&self, refused: &Refused<'_>) {
        let Some(audit) = &self.audit else { return };
        audit.put(AuditEntry {
            at: self.clock.now().wall,
            kind: AuditKind::Call,
            action: refused.operation.to_owned(),
            subject: refused.caller.user.clone(),
            rights_profile: refused.profile.map(str::to_owned),
            allowed: false,
            namespace: refused.connection.namespace.to_string(),
            connection: refused.connection.name.to_string(),
            provider: refused.provider.map(str::to_owned),
            purpose: refused.caller.purpose.clone(),
            reason: Some(refused.reason.to_owned()),
            request_id: refused.caller.request_id,
        });
    }

    /// Writes down that RBAC did not let `caller` call `operation`, if there is such a connection at all.
    pub(super) fn refused_by_rbac(&self, connection: &ObjectKey, operation: &str, caller: &Caller) {
        let live = self.registry.get(connection);
        if live.is_none() && !(self.declared)(connection) {
            return;
        }
        let settings = live.map(|live| live.settings());
        let known = settings.as_ref().is_some_and(|s| s.profile().operations.contains_key(operation));
        self.refused(&Refused {
            connection,
            provider: settings.as_ref().map(|s| s.provider()),
            operation: if known { operation } else { UNKNOWN_OPERATION },
            caller,
            profile: None,
            reason: RBAC,
        });
    }
}
