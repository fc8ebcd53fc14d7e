//! `/api/consumers`: the consumers of events and their keys.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::domain::consumer::is_consumer_name;
use crate::domain::event::{EventType, OutboxEvent, consumer_aggregate, event_id};
use crate::gateway::consumers::access::KeyError;
use crate::gateway::consumers::reader::{ConsumerAct, ConsumerRight, consumer_not_found, path_name};
use crate::gateway::consumers::view::{ConsumerList, ConsumerView, IssuedConsumer, RemovedConsumerView};
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{is_object_name, json_body};
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;
use crate::ledger::delivery::{CreateOutcome, NewConsumer, RenameOutcome};

/// Most namespaces, and most types, of one consumer.
const MAX_ENTRIES: usize = 64;
/// Longest overlap of two keys.
const MAX_OVERLAP: u64 = 7 * 24 * 3_600;

/// A consumer to create.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerBody {
    /// Its name: 1 to 63 of a-z, 0-9 and _.
    #[schema(pattern = "^[a-z0-9_]{1,63}$")]
    pub name: String,
    /// The namespaces whose events it gets. Unset: all, which needs the permission for all namespaces.
    pub namespaces: Option<Vec<String>>,
    /// The types of events that it gets. Unset: all, those of later versions too.
    #[schema(max_items = 64)]
    pub event_types: Vec<String>,
    /// Since when it also gets events that are stored already. Unset: it gets none of them.
    #[schema(format = DateTime)]
    pub history_from: Option<String>,
}

/// A new name.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RenameBody {
    /// The name: 1 to 63 of a-z, 0-9 and _.
    #[schema(pattern = "^[a-z0-9_]{1,63}$")]
    pub name: String,
}

/// How a key is rotated.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateBody {
    /// Seconds for which the replaced key still works. Unset: 0, it ends at once.
    #[schema(minimum = 0, maximum = 604_800)]
    pub overlap_seconds: u64,
}

/// Lists the consumers.
#[utoipa::path(
    get,
    path = "/api/consumers",
    operation_id = "listConsumers",
    tag = "consumers",
    responses((status = 200, description = "The consumers", body = Envelope<ConsumerList>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
) -> Result<Response, Problem> {
    gateway.require_consumer_right(&subject, ConsumerRight::LIST, "", "").await?;
    let consumers = gateway.ledger.list_consumers().await.map_err(|e| Problem::ledger(&e))?;
    let items = consumers.into_iter().map(ConsumerView::from).collect();
    Ok(Envelope::ok(ConsumerList { items }).into_response())
}

/// Creates a consumer and its key. The key is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/api/consumers",
    operation_id = "createConsumer",
    tag = "consumers",
    request_body = ConsumerBody,
    responses((status = 200, description = "The consumer and its key", body = Envelope<IssuedConsumer>))
)]
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body: ConsumerBody = json_body(&gateway.request_limits, &headers, body).await?;
    // First: the name is part of the question to the API server.
    let history_from = check(&body)?;
    gateway.require_consumer_right(&subject, ConsumerRight::CREATE, "", &body.name).await?;
    let ConsumerBody { name, namespaces, event_types, .. } = body;
    let act = ConsumerAct { action: "create", consumer: &name, subject: &subject.user, reason: None, request_id };
    gateway.record_consumer_act(act).await?;
    let issued = gateway.consumers.issue().await.map_err(key_problem)?;
    let aggregate = consumer_aggregate(&name);
    let event = OutboxEvent {
        id: event_id(EventType::ConsumerCreated, &aggregate, &[issued.stored.key_id.as_bytes()]),
        event_type: EventType::ConsumerCreated,
        namespace: String::new(),
        payload: serde_json::json!({ "consumer": &name }).to_string(),
        aggregate,
        correlation_id: request_id,
    };
    let consumer = NewConsumer {
        name,
        namespaces,
        event_types,
        created_by: subject.user.clone(),
        key: issued.stored,
        history_from,
        events: vec![event],
    };
    let now = gateway.clock.now().wall;
    match gateway.ledger.create_consumer(&consumer, now).await.map_err(|e| Problem::ledger(&e))? {
        CreateOutcome::Created(consumer) => {
            tracing::info!(%request_id, consumer = consumer.name, "consumer created");
            let view = IssuedConsumer { consumer: consumer.into(), api_key: issued.text.to_string() };
            Ok(Envelope::ok(view).into_response())
        }
        CreateOutcome::Exists => Err(name_taken()),
    }
}

/// Removes a consumer: its keys end at once, and its pending deliveries are cancelled.
#[utoipa::path(
    delete,
    path = "/api/consumers/{name}",
    operation_id = "removeConsumer",
    tag = "consumers",
    params(("name" = String, Path, description = "Name of the consumer")),
    responses((status = 200, description = "The consumer was removed", body = Envelope<RemovedConsumerView>))
)]
pub async fn remove(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let name = path_name(name)?;
    gateway.require_consumer_right(&subject, ConsumerRight::REMOVE, "", &name).await?;
    let act = ConsumerAct { action: "remove", consumer: &name, subject: &subject.user, reason: None, request_id };
    gateway.record_consumer_act(act).await?;
    let now = gateway.clock.now().wall;
    let removed = gateway.ledger.remove_consumer(&name, now).await.map_err(|e| Problem::ledger(&e))?;
    let removed = removed.ok_or_else(consumer_not_found)?;
    forget(&gateway).await;
    Ok(Envelope::ok(RemovedConsumerView { name, cancelled: removed.cancelled }).into_response())
}

