//! What the handlers of routing share: rights, the namespace of a request, who asks.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use bytes::BytesMut;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::cluster::auth::{AccessRequest, UserInfo};
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{check_json_type, is_object_name, read_body};
use crate::gateway::problem::Problem;
use crate::gateway::routing::fields::{Fields, invalid};
use crate::gateway::state::Gateway;
use crate::ledger::decisions::AdjustmentTarget;
use crate::routing::Actor;

/// Longest namespace: a DNS label.
const MAX_NAMESPACE: usize = 63;
/// Longest name of a candidate, and longest `bankProfileID`: those of the schema of BankRoute.
const MAX_CANDIDATE: usize = 63;
const MAX_BANK_PROFILE: usize = 128;

/// A right on routes.
#[derive(Copy, Clone, Debug)]
pub(super) struct RoutingRight {
    verb: &'static str,
    subresource: &'static str,
}

impl RoutingRight {
    pub(super) const DECIDE: Self = Self { verb: "create", subresource: "decisions" };
    /// One decision, and a choice without effects.
    pub(super) const GET_DECISION: Self = Self { verb: "get", subresource: "decisions" };
    /// Decisions, the banks of a route with another spec, and what the forecast proposes.
    pub(super) const LIST_DECISIONS: Self = Self { verb: "list", subresource: "decisions" };
    /// The banks of all routes of a namespace, as `status` shows them.
    pub(super) const LIST_ROUTES: Self = Self { verb: "list", subresource: "" };
    /// Another bank for a payout, and the answer to a proposal.
    pub(super) const OVERRIDE: Self = Self { verb: "update", subresource: "override" };
    pub(super) const GET_ADJUSTMENTS: Self = Self { verb: "get", subresource: "adjustments" };
    pub(super) const CREATE_ADJUSTMENT: Self = Self { verb: "create", subresource: "adjustments" };
    pub(super) const DELETE_ADJUSTMENT: Self = Self { verb: "delete", subresource: "adjustments" };
    pub(super) const REPORT_OUTCOMES: Self = Self { verb: "create", subresource: "outcomes" };
    pub(super) const PUSH_PREDICTIONS: Self = Self { verb: "create", subresource: "predictions" };
    pub(super) const VERIFY_AUDIT: Self = Self { verb: "get", subresource: "audit" };
}

impl Gateway {
    /// Fails unless RBAC allows `subject` this on the route; an empty name is any route, an empty namespace all.
    pub(super) async fn require_routing(
        &self,
        subject: &UserInfo,
        right: RoutingRight,
        namespace: &str,
        route: &str,
    ) -> Result<(), Problem> {
        let RoutingRight { verb, subresource } = right;
        let (namespace, name) = (namespace.to_owned(), route.to_owned());
        let access = AccessRequest { verb, resource: "bankroutes", subresource, namespace, name };
        self.access.require(subject, access).await
    }

    /// The namespace of a request: the one that it names, or the default.
    pub(super) fn routing_namespace(&self, given: Option<&str>) -> Result<String, Problem> {
        let namespace = given.or(self.default_namespace.as_deref()).ok_or_else(|| {
            let text = "missing; name the namespace of the route, or set --gateway-default-namespace of the operator";
            invalid("namespace", text)
        })?;
        if !is_namespace(namespace) {
            let text =
                "must be the name of a namespace: 1 to 63 of a-z, 0-9 and -, which neither begins nor ends with -";
            return Err(invalid("namespace", text));
        }
        Ok(namespace.to_owned())
    }

    /// The namespace in the field of that name, or the default.
    pub(super) fn namespace_field(&self, fields: &Fields<'_>) -> Result<String, Problem> {
        self.routing_namespace(fields.text("namespace")?.as_deref())
    }
}

/// Whether a text can be the name of a namespace.
fn is_namespace(text: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (first, last) = (text.as_bytes().first(), text.as_bytes().last());
    text.len() <= MAX_NAMESPACE
        && first.is_some_and(is_edge)
        && last.is_some_and(is_edge)
        && text.bytes().all(|byte| is_edge(&byte) || byte == b'-')
}

/// The optional name of a route in the field `route`.
pub(super) fn route_field(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    let Some(name) = fields.text("route")? else { return Ok(None) };
    if is_object_name(&name) {
        return Ok(Some(name.into_owned()));
    }
    Err(fields.invalid("route", "must be the name of a BankRoute: 1 to 253 of a-z, 0-9, - and ."))
}

/// Who asks, for the record.
pub(super) fn actor(subject: &UserInfo, request_id: Uuid) -> Actor {
    Actor { request_id: Some(request_id), subject: subject.user.clone() }
}

/// A JSON body, and the permit for a large one, which is held until it is parsed.
pub(super) async fn json_text(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: Body,
) -> Result<(BytesMut, Option<OwnedSemaphorePermit>), Problem> {
    let read = read_body(&gateway.request_limits, body).await?;
    check_json_type(headers)?;
    Ok(read)
}

/// The ID of a path, or the error `code` as for an ID that does not exist.
pub(super) fn path_id(id: Result<Path<String>, PathRejection>, code: ErrorCode, text: &str) -> Result<Uuid, Problem> {
    let id = id.ok().and_then(|Path(text)| Uuid::parse_str(&text).ok());
    id.ok_or_else(|| Problem::new(code, text))
}

/// The bank that a body names: by `candidate` or by `bank_profile_id`.
pub(super) fn bank(fields: &Fields<'_>) -> Result<AdjustmentTarget, Problem> {
    let candidate = fields.short_text("candidate", MAX_CANDIDATE)?;
    match (candidate, fields.short_text("bank_profile_id", MAX_BANK_PROFILE)?) {
        (Some(name), None) => Ok(AdjustmentTarget::Candidate(name)),
        (None, Some(id)) => Ok(AdjustmentTarget::BankProfile(id)),
        (Some(_), Some(_)) => {
            Err(fields.invalid("bank_profile_id", "given beside candidate; name the bank by one of the two"))
        }
        (None, None) => Err(fields.invalid("candidate", "missing; name the bank by candidate or by bank_profile_id")),
    }
}
