//! What consumers say of events, and events that are sent again.
//!
//! The source's paths `/events/…` are the same handlers.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::consumer::{consumer_user, is_consumer_name};
use crate::domain::event::EventType;
use crate::gateway::consumers::reader::{ConsumerAct, ConsumerRight, EventReader, consumer_not_found};
use crate::gateway::consumers::view::{Confirmed, Requeued};
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{is_object_name, json_body};
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;
use crate::ledger::delivery::{ConfirmOutcome, ConfirmStatus, Requeue, RequeueKind};

/// Longest period of events that are sent again, in days.
const MAX_PERIOD: u32 = 3_650;
/// Most types, and most events, of one request.
const MAX_TYPES: usize = 64;
const MAX_EVENTS: usize = 1_000;

/// What a consumer says of an event.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfirmBody {
    /// The event: the `id` of the list, or the `message_id` of the message.
    #[schema(format = "uuid")]
    pub event_id: String,
    /// `received` or `processed`: the event is delivered. `failed`: it can be redelivered.
    #[schema(pattern = "^(received|processed|failed)$")]
    pub status: String,
}

/// Which events are sent again. Unset fields match all.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequeueBody {
    /// Only events of the last days.
    #[schema(minimum = 1, maximum = 3_650)]
    pub period_in_days: Option<u32>,
    /// Only events that were tried at most this often.
    #[schema(minimum = 0)]
    pub max_try_count: Option<u32>,
    /// Only events of these types.
    #[schema(max_items = 64)]
    pub event_types: Vec<String>,
    /// Only these events.
    #[schema(max_items = 1_000)]
    pub event_ids: Vec<String>,
    /// Only those of this consumer; for staff, a consumer has no choice.
    pub consumer: Option<String>,
    /// Only events of this namespace; for staff. Unset: all, which needs a cluster-wide permission.
    pub namespace: Option<String>,
    /// Only count.
    pub dry_run: bool,
}

/// Confirms an event. A repeated confirmation answers the same; one that contradicts `processed` is recorded, and the status
/// stays. An event that does not exist and one of another consumer are the same 404.
#[utoipa::path(
    post,
    path = "/api/events/confirm-delivery",
    operation_id = "confirmDelivery",
    tag = "events",
    request_body = ConfirmBody,
    responses((status = 200, description = "The status of the delivery", body = Envelope<Confirmed>))
)]
pub async fn confirm(
    State(gateway): State<Arc<Gateway>>,
    reader: EventReader,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body: ConfirmBody = json_body(&gateway.request_limits, &headers, body).await?;
    let EventReader::Consumer(consumer) = reader else {
        let text = "only a consumer confirms events; send its key as X-API-Key";
        return Err(Problem::new(ErrorCode::Forbidden, text));
    };
    let event_id = Uuid::parse_str(&body.event_id).map_err(|_| invalid("event_id", "must be a UUID"))?;
    let status = match &*body.status {
        "received" => ConfirmStatus::Received,
        "processed" => ConfirmStatus::Processed,
        "failed" => ConfirmStatus::Failed,
        _ => return Err(invalid("status", "must be received, processed or failed")),
    };
    let now = gateway.clock.now().wall;
    let outcome = gateway.ledger.confirm_delivery(consumer.id, event_id, status, now).await;
    let (status, applied) = match outcome.map_err(|e| Problem::ledger(&e))? {
        ConfirmOutcome::NotFound => {
            return Err(Problem::new(ErrorCode::NotFound, "event not found; list the events with GET /api/events"));
        }
        // A repetition of what was recorded without effect has none either.
        ConfirmOutcome::Repeated(kept) => (kept, kept == status.status()),
        ConfirmOutcome::Applied(new) => (new, true),
        ConfirmOutcome::Recorded(kept) => (kept, false),
    };
    let view = Confirmed { event_id: event_id.to_string(), status: status.as_str(), applied };
    Ok(Envelope::ok(view).into_response())
}

/// Tries events at once that are not published yet.
#[utoipa::path(
    post,
    path = "/api/events/resend",
    operation_id = "resendEvents",
    tag = "events",
    request_body(content = Option<RequeueBody>, description = "Which events"),
    responses((status = 200, description = "What is sent again, or would be", body = Envelope<Requeued>))
)]
pub async fn resend(
    State(gateway): State<Arc<Gateway>>,
    Extension(id): Extension<RequestId>,
    reader: EventReader,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    requeue(&gateway, &reader, id, RequeueKind::Resend, &headers, body).await
}

/// Publishes events again that were published and not confirmed as delivered, with the same ID.
#[utoipa::path(
    post,
    path = "/api/events/redeliver",
    operation_id = "redeliverEvents",
    tag = "events",
    request_body(content = Option<RequeueBody>, description = "Which events"),
    responses((status = 200, description = "What is sent again, or would be", body = Envelope<Requeued>))
)]
pub async fn redeliver(
    State(gateway): State<Arc<Gateway>>,
    Extension(id): Extension<RequestId>,
    reader: EventReader,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    requeue(&gateway, &reader, id, RequeueKind::Redeliver, &headers, body).await
}

/// Equivalent to `POST /api/events/confirm-delivery`.
#[utoipa::path(
    post,
    path = "/events/confirm-delivery",
    operation_id = "confirmDeliveryAlias",
    tag = "aliases",
    request_body = ConfirmBody,
    responses((status = 200, description = "The status of the delivery", body = Envelope<Confirmed>))
)]
pub async fn confirm_alias(
    state: State<Arc<Gateway>>,
    reader: EventReader,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    confirm(state, reader, headers, body).await
}

