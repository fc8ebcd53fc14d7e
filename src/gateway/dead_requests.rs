//! `/api/dead-requests`: what failed for good, and asking for it again.
//!
//! Parameters are not shown: they can name accounts, and who may see what failed need not be who may see those.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::cluster::auth::{Act, Subject};
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::gateway::Gateway;
use crate::gateway::envelope::Envelope;
use crate::gateway::observe::RequestId;
use crate::gateway::problem::{ErrorCode, Problem};
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::dead_requests::{DeadFilter, DeadRequest, DeadState};

/// Where a request stands.
#[derive(Copy, Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It will be tried again.
    Pending,
    /// All tries failed: a person decides.
    Parked,
    /// A later try was answered.
    Done,
}

impl From<DeadState> for Standing {
    fn from(state: DeadState) -> Self {
        match state {
            DeadState::Pending => Self::Pending,
            DeadState::Parked => Self::Parked,
            DeadState::Done => Self::Done,
        }
    }
}

impl From<Standing> for DeadState {
    fn from(state: Standing) -> Self {
        match state {
            Standing::Pending => Self::Pending,
            Standing::Parked => Self::Parked,
            Standing::Done => Self::Done,
        }
    }
}

/// A request that failed for good.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadRequestView {
    /// Its id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Namespace of the connection.
    pub namespace: String,
    /// Name of the connection.
    pub connection: String,
    /// The connection's provider.
    pub provider: String,
    /// The operation.
    pub operation: String,
    /// Who asked for it first.
    pub subject: String,
    /// Where it stands.
    pub state: Standing,
    /// Why it failed last.
    pub reason: String,
    /// The provider's HTTP status, if it answered.
    #[schema(minimum = 100, maximum = 599)]
    pub status_code: Option<u16>,
    /// Retries so far.
    #[schema(minimum = 0)]
    pub tries: u32,
    /// How often the same request failed while this one was pending or parked.
    #[schema(minimum = 1)]
    pub seen: u64,
    /// The correlation id of the request that failed.
    #[schema(format = "uuid")]
    pub request_id: Option<String>,
    /// When it came.
    #[schema(format = DateTime)]
    pub created_time: String,
    /// When it is tried again; null unless pending.
    #[schema(format = DateTime)]
    pub next_try_time: Option<String>,
}

impl From<DeadRequest> for DeadRequestView {
    fn from(dead: DeadRequest) -> Self {
        let DeadRequest { request, state, tries, seen, .. } = dead;
        Self {
            id: request.id.to_string(),
            namespace: request.connection.namespace.to_string(),
            connection: request.connection.name.to_string(),
            provider: request.provider,
            operation: request.operation,
            subject: request.subject,
            state: state.into(),
            reason: request.reason,
            status_code: request.status,
            tries,
            seen,
            request_id: request.request_id.map(|id| id.to_string()),
            created_time: request.at.to_string(),
            next_try_time: (state == DeadState::Pending).then(|| request.next.to_string()),
        }
    }
}

/// A page of failed requests.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadRequestPage {
    /// Newest first.
    pub items: Vec<DeadRequestView>,
    /// Where the next page begins; null on the last.
    pub next_cursor: Option<String>,
}

/// Which requests to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// Only those of connections in this namespace. Without it you need the right in all namespaces.
    pub namespace: Option<String>,
    /// Only those of this connection.
    pub connection: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    pub state: Option<Standing>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Most records of a page. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// Lists requests that failed for good.
