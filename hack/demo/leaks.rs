//! Scans logs and the audit log of a run: no planted secret, and no denied request of the operator.

use std::fs;
use std::path::Path;

use busbar::testbed::canaries::Canaries;
use busbar::testbed::control_plane::{AuditQuery, AuthorizationDecision, ControlPlane};

use crate::error::Error;

/// What is scanned.
pub(crate) struct Scope<'a> {
    /// The planted secrets.
    pub(crate) canaries: &'a Canaries,
    /// Holds the audit log.
    pub(crate) plane: &'a ControlPlane,
    /// The operator's user name in the audit log.
    pub(crate) user: &'a str,
    /// Holds the logs of the operator and of the simulator.
    pub(crate) directory: &'a Path,
}

/// Fails if a log holds a planted secret, or if `config/rbac/` lacks a right that the operator needed.
pub(crate) fn check_logs_and_audit(scope: &Scope<'_>) -> Result<(), Error> {
    let logs = read_logs(scope)?;
    let mut found: Vec<String> = logs.iter().flat_map(|(source, text)| scope.canaries.leaks(source, text)).collect();
    let denied =
        AuditQuery { user: Some(scope.user), decision: Some(AuthorizationDecision::Forbid), ..AuditQuery::default() };
    for request in scope.plane.audit().requests(&denied)? {
        found.push(format!("config/rbac/ does not allow {} {} ({})", request.verb, request.uri, request.code));
    }
    if found.is_empty() { Ok(()) } else { Err(Error::Findings(found)) }
}

/// The logs of the run, each with its path.
pub(crate) fn read_logs(scope: &Scope<'_>) -> Result<Vec<(String, String)>, Error> {
    let files = [scope.directory.join("operator.log"), scope.directory.join("banks.log"), scope.plane.audit_log()];
    let mut logs = Vec::new();
    for path in files {
        let text = fs::read(&path).map_err(Error::file("read", &path))?;
        logs.push((path.display().to_string(), String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(logs)
}