/// Equivalent to `POST /api/events/resend`.
#[utoipa::path(
    post,
    path = "/events/resend",
    operation_id = "resendEventsAlias",
    tag = "aliases",
    request_body(content = Option<RequeueBody>, description = "Which events"),
    responses((status = 200, description = "What is sent again, or would be", body = Envelope<Requeued>))
)]
pub async fn resend_alias(
    state: State<Arc<Gateway>>,
    id: Extension<RequestId>,
    reader: EventReader,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    resend(state, id, reader, headers, body).await
}

/// Equivalent to `POST /api/events/redeliver`.
#[utoipa::path(
    post,
    path = "/events/redeliver",
    operation_id = "redeliverEventsAlias",
    tag = "aliases",
    request_body(content = Option<RequeueBody>, description = "Which events"),
    responses((status = 200, description = "What is sent again, or would be", body = Envelope<Requeued>))
)]
pub async fn redeliver_alias(
    state: State<Arc<Gateway>>,
    id: Extension<RequestId>,
    reader: EventReader,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    redeliver(state, id, reader, headers, body).await
}

async fn requeue(
    gateway: &Gateway,
    reader: &EventReader,
    RequestId(request_id): RequestId,
    kind: RequeueKind,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body: RequeueBody = json_body(&gateway.request_limits, headers, body).await?;
    check(&body)?;
    let event_ids = body.event_ids.iter().map(|id| Uuid::parse_str(id)).collect::<Result<Vec<_>, _>>();
    let event_ids = event_ids.map_err(|_| invalid("event_ids", "must be UUIDs"))?;
    let (consumer, namespaces, subject) = match reader {
        EventReader::Consumer(consumer) => {
            // Whatever the names are: the answer does not tell whether they exist.
            for (name, given) in [("consumer", &body.consumer), ("namespace", &body.namespace)] {
                if given.is_some() {
                    return Err(invalid(name, "must not be set by a consumer: its own events are meant"));
                }
            }
            let user = consumer_user(&consumer.name);
            (Some((consumer.id, consumer.name.clone())), consumer.namespaces.clone(), user)
        }
        EventReader::Staff(user) => {
            let right = match kind {
                RequeueKind::Resend => ConsumerRight::RESEND,
                RequeueKind::Redeliver => ConsumerRight::REDELIVER,
            };
            let namespace = body.namespace.as_deref().unwrap_or_default();
            let name = body.consumer.as_deref().unwrap_or_default();
            gateway.require_consumer_right(user, right, namespace, "").await?;
            let found = match name {
                "" => None,
                name => {
                    let stored = gateway.ledger.consumer(name).await.map_err(|e| Problem::ledger(&e))?;
                    let consumer = stored.ok_or_else(consumer_not_found)?;
                    Some((consumer.id, consumer.name))
                }
            };
            (found, body.namespace.clone().map(|namespace| vec![namespace]), user.user.clone())
        }
    };
    let day = |days: u32| Duration::from_secs(u64::from(days) * 24 * 3_600);
    let requeue = Requeue {
        kind,
        consumer_id: consumer.as_ref().map(|(id, _)| *id),
        namespaces,
        from: body.period_in_days.and_then(|days| gateway.clock.now().wall.checked_sub(day(days)).ok()),
        max_tries: body.max_try_count,
        event_types: body.event_types,
        event_ids,
        dry_run: body.dry_run,
    };
    if !requeue.dry_run {
        let action = match kind {
            RequeueKind::Resend => "resend",
            RequeueKind::Redeliver => "redeliver",
        };
        let name = consumer.as_ref().map_or("", |(_, name)| name);
        let act = ConsumerAct { action, consumer: name, subject: &subject, reason: None, request_id };
        gateway.record_consumer_act(act).await?;
    }
    let counts = gateway.ledger.requeue_deliveries(&requeue).await.map_err(|e| Problem::ledger(&e))?;
    Ok(Envelope::ok(Requeued::new(requeue.dry_run, counts)).into_response())
}

fn check(body: &RequeueBody) -> Result<(), Problem> {
    if body.period_in_days.is_some_and(|days| !(1..=MAX_PERIOD).contains(&days)) {
        return Err(invalid("period_in_days", "must be from 1 to 3650"));
    }
    check_types(&body.event_types)?;
    if body.event_ids.len() > MAX_EVENTS {
        return Err(invalid("event_ids", "must be at most 1000"));
    }
    if body.consumer.as_deref().is_some_and(|name| !is_consumer_name(name)) {
        return Err(invalid("consumer", "must have 1 to 63 of a-z, 0-9 and _"));
    }
    if body.namespace.as_deref().is_some_and(|name| !is_object_name(name)) {
        return Err(invalid("namespace", "must be the name of a namespace"));
    }
    Ok(())
}

/// Checks a list of event types.
pub(super) fn check_types(types: &[String]) -> Result<(), Problem> {
    if types.len() <= MAX_TYPES && types.iter().all(|name| name.parse::<EventType>().is_ok()) {
        return Ok(());
    }
    let known: Vec<&str> = EventType::ALL.iter().map(|known| known.as_str()).collect();
    Err(invalid("event_types", &format!("must be some of: {}", known.join(", "))))
}

fn invalid(parameter: &str, text: &str) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, format!("{parameter}: {text}")).with("parameter", parameter)
}
