//! The end of every run: no planted secret came out anywhere, and the operator was refused nothing.

use std::fs;
use std::path::Path;

use busbar::testbed::canaries::Canaries;
use busbar::testbed::control_plane::{ControlPlane, Decision, Query};

use crate::failure::Failure;
use crate::world::{Places, World};

/// Answers of the operator that are searched.
const PATHS: [&str; 4] = ["/livez", "/readyz", "/readyz?verbose", "/metrics"];

/// What the operator writes into the API server.
const OBJECTS: &str = "providerconnections,syncjobs,bankroutes,breakerpolicies,events.events.k8s.io,leases";

/// Searches everything that has come out so far; how many bytes that were.
pub(crate) async fn everything(world: &World, places: &Places) -> Result<usize, Failure> {
    let mut searched = Vec::new();
    let args = ["get", OBJECTS, "--all-namespaces", "-o", "json", "--show-managed-fields"];
    searched.push(("status and events".to_owned(), world.run("kubectl", &args).await?));
    for path in PATHS {
        let (_, text) = world.get(&format!("http://{}{path}", places.admin)).await?;
        searched.push((format!("the answer to GET {path}"), text));
    }
    let found: Vec<String> = searched.iter().flat_map(|(place, text)| world.canaries.leaks(place, text)).collect();
    if !found.is_empty() {
        return Err(Failure::Findings(found));
    }
    logs_and_audit(&world.canaries, &world.plane, &world.identity.user, &world.directory)?;
    let logs = logs(&world.directory, &world.plane)?;
    Ok(searched.iter().chain(&logs).map(|(_, text)| text.len()).sum())
}

/// Searches the logs, and asks the audit log whether a right is missing from `config/rbac/`.
pub(crate) fn logs_and_audit(
    canaries: &Canaries,
    plane: &ControlPlane,
    user: &str,
    directory: &Path,
) -> Result<(), Failure> {
    let mut found: Vec<String> =
        logs(directory, plane)?.iter().flat_map(|(place, text)| canaries.leaks(place, text)).collect();
    let refused = Query { user: Some(user), decision: Some(Decision::Forbid), ..Query::default() };
    for request in plane.audit().requests(&refused)? {
        found.push(format!("config/rbac/ does not allow {} {} ({})", request.verb, request.uri, request.code));
    }
    if found.is_empty() { Ok(()) } else { Err(Failure::Findings(found)) }
}

fn logs(directory: &Path, plane: &ControlPlane) -> Result<Vec<(String, String)>, Failure> {
    let files = [directory.join("operator.log"), directory.join("banks.log"), plane.audit_log()];
    let mut logs = Vec::new();
    for path in files {
        let text = fs::read(&path).map_err(Failure::file("read", &path))?;
        logs.push((path.display().to_string(), String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(logs)
}
