//! `/api/consumers/{name}/dead-letters`: the dead-letter queue of a consumer at the message broker.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::cluster::auth::UserInfo;
use crate::gateway::consumers::delivery::check_types;
use crate::gateway::consumers::reader::{ConsumerAct, ConsumerRight, consumer_not_found, path_name};
use crate::gateway::consumers::view::{DeadLetterList, DeadLettersMoved, DeadMessageView};
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{json_body, page_limit};
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;
use crate::provider::event_queues::{DeadSelection, EventQueues, QueueError};

/// Most messages that one request purges or replays.
const MAX_MOVED: u32 = 10_000;

/// Filter of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadLettersQuery {
    /// Only messages of these types, separated by commas.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    pub event_type: Option<String>,
    /// Maximum number of messages. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// Which messages are purged or replayed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MoveBody {
    /// Only messages of these types. Unset: all.
    #[schema(max_items = 64)]
    pub event_types: Vec<String>,
    /// Maximum number of messages. Unset: 10000, the maximum.
    #[schema(minimum = 1, maximum = 10_000)]
    pub limit: Option<u32>,
}

/// Lists the messages of the dead-letter queue, oldest first. They stay there.
#[utoipa::path(
    get,
    path = "/api/consumers/{name}/dead-letters",
    operation_id = "listConsumerDeadLetters",
    tag = "consumers",
    params(("name" = String, Path, description = "Name of the consumer"), DeadLettersQuery),
    responses((status = 200, description = "The messages", body = Envelope<DeadLetterList>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<DeadLettersQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let name = path_name(name)?;
    let Query(query) = query.map_err(|_| {
        let text = "invalid query; allowed, once each: type, limit (1 to 500)";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    gateway.require_consumer_right(&subject, ConsumerRight::LIST_DEAD_LETTERS, "", &name).await?;
    let limit = u32::try_from(page_limit(query.limit)?).unwrap_or(u32::MAX);
    let event_types: Vec<String> =
        query.event_type.iter().flat_map(|text| text.split(',')).map(|name| name.trim().to_owned()).collect();
    check_types(&event_types)?;
    let queues = queues_of(&gateway, &name).await?;
    let selection = DeadSelection { event_types, limit };
    let dead = queues.list_dead(&name, &selection).await.map_err(|e| unavailable(&e))?;
    let items = dead.into_iter().map(DeadMessageView::from).collect();
    Ok(Envelope::ok(DeadLetterList { items }).into_response())
}

/// Deletes messages of the dead-letter queue. The events stay stored, and can be redelivered.
#[utoipa::path(
    post,
    path = "/api/consumers/{name}/dead-letters/purge",
    operation_id = "purgeConsumerDeadLetters",
    tag = "consumers",
    params(("name" = String, Path, description = "Name of the consumer")),
    request_body(content = Option<MoveBody>, description = "Which messages"),
    responses((status = 200, description = "The purged messages", body = Envelope<DeadLettersMoved>))
)]
pub async fn purge(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, right) = (path_name(name)?, ConsumerRight::PURGE_DEAD_LETTERS);
    let caller = Mover { subject: &subject, right, action: "purge_dead_letters", request_id };
    let (queues, selection) = selected(&gateway, &caller, &name, &headers, body).await?;
    let moved = queues.purge_dead(&name, &selection).await.map_err(|e| unavailable(&e))?;
    Ok(Envelope::ok(DeadLettersMoved::from(moved)).into_response())
}

/// Moves messages of the dead-letter queue back to the consumer's queue.
#[utoipa::path(
    post,
    path = "/api/consumers/{name}/dead-letters/replay",
    operation_id = "replayConsumerDeadLetters",
    tag = "consumers",
    params(("name" = String, Path, description = "Name of the consumer")),
    request_body(content = Option<MoveBody>, description = "Which messages"),
    responses((status = 200, description = "The replayed messages", body = Envelope<DeadLettersMoved>))
)]
pub async fn replay(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, right) = (path_name(name)?, ConsumerRight::REPLAY_DEAD_LETTERS);
    let caller = Mover { subject: &subject, right, action: "replay_dead_letters", request_id };
    let (queues, selection) = selected(&gateway, &caller, &name, &headers, body).await?;
    let moved = queues.replay_dead(&name, &selection).await.map_err(|e| unavailable(&e))?;
    Ok(Envelope::ok(DeadLettersMoved::from(moved)).into_response())
}

/// Who moves messages.
struct Mover<'a> {
    subject: &'a UserInfo,
    right: ConsumerRight,
    action: &'static str,
    request_id: Uuid,
}

/// The queues and the messages of a body, once the act is allowed and recorded.
async fn selected<'a>(
    gateway: &'a Gateway,
    caller: &Mover<'_>,
    name: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<(&'a dyn EventQueues, DeadSelection), Problem> {
    let Mover { subject, right, action, request_id } = *caller;
    let body: MoveBody = json_body(&gateway.request_limits, headers, body).await?;
    gateway.require_consumer_right(subject, right, "", name).await?;
    check_types(&body.event_types)?;
    let limit = body.limit.unwrap_or(MAX_MOVED);
    if !(1..=MAX_MOVED).contains(&limit) {
        let text = "limit: must be from 1 to 10000";
        return Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", "limit"));
    }
    let queues = queues_of(gateway, name).await?;
    let reason = (!body.event_types.is_empty()).then(|| body.event_types.join(","));
    let act = ConsumerAct { action, consumer: name, subject: &subject.user, reason, request_id };
    gateway.record_consumer_act(act).await?;
    Ok((queues, DeadSelection { event_types: body.event_types, limit }))
}

/// The queues, if there is a broker and a consumer of that name.
async fn queues_of<'a>(gateway: &'a Gateway, name: &str) -> Result<&'a dyn EventQueues, Problem> {
    let consumer = gateway.ledger.consumer(name).await.map_err(|e| Problem::ledger(&e))?;
    consumer.ok_or_else(consumer_not_found)?;
    gateway.consumers.queues().ok_or_else(|| {
        let text = "no message broker is configured (--amqp): there are no dead-letter queues; consumers read \
                    GET /api/events";
        Problem::new(ErrorCode::NotFound, text).with("reason", "no_broker")
    })
}

fn unavailable(error: &QueueError) -> Problem {
    tracing::warn!(%error, "dead-letter queue not read; responding 503");
    let text = "the message broker is temporarily unavailable; retry after Retry-After";
    Problem::new(ErrorCode::Unavailable, text)
}
