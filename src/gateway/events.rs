//! `GET /api/events`: the stored events, oldest first.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::cluster::auth::AccessRequest;
use crate::domain::event::{EventPosition, EventType, StoredEvent};
use crate::gateway::consumers::reader::EventReader;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::page_limit;
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::ledger::LedgerError;
use crate::ledger::delivery::DeliveryFilter;
use crate::ledger::outbox::EventFilter;

/// Longest wait for an event.
const MAX_WAIT: u64 = 30;
/// Time between two looks while a client waits.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Most types of one request.
const MAX_TYPES: usize = 32;

/// Filters and page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events of this namespace. Unset: all namespaces, which needs a cluster-wide permission.
    pub namespace: Option<String>,
    /// Only events of these types, separated by commas.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    pub event_type: Option<String>,
    /// Only events of this aggregate, such as `syncjob/team/books`, and of those below it.
    pub aggregate: Option<String>,
    /// Only events with this correlation ID.
    #[param(format = "uuid")]
    pub correlation_id: Option<String>,
    /// Only events stored at or after this time.
    #[param(format = DateTime)]
    pub from_time: Option<String>,
    /// Only events stored before this time.
    #[param(format = DateTime)]
    pub to_time: Option<String>,
    /// The `next_cursor` of the previous page. Unset: from the oldest event.
    pub cursor: Option<String>,
    /// Maximum number of events on a page. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// Seconds to wait for an event if there is none. Unset: 0.
    #[param(minimum = 0, maximum = 30)]
    pub wait: Option<u64>,
}

/// An event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventView {
    /// Its ID: the same however often it is read or published.
    #[schema(format = "uuid")]
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The type's name in the Mono pipeline; null for a type that has none.
    pub legacy_type: Option<String>,
    /// Namespace of the object that it is about.
    pub namespace: String,
    /// What it is about. Events of one aggregate are in order.
    pub aggregate: String,
    /// The correlation ID of run, rows, raw payloads and log lines.
    #[schema(format = "uuid")]
    pub correlation_id: String,
    /// When it was stored.
    #[schema(format = DateTime)]
    pub time: String,
    /// What happened; its fields depend on the type.
    #[schema(value_type = Object)]
    pub payload: Value,
}

impl From<StoredEvent> for EventView {
    fn from(event: StoredEvent) -> Self {
        let known: Option<EventType> = event.event_type.parse().ok();
        Self {
            id: event.id.to_string(),
            event_type: event.event_type,
            legacy_type: known.and_then(EventType::legacy_name).map(str::to_owned),
            namespace: event.namespace,
            aggregate: event.aggregate,
            correlation_id: event.correlation_id.to_string(),
            time: event.created.to_string(),
            payload: serde_json::from_str(&event.payload).unwrap_or(Value::Null),
        }
    }
}

/// A page of events.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// Oldest first.
    pub items: Vec<EventView>,
    /// Where the next page starts. Also at the end of the list: later events follow it.
    pub next_cursor: String,
}

/// Equivalent to `GET /api/events`.
#[utoipa::path(
    get,
    path = "/consumer/data",
    operation_id = "consumerData",
    tag = "aliases",
    params(EventsQuery),
    responses((status = 200, description = "A page", body = Envelope<EventPage>))
)]
pub async fn consumer_data(
    state: State<Arc<Gateway>>,
    reader: EventReader,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    list(state, reader, query).await
}

/// Lists events, oldest first; a consumer gets its own ones. With `wait` an empty page is answered only after that time, or as soon as there is an event.
#[utoipa::path(
    get,
    path = "/api/events",
    operation_id = "listEvents",
    tag = "events",
    params(EventsQuery),
    responses((status = 200, description = "A page", body = Envelope<EventPage>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    reader: EventReader,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| {
        let text = "invalid query; allowed, once each: namespace, type, aggregate, correlation_id, from_time, to_time, \
                    cursor, limit (1 to 500), wait (0 to 30)";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    let limit = page_limit(query.limit)?;
    let wait = query.wait.unwrap_or(0);
    if wait > MAX_WAIT {
        return Err(invalid("wait must be from 0 to 30", "wait"));
    }
    let namespace = query.namespace.clone().unwrap_or_default();
    let filter = filter(query)?;
    if let EventReader::Staff(subject) = &reader {
        let (verb, name) = ("list", String::new());
        let access = AccessRequest { verb, resource: "events", subresource: "", namespace, name };
        gateway.access.require(subject, access).await?;
    }
    let until = gateway.clock.mono() + Duration::from_secs(wait);
    let most = u32::try_from(limit).unwrap_or(u32::MAX);
    loop {
        let events = events_of(&gateway, &reader, &filter, most).await.map_err(|e| Problem::ledger(&e))?;
        let now = gateway.clock.mono();
        if !events.is_empty() || now >= until || gateway.closing.is_cancelled() {
            let after = events.last().map_or(filter.after, |last| last.position);
            let items = events.into_iter().map(EventView::from).collect();
            return Ok(Envelope::ok(EventPage { items, next_cursor: encode(after) }).into_response());
        }
        tokio::select! {
            () = gateway.closing.cancelled() => {}
            () = gateway.clock.sleep_until((now + POLL_INTERVAL).min(until)) => {}
        }
    }
}

/// The events that the caller may see.
async fn events_of(
    gateway: &Gateway,
    reader: &EventReader,
    filter: &EventFilter,
    most: u32,
) -> Result<Vec<StoredEvent>, LedgerError> {
    match reader {
        EventReader::Staff(_) => gateway.ledger.list_events(filter, most).await,
        EventReader::Consumer(consumer) => {
            let own = DeliveryFilter { consumer_id: consumer.id, events: filter.clone(), publish: None, deliver: None };
            let deliveries = gateway.ledger.list_deliveries(&own, most).await?;
            Ok(deliveries.into_iter().map(|delivery| delivery.event).collect())
        }
    }
}

fn invalid(text: &str, name: &str) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name)
}