#[utoipa::path(
    get,
    path = "/api/dead-requests",
    operation_id = "listDeadRequests",
    tag = "dead requests",
    params(Listing),
    responses((status = 200, description = "A page", body = Envelope<DeadRequestPage>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Response, Problem> {
    let invalid = |text: &str, name: &str| Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name);
    let Query(asked) = query.map_err(|_| {
        let text =
            "the query may hold namespace, connection, state (pending, parked, done), cursor and limit, once each";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    let limit = asked.limit.unwrap_or(50);
    if !(1..=500).contains(&limit) {
        return Err(invalid("limit must be from 1 to 500", "limit"));
    }
    let before = match &asked.cursor {
        None => None,
        Some(text) => Some(place(text).ok_or_else(|| invalid("cursor must be one that a page gave", "cursor"))?),
    };
    if asked.namespace.as_ref().or(asked.connection.as_ref()).is_some_and(|name| name.len() > 253) {
        return Err(invalid("namespace and connection have at most 253 characters", "namespace"));
    }
    let namespace = asked.namespace.clone().unwrap_or_default();
    gateway.access.require(&subject, act("list", namespace, String::new())).await?;
    let filter = DeadFilter {
        namespace: asked.namespace,
        connection: asked.connection,
        state: asked.state.map(DeadState::from),
        before,
    };
    let found = gateway.ledger.list_dead_requests(&filter, limit + 1).await.map_err(|e| Problem::ledger(&e))?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let next_cursor = match found.get(page.saturating_sub(1)) {
        Some(last) if found.len() > page => Some(URL_SAFE_NO_PAD.encode(last.seq.to_be_bytes())),
        _ => None,
    };
    let items = found.into_iter().take(page).map(DeadRequestView::from).collect();
    Ok(Envelope::ok(DeadRequestPage { items, next_cursor }).into_response())
}

/// A request that was asked for again.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Replayed {
    /// Its id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Where it stands now.
    pub state: Standing,
}

/// Makes a parked request pending again, its tries counted anew. The leader makes the call, in the name of whoever replays.
#[utoipa::path(
    post,
    path = "/api/dead-requests/{id}/replay",
    operation_id = "replayDeadRequest",
    tag = "dead requests",
    params(("id" = String, Path, description = "The request's id", format = "uuid")),
    responses((status = 202, description = "It will be tried again", body = Envelope<Replayed>))
)]
pub async fn replay(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let found = find(&gateway, &subject, id, "update").await?;
    let now = gateway.clock.now().wall;
    let of = (&found.request.connection, Some(&*found.request.provider));
    let entry = entry(now, "replay", &subject, of, request_id);
    // Whoever asked first may have left since: nothing is asked in his name any more. What he declared to want the answer
    // for stays with the request.
    let purpose = serde_json::from_str::<Caller>(&found.request.caller).ok().and_then(|first| first.purpose);
    let caller =
        Caller { user: subject.user.clone(), groups: subject.groups.clone(), profile: None, purpose, request_id: None };
    let caller = serde_json::to_string(&caller)
        .map_err(|_| Problem::new(ErrorCode::Internal, "the request cannot be kept in your name"))?;
    let id = found.request.id;
    if !gateway.ledger.replay_dead_request(id, &caller, &entry, now).await.map_err(|e| Problem::ledger(&e))? {
        let text = "only a parked request can be replayed, and only while no equal one is pending";
        return Err(Problem::new(ErrorCode::Conflict, text).with("state", found.state.as_str()));
    }
    gateway.keep.ring();
    Ok(Envelope::accepted(Replayed { id: id.to_string(), state: Standing::Pending }).into_response())
}

/// The request of that id, if `subject` may do `verb` with it. Who may do it nowhere is told so, whether or not there is one.
pub(super) async fn find(
    gateway: &Gateway,
    subject: &Subject,
    id: Result<Path<String>, PathRejection>,
    verb: &'static str,
) -> Result<DeadRequest, Problem> {
    let id = id.ok().and_then(|Path(text)| Uuid::parse_str(&text).ok());
    let found = match id {
        Some(id) => gateway.ledger.get_dead_request(id).await.map_err(|e| Problem::ledger(&e))?,
        None => None,
    };
    let of = found.as_ref().map_or_else(|| ObjectKey::new("", ""), |dead| dead.request.connection.clone());
    gateway.access.require(subject, act(verb, of.namespace.to_string(), of.name.to_string())).await?;
    found.ok_or_else(|| Problem::new(ErrorCode::NotFound, "there is no failed request of that id"))
}

/// What the audit says of an act on failed requests.
pub(super) fn entry(
    at: Timestamp,
    action: &str,
    subject: &Subject,
    (connection, provider): (&ObjectKey, Option<&str>),
    request_id: Uuid,
) -> AuditEntry {
    AuditEntry {
        at,
        kind: AuditKind::DeadRequest,
        action: action.to_owned(),
        subject: subject.user.clone(),
        rights_profile: None,
        allowed: true,
        namespace: connection.namespace.to_string(),
        connection: connection.name.to_string(),
        provider: provider.map(str::to_owned),
        purpose: None,
        reason: None,
        request_id: Some(request_id),
    }
}

pub(super) fn act(verb: &'static str, namespace: String, name: String) -> Act {
    Act { verb, resource: "providerconnections", subresource: "deadrequests", namespace, name }
}

/// The place that a cursor names.
fn place(cursor: &str) -> Option<i64> {
    let bytes: [u8; 8] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
    Some(i64::from_be_bytes(bytes)).filter(|seq| *seq > 0)
}
