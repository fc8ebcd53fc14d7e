//! Reads the API server's audit log: the requests, their users, and the authorization decisions.
//!
//! Tests count and check requests here, not in the operator: a server's record of its client is more reliable than the
//! client's own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use crate::testbed::control_plane::error::ControlPlaneError;

/// The audit policy: one line per request, without bodies, so that the log never contains a Secret.
pub(crate) const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// The decision of the authorizer.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AuthorizationDecision {
    /// Allowed.
    Allow,
    /// Forbidden: a permission is missing.
    Forbid,
}

/// One request to the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditRequest {
    /// For a service account `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// API group; empty for the core group and for non-resource paths.
    pub group: String,
    /// Plural resource; empty for non-resource paths.
    pub resource: String,
    /// `status`, `token`, …; may be empty.
    pub subresource: String,
    /// Namespace; may be empty.
    pub namespace: String,
    /// Object name; may be empty.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// HTTP status of the response.
    pub code: u16,
    /// The decision; absent if the authorizer did not run (an unauthenticated request).
    pub decision: Option<AuthorizationDecision>,
    /// When the server received it, RFC 3339.
    pub received: String,
}

/// A filter of requests; an absent field matches everything. `subresource: Some("")` means "none".
#[derive(Copy, Clone, Debug, Default)]
pub struct AuditQuery<'a> {
    /// Exact user name.
    pub user: Option<&'a str>,
    /// Exact verb.
    pub verb: Option<&'a str>,
    /// Exact plural resource.
    pub resource: Option<&'a str>,
    /// Exact subresource.
    pub subresource: Option<&'a str>,
    /// Exact namespace.
    pub namespace: Option<&'a str>,
    /// Exact object name.
    pub name: Option<&'a str>,
    /// The decision.
    pub decision: Option<AuthorizationDecision>,
}

impl AuditQuery<'_> {
    /// Whether `request` matches every field that is set.
    pub fn matches(&self, request: &AuditRequest) -> bool {
        let equal = |expected: Option<&str>, actual: &str| expected.is_none_or(|expected| expected == actual);
        equal(self.user, &request.user)
            && equal(self.verb, &request.verb)
            && equal(self.resource, &request.resource)
            && equal(self.subresource, &request.subresource)
            && equal(self.namespace, &request.namespace)
            && equal(self.name, &request.name)
            && self.decision.is_none_or(|expected| Some(expected) == request.decision)
    }
}

/// An offset in the log, from which to read.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct AuditPosition(u64);

/// The log of one API server; restarts append to it. Clones share what was read of it.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
    read: Arc<Mutex<Requests>>,
}

/// What was read of a log, which only grows: each line is read once, however many tests ask.
#[derive(Debug, Default)]
struct Requests {
    /// Where the first line that was not read starts.
    end: u64,
    /// In the order of the log, each with the offset of its line.
    all: Vec<(u64, AuditRequest)>,
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: Arc::default() }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current end of the log.
    pub fn position(&self) -> Result<AuditPosition, ControlPlaneError> {
        Ok(AuditPosition(std::fs::metadata(&self.path).map_err(ControlPlaneError::file("read", &self.path))?.len()))
    }

    /// All requests that match. A watch counts once, when its response has started; any other request when it has
    /// completed.
    pub fn requests(&self, query: &AuditQuery<'_>) -> Result<Vec<AuditRequest>, ControlPlaneError> {
        self.requests_since(AuditPosition::default(), query)
    }

    /// The matching requests that were logged after `since`: not one whose line was partly written then.
    pub fn requests_since(
        &self,
        since: AuditPosition,
        query: &AuditQuery<'_>,
    ) -> Result<Vec<AuditRequest>, ControlPlaneError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.text_from(read.end)?;
        read.append(&text)?;
        let from = read.all.partition_point(|(offset, _)| *offset < since.0);
        let since = read.all[from..].iter().map(|(_, request)| request);
        Ok(since.filter(|request| query.matches(request)).cloned().collect())
    }

    fn text_from(&self, offset: u64) -> Result<String, ControlPlaneError> {
        let mut text = String::new();
        File::open(&self.path)
            .and_then(|mut file| file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_to_string(&mut text)))
            .map_err(ControlPlaneError::file("read", &self.path))?;
        Ok(text)
    }
}

impl Requests {
    /// Reads the whole lines of what follows; the last line may be partly written.
    fn append(&mut self, text: &str) -> Result<(), ControlPlaneError> {
        for line in text.split_inclusive('\n').take_while(|line| line.ends_with('\n')) {
            if let Some(request) = parse(line)? {
                self.all.push((self.end, request));
            }
            self.end += line.len() as u64;
        }
        Ok(())
    }
}