fn filter(query: EventsQuery) -> Result<EventFilter, Problem> {
    let instant = |text: Option<String>, name: &str| {
        let parse = |text: String| {
            let at: Option<Timestamp> = text.parse().ok();
            at.ok_or_else(|| invalid("must be an RFC 3339 instant such as \"2030-01-31T18:00:00Z\"", name))
        };
        text.map(parse).transpose()
    };
    if [&query.namespace, &query.aggregate].into_iter().flatten().any(|name| name.is_empty() || name.len() > 600) {
        return Err(invalid("namespace and aggregate have 1 to 600 characters", "namespace"));
    }
    let types: Vec<String> =
        query.event_type.iter().flat_map(|text| text.split(',')).map(|t| t.trim().to_owned()).collect();
    if types.len() > MAX_TYPES || types.iter().any(|name| name.parse::<EventType>().is_err()) {
        let known: Vec<&str> = EventType::ALL.iter().map(|known| known.as_str()).collect();
        return Err(invalid(&format!("type must be some of: {}", known.join(", ")), "type"));
    }
    let correlation_id = query
        .correlation_id
        .map(|text| Uuid::parse_str(&text).map_err(|_| invalid("correlation_id must be a UUID", "correlation_id")));
    let after = query
        .cursor
        .map(|cursor| decode(&cursor).ok_or_else(|| invalid("cursor must be the next_cursor of a page", "cursor")));
    Ok(EventFilter {
        namespace: query.namespace,
        aggregate: query.aggregate,
        types,
        correlation_id: correlation_id.transpose()?,
        from: instant(query.from_time, "from_time")?,
        to: instant(query.to_time, "to_time")?,
        after: after.transpose()?.unwrap_or_default(),
    })
}

/// A position as a cursor.
fn encode(position: EventPosition) -> String {
    let bytes = [position.transaction.to_be_bytes(), position.seq.to_be_bytes()].concat();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position that a cursor encodes.
fn decode(cursor: &str) -> Option<EventPosition> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (transaction, seq) = bytes.split_first_chunk::<8>()?;
    let position =
        EventPosition { transaction: i64::from_be_bytes(*transaction), seq: i64::from_be_bytes(seq.try_into().ok()?) };
    (position.transaction >= 0 && position.seq >= 0).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_encodes_a_position_and_nothing_else_does() {
        for position in [EventPosition::default(), EventPosition { transaction: 7, seq: i64::MAX }] {
            assert_eq!(decode(&encode(position)), Some(position));
        }
        let negative = URL_SAFE_NO_PAD.encode([0xff; 16]);
        for wrong in ["", "AA", "not a cursor", "AAAAAAAAAAAAAAAAAAAAAAAA", &negative] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_unknown_type_or_time_is_refused() {
        let query = |change: fn(&mut EventsQuery)| {
            let mut query = EventsQuery::default();
            change(&mut query);
            filter(query)
        };
        let two = query(|q| q.event_type = Some("fetch.failed, pipeline.completed".into())).unwrap();
        assert_eq!(two.types, ["fetch.failed", "pipeline.completed"]);
        let wrong: [fn(&mut EventsQuery); 5] = [
            |q| q.event_type = Some("fetch.unknown".into()),
            |q| q.event_type = Some(String::new()),
            |q| q.from_time = Some("yesterday".into()),
            |q| q.correlation_id = Some("7".into()),
            |q| q.cursor = Some("7".into()),
        ];
        for change in wrong {
            assert_eq!(query(change).unwrap_err().code(), ErrorCode::InvalidRequest);
        }
    }
}
