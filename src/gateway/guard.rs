//! What a request passes before its handler: the limit of concurrent requests (see [`crate::gateway::request_limits`]), and
//! the authentication of its caller.

use std::collections::HashMap;

use axum::RequestExt as _;
use axum::extract::{RawPathParams, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodFilter;

use crate::domain::key::ObjectKey;
use crate::gateway::aliases;
use crate::gateway::authenticate::{authenticate, has_two_credentials};
use crate::gateway::call_problem::bulkhead_full;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::{DEFAULT_RETRY_AFTER, Problem};
use crate::gateway::request_label::RequestLabel;
use crate::gateway::request_limits::RequestLimit;
use crate::gateway::state::Gateway;
use crate::gateway::webhooks::receive;

/// The methods of each route, by the template of its path.
#[derive(Debug, Default)]
pub(super) struct RouteMethods(HashMap<String, MethodFilter>);

impl RouteMethods {
    /// Adds methods of a route.
    pub(super) fn add(&mut self, template: &str, methods: MethodFilter) {
        let all = self.0.entry(template.to_owned()).or_insert(methods);
        *all = all.or(methods);
    }

    /// Whether the route is known and has no handler for the method.
    fn lack(&self, template: &str, method: &Method) -> bool {
        let Some(all) = self.0.get(template) else { return false };
        // A route that serves GET serves HEAD.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        MethodFilter::try_from(method.clone()).map_or(true, |wanted| all.or(wanted) != *all)
    }
}

/// What guards a request.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Guard {
    /// Nothing: a probe of the kubelet.
    None,
    /// The limit of concurrent requests alone: the signature of a webhook takes the place of a token. And a method that the
    /// route does not have is told before credentials that contradict each other: its fallback answers, and nothing else can.
    Limit,
    /// The limits, and a caller who is known.
    Caller,
}

impl Guard {
    /// That of a request; unknown paths are for known callers only.
    fn of(label: &RequestLabel, request: &Request, routes: &RouteMethods) -> Self {
        match label.template() {
            Some("/livez" | "/readyz") => Self::None,
            Some(receive::PATH) => Self::Limit,
            Some(template) if has_two_credentials(request) && routes.lack(template, request.method()) => Self::Limit,
            _ => Self::Caller,
        }
    }
}

/// Runs the handler of a request that passes the guard of its route.
pub(super) async fn guarded(
    gateway: &Gateway,
    routes: &RouteMethods,
    label: &RequestLabel,
    mut request: Request,
    next: Next,
) -> Response {
    let called = match Guard::of(label, &request, routes) {
        Guard::None => return next.run(request).await,
        // It calls no connection: forged webhooks must not use up the calls of one.
        Guard::Limit => {
            return match gateway.request_limits.try_start(None) {
                Ok(_permit) => next.run(request).await,
                Err(limit) => gateway.too_many_requests(limit).into_response(),
            };
        }
        Guard::Caller => called_connection(gateway, label, &mut request).await,
    };
    match gateway.request_limits.try_start(called.as_ref()) {
        Ok(permit) => authenticate(gateway, label, permit, request, next).await,
        Err(limit) => gateway.too_many_requests(limit).into_response(),
    }
}

/// The connection that the path calls, if it calls one.
async fn called_connection(gateway: &Gateway, label: &RequestLabel, request: &mut Request) -> Option<ObjectKey> {
    if aliases::is_alias(request.uri().path()) {
        return gateway.finastra.clone();
    }
    // Most paths have no parameters, decisions among them.
    if !label.template()?.contains("{connection}") {
        return None;
    }
    let parameters: RawPathParams = request.extract_parts().await.ok()?;
    let parameter = |wanted: &str| parameters.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    Some(ObjectKey::new(parameter("namespace")?, parameter("connection")?))
}

impl Gateway {
    /// The error for a request beyond `limit`, which is counted.
    pub(super) fn too_many_requests(&self, limit: RequestLimit) -> Problem {
        self.metrics.rejected.with_label_values(&[limit.as_str()]).inc();
        let problem = match limit {
            RequestLimit::Replica => {
                let text =
                    "too many concurrent requests on this replica; retry after Retry-After, or on another replica";
                Problem::new(ErrorCode::Unavailable, text)
            }
            RequestLimit::Connection => bulkhead_full(),
            RequestLimit::Caller => {
                let text = "too many concurrent requests of this caller; wait for their responses; see Retry-After";
                Problem::new(ErrorCode::ConcurrencyLimited, text)
            }
        };
        problem.retry_in(DEFAULT_RETRY_AFTER)
    }
}
