//! The last step of the scenario: everything that the operator emitted is scanned for planted secrets.

use crate::endpoints::Endpoints;
use crate::environment::Environment;
use crate::error::Error;
use crate::leaks;

/// HTTP responses of the operator that are scanned.
const PATHS: [&str; 4] = ["/livez", "/readyz", "/readyz?verbose", "/metrics"];

/// What the operator writes to the API server.
const OBJECTS: &str = "providerconnections,syncjobs,bankroutes,breakerpolicies,events.events.k8s.io,leases";

/// Scans everything that was emitted so far. Returns the number of bytes scanned.
pub(crate) async fn scan_output(environment: &Environment, endpoints: &Endpoints) -> Result<usize, Error> {
    let mut scanned = Vec::new();
    let args = ["get", OBJECTS, "--all-namespaces", "-o", "json", "--show-managed-fields"];
    scanned.push(("status and events".to_owned(), environment.run("kubectl", &args).await?));
    for path in PATHS {
        let (_, text) = environment.get(&format!("http://{}{path}", endpoints.admin)).await?;
        scanned.push((format!("the response to GET {path}"), text));
    }
    let scope = environment.scan_scope();
    let found: Vec<String> = scanned.iter().flat_map(|(source, text)| scope.canaries.leaks(source, text)).collect();
    if !found.is_empty() {
        return Err(Error::Findings(found));
    }
    leaks::check_logs_and_audit(&scope)?;
    let logs = leaks::read_logs(&scope)?;
    Ok(scanned.iter().chain(&logs).map(|(_, text)| text.len()).sum())
}