/// Renames a consumer. Its keys stay; the queue of the new name is declared, and the old one is left to be emptied.
#[utoipa::path(
    post,
    path = "/api/consumers/{name}/rename",
    operation_id = "renameConsumer",
    tag = "consumers",
    params(("name" = String, Path, description = "Name of the consumer")),
    request_body = RenameBody,
    responses((status = 200, description = "The renamed consumer", body = Envelope<ConsumerView>))
)]
pub async fn rename(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = path_name(name)?;
    let body: RenameBody = json_body(&gateway.request_limits, &headers, body).await?;
    check_name(&body.name)?;
    gateway.require_consumer_right(&subject, ConsumerRight::RENAME, "", &name).await?;
    let reason = Some(body.name.clone());
    let act = ConsumerAct { action: "rename", consumer: &name, subject: &subject.user, reason, request_id };
    gateway.record_consumer_act(act).await?;
    let now = gateway.clock.now().wall;
    let renamed = gateway.ledger.rename_consumer(&name, &body.name, now).await.map_err(|e| Problem::ledger(&e))?;
    match renamed {
        RenameOutcome::Renamed(consumer) => {
            forget(&gateway).await;
            Ok(Envelope::ok(ConsumerView::from(consumer)).into_response())
        }
        RenameOutcome::NotFound => Err(consumer_not_found()),
        RenameOutcome::Exists => Err(name_taken()),
    }
}

/// Replaces the key of a consumer. The new key is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/api/consumers/{name}/rotate-key",
    operation_id = "rotateConsumerKey",
    tag = "consumers",
    params(("name" = String, Path, description = "Name of the consumer")),
    request_body(content = Option<RotateBody>, description = "The overlap; unset: none"),
    responses((status = 200, description = "The consumer and its new key", body = Envelope<IssuedConsumer>))
)]
pub async fn rotate_key(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = path_name(name)?;
    let body: RotateBody = json_body(&gateway.request_limits, &headers, body).await?;
    gateway.require_consumer_right(&subject, ConsumerRight::ROTATE_KEY, "", &name).await?;
    if body.overlap_seconds > MAX_OVERLAP {
        return Err(invalid("overlap_seconds", "must be from 0 to 604800, a week"));
    }
    let overlap = Duration::from_secs(body.overlap_seconds);
    let reason = Some(format!("overlap {} s", body.overlap_seconds));
    let act = ConsumerAct { action: "rotate_key", consumer: &name, subject: &subject.user, reason, request_id };
    gateway.record_consumer_act(act).await?;
    let issued = gateway.consumers.issue().await.map_err(key_problem)?;
    let now = gateway.clock.now().wall;
    let rotated = gateway.ledger.rotate_key(&name, &issued.stored, overlap, now).await;
    let consumer = rotated.map_err(|e| Problem::ledger(&e))?.ok_or_else(consumer_not_found)?;
    forget(&gateway).await;
    let view = IssuedConsumer { consumer: consumer.into(), api_key: issued.text.to_string() };
    Ok(Envelope::ok(view).into_response())
}

/// Forgets what is remembered of keys. If the ledger fails now, the look that follows within half a second does it.
async fn forget(gateway: &Gateway) {
    if let Err(error) = gateway.consumers.refresh().await {
        tracing::warn!(%error, "changes of consumers not read; reading them again");
    }
}

/// Checks a new consumer; the start of its history.
fn check(body: &ConsumerBody) -> Result<Option<Timestamp>, Problem> {
    check_name(&body.name)?;
    if let Some(namespaces) = &body.namespaces
        && (namespaces.is_empty() || namespaces.len() > MAX_ENTRIES || !namespaces.iter().all(|n| is_object_name(n)))
    {
        return Err(invalid("namespaces", "must be 1 to 64 names of namespaces; leave the field out for all"));
    }
    let is_type = |name: &String| name.parse::<EventType>().is_ok();
    if body.event_types.len() > MAX_ENTRIES || !body.event_types.iter().all(is_type) {
        let known: Vec<&str> = EventType::ALL.iter().map(|known| known.as_str()).collect();
        return Err(invalid("event_types", &format!("must be some of: {}", known.join(", "))));
    }
    let instant = |text: &String| {
        let at: Option<Timestamp> = text.parse().ok();
        at.ok_or_else(|| invalid("history_from", "must be an RFC 3339 instant such as \"2030-01-31T18:00:00Z\""))
    };
    body.history_from.as_ref().map(instant).transpose()
}

fn check_name(name: &str) -> Result<(), Problem> {
    if is_consumer_name(name) { Ok(()) } else { Err(invalid("name", "must have 1 to 63 of a-z, 0-9 and _")) }
}

fn invalid(parameter: &str, text: &str) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, format!("{parameter}: {text}")).with("parameter", parameter)
}

fn name_taken() -> Problem {
    Problem::new(ErrorCode::Conflict, "a consumer of that name exists; choose another name").with("state", "exists")
}

/// The error of a key that could not be made.
fn key_problem(error: KeyError) -> Problem {
    match error {
        KeyError::Ledger(error) => Problem::ledger(&error),
        KeyError::Busy | KeyError::Invalid | KeyError::RateLimited(_) => {
            Problem::new(ErrorCode::Unavailable, "too many keys are being verified; retry after Retry-After")
        }
    }
}
