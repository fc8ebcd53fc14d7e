//! What a request is called: its ID, its method and the template of its path.

use std::fmt;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use uuid::Uuid;

/// The correlation ID of a request.
#[derive(Copy, Clone, Debug)]
pub struct RequestId(pub Uuid);

/// What a request is called in metrics, log lines, spans and the audit: routes by template, so that no name of a request
/// becomes a label.
#[derive(Debug)]
pub(super) struct RequestLabel {
    id: Uuid,
    method: &'static str,
    path: Option<MatchedPath>,
}

impl RequestLabel {
    pub(super) fn new(id: Uuid, request: &Request) -> Self {
        Self { id, method: method(request.method()), path: request.extensions().get().cloned() }
    }

    pub(super) const fn id(&self) -> Uuid {
        self.id
    }

    pub(super) const fn method(&self) -> &'static str {
        self.method
    }

    /// The template of the route; `None` for an unknown path.
    pub(super) fn template(&self) -> Option<&str> {
        self.path.as_ref().map(MatchedPath::as_str)
    }

    /// The template of the route as a label; requests of no route have one in common.
    pub(super) fn route(&self) -> &str {
        self.template().unwrap_or("other")
    }
}

impl fmt::Display for RequestLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.route())
    }
}

/// The method as a label; a client can send any word as method.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
