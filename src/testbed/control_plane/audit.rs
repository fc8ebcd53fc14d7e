//! Reads the API server's audit log: what was asked, by whom, and what was decided.
//!
//! The tests count and judge requests here rather than in the operator, because a server's word about its client is
//! better than the client's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::testbed::control_plane::Error;

/// The audit policy: one line for each request, without bodies, so that no Secret is ever in it.
pub(crate) const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// What the authorizer said.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Allowed.
    Allow,
    /// Refused: a right is missing.
    Forbid,
}

/// One request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditRequest {
    /// For a service account `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// API group; empty for the core group and for paths that are no resource.
    pub group: String,
    /// Plural resource; empty for paths that are no resource.
    pub resource: String,
    /// `status`, `token`, …; or empty.
    pub subresource: String,
    /// Namespace; or empty.
    pub namespace: String,
    /// Object name; or empty.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// The client's own name for itself.
    pub user_agent: String,
    /// HTTP status of the answer.
    pub code: u16,
    /// The authorizer's word; absent if it was not asked (an unauthenticated request).
    pub decision: Option<Decision>,
    /// When the server received it, RFC 3339.
    pub received: String,
}

/// What to look for; an absent field matches everything. `subresource: Some("")` means "none".
#[derive(Copy, Clone, Debug, Default)]
pub struct Query<'a> {
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
    pub decision: Option<Decision>,
}

impl Query<'_> {
    /// True if `request` is what this asks for.
    pub fn matches(&self, request: &AuditRequest) -> bool {
        let fits = |want: Option<&str>, have: &str| want.is_none_or(|want| want == have);
        fits(self.user, &request.user)
            && fits(self.verb, &request.verb)
            && fits(self.resource, &request.resource)
            && fits(self.subresource, &request.subresource)
            && fits(self.namespace, &request.namespace)
            && fits(self.name, &request.name)
            && self.decision.is_none_or(|want| Some(want) == request.decision)
    }
}

/// A place in the log, to count from.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Position(u64);

/// The log of one API server; it goes on over restarts.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The present end of the log.
    pub fn position(&self) -> Result<Position, Error> {
        Ok(Position(std::fs::metadata(&self.path).map_err(Error::file("read", &self.path))?.len()))
    }

    /// All requests that match. A watch counts once, when it was answered; any other request when it was done.
    pub fn requests(&self, query: &Query<'_>) -> Result<Vec<AuditRequest>, Error> {
        self.requests_since(Position::default(), query)
    }

    /// Those that were written after `since`.
    pub fn requests_since(&self, since: Position, query: &Query<'_>) -> Result<Vec<AuditRequest>, Error> {
        let mut file = File::open(&self.path).map_err(Error::file("open", &self.path))?;
        let mut text = String::new();
        // From one byte earlier, to see whether `since` is the start of a line; the rest of a line that was half
        // written then is not ours.
        file.seek(SeekFrom::Start(since.0.saturating_sub(1)))
            .and_then(|_| file.read_to_string(&mut text))
            .map_err(Error::file("read", &self.path))?;
        let from = if since.0 == 0 { 0 } else { text.find('\n').map_or(text.len(), |end| end + 1) };
        // The last line may be half written now.
        let until = text.rfind('\n').map_or(from, |end| end.max(from));
        parse(&text[from..until]).map(|all| all.into_iter().filter(|request| query.matches(request)).collect())
    }
}

/// The fields of `audit.k8s.io/v1` `Event` that we read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
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

fn parse(lines: &str) -> Result<Vec<AuditRequest>, Error> {
    let mut requests = Vec::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let event: Event = serde_json::from_str(line).map_err(Error::Audit)?;
        // Only long-running requests have a ResponseStarted; their ResponseComplete would count them twice, unless they
        // never got as far as an answer.
        let refused = event.response_status.as_ref().is_some_and(|status| status.code >= 400);
        let wanted = if event.verb == "watch" && !refused { "ResponseStarted" } else { "ResponseComplete" };
        if event.stage == wanted {
            requests.push(event.into());
        }
    }
    Ok(requests)
}

impl From<Event> for AuditRequest {
    fn from(event: Event) -> Self {
        let object = event.object_ref.unwrap_or_default();
        let decision = event
            .annotations
            .get("authorization.k8s.io/decision")
            .map(|word| if word == "allow" { Decision::Allow } else { Decision::Forbid });
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

    #[test]
    fn a_watch_counts_once_and_a_refused_watch_counts_as_refused() {
        let all = parse(LOG).unwrap();
        assert_eq!(all.len(), 3);
        let refused = Query { decision: Some(Decision::Forbid), ..Query::default() };
        assert_eq!(all.iter().filter(|r| refused.matches(r)).map(|r| r.code).collect::<Vec<_>>(), [403]);
        let secrets = Query { resource: Some("secrets"), user: Some("u"), subresource: Some(""), ..Query::default() };
        assert_eq!(all.iter().filter(|r| secrets.matches(r)).count(), 2);
    }
}