/// The fields of `audit.k8s.io/v1` `Event` that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEvent {
    stage: String,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: String,
    user: EventUser,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct EventUser {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

/// The request of a line, if it counts.
fn parse(line: &str) -> Result<Option<AuditRequest>, ControlPlaneError> {
    if line.trim_end().is_empty() {
        return Ok(None);
    }
    let event: AuditEvent = serde_json::from_str(line).map_err(ControlPlaneError::Audit)?;
    // Only long-running requests have a ResponseStarted; counting their ResponseComplete too would count them twice. A
    // rejected one has only a ResponseComplete.
    let rejected = event.response_status.as_ref().is_some_and(|status| status.code >= 400);
    let counted = if event.verb == "watch" && !rejected { "ResponseStarted" } else { "ResponseComplete" };
    Ok((event.stage == counted).then(|| event.into()))
}

impl From<AuditEvent> for AuditRequest {
    fn from(event: AuditEvent) -> Self {
        let object = event.object_ref.unwrap_or_default();
        let decision = event.annotations.get("authorization.k8s.io/decision").map(|decision| match decision.as_str() {
            "allow" => AuthorizationDecision::Allow,
            _ => AuthorizationDecision::Forbid,
        });
        Self {
            user: event.user.username,
            verb: event.verb,
            group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            uri: event.uri,
            user_agent: event.user_agent,
            code: event.response_status.map_or(0, |status| status.code),
            decision,
            received: event.request_received_timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"stage":"ResponseStarted","requestURI":"/api/v1/secrets?watch=1","verb":"watch","user":{"username":"u"},"objectRef":{"resource":"secrets","apiVersion":"v1"},"responseStatus":{"code":200},"requestReceivedTimestamp":"t","annotations":{"authorization.k8s.io/decision":"allow"}}
{"stage":"ResponseComplete","requestURI":"/api/v1/secrets?watch=1","verb":"watch","user":{"username":"u"},"objectRef":{"resource":"secrets","apiVersion":"v1"},"responseStatus":{"code":200},"requestReceivedTimestamp":"t","annotations":{"authorization.k8s.io/decision":"allow"}}
{"stage":"ResponseComplete","requestURI":"/api/v1/secrets?watch=1","verb":"watch","user":{"username":"u"},"objectRef":{"resource":"secrets","apiVersion":"v1"},"responseStatus":{"code":403},"requestReceivedTimestamp":"t","annotations":{"authorization.k8s.io/decision":"forbid"}}
{"stage":"ResponseComplete","requestURI":"/readyz","verb":"get","user":{},"requestReceivedTimestamp":"t"}"#;

    fn log() -> (tempfile::TempDir, AuditLog) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(&path, format!("{LOG}\n")).unwrap();
        (dir, AuditLog::new(path))
    }

    #[test]
    fn a_watch_counts_once_and_a_forbidden_watch_counts_as_forbidden() {
        let (_dir, log) = log();
        assert_eq!(log.requests(&AuditQuery::default()).unwrap().len(), 3);
        let forbidden = AuditQuery { decision: Some(AuthorizationDecision::Forbid), ..AuditQuery::default() };
        assert_eq!(log.requests(&forbidden).unwrap().iter().map(|r| r.code).collect::<Vec<_>>(), [403]);
        let secrets =
            AuditQuery { resource: Some("secrets"), user: Some("u"), subresource: Some(""), ..AuditQuery::default() };
        assert_eq!(log.requests(&secrets).unwrap().len(), 2);
    }

    #[test]
    fn a_line_that_is_partly_written_counts_once_it_is_whole() {
        let (_dir, log) = log();
        let all = || log.requests(&AuditQuery::default()).unwrap().len();
        let (first, rest) = LOG.lines().next().unwrap().split_at(40);
        let append = |text: &str| {
            let mut file = File::options().append(true).open(log.path()).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        append(first);
        assert_eq!(all(), 3);
        let within = log.position().unwrap();
        append(rest);
        assert_eq!(all(), 3, "no end of a line");
        append("\n");
        assert_eq!(all(), 4);
        let later = log.position().unwrap();
        append(&format!("{first}{rest}\n"));
        let since = |position| log.clone().requests_since(position, &AuditQuery::default()).unwrap().len();
        assert_eq!((since(AuditPosition::default()), since(within), since(later)), (5, 1, 1));
    }
}
