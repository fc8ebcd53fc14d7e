//! Wires what deletes old entries of the ledger.

use std::sync::Arc;

use crate::app::base_deps::BaseDeps;
use crate::app::error::AppError;
use crate::provider::audit::pruner::{AuditLimits, AuditPruner};
use crate::work::retention::{RetentionPeriods, RetentionPruner};

/// What deletes old entries of the audit log, and everything else that has a retention.
pub(super) fn pruners(base: &BaseDeps<'_>, identity: &str) -> Result<(AuditPruner, RetentionPruner), AppError> {
    let BaseDeps { args, clock, metrics, ledger, .. } = base;
    let limits = AuditLimits { retention: args.gateway.audit_retention, max_call_bytes: args.gateway.audit_max_size };
    let audit = AuditPruner::new(Arc::clone(ledger), *clock, limits, identity, metrics)?;
    let periods = RetentionPeriods { events: args.event_retention, decisions: args.gateway.decision_retention };
    Ok((audit, RetentionPruner::new(Arc::clone(ledger), *clock, periods, identity, metrics)?))
}
