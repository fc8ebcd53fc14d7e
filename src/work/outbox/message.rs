//! The message of an event: what `GET /api/events` shows of it.

use serde::Serialize;
use serde_json::value::RawValue;

use super::broker::Message;
use crate::domain::event::{EventType, StoredEvent, routing_key};

/// The body, in the order of the HTTP API's fields.
#[derive(Serialize)]
struct Body<'a> {
    id: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    legacy_type: Option<&'static str>,
    namespace: &'a str,
    aggregate: &'a str,
    correlation_id: String,
    time: String,
    payload: &'a RawValue,
}

/// The message of `event` for a consumer. A payload that is no JSON, which no version writes, is published as null.
pub(super) fn message(event: &StoredEvent, domain: &str, consumer: &str) -> Message {
    let known: Option<EventType> = event.event_type.parse().ok();
    let payload: &RawValue = serde_json::from_str(&event.payload).unwrap_or(RawValue::NULL);
    let body = Body {
        id: event.id.to_string(),
        event_type: &event.event_type,
        legacy_type: known.and_then(EventType::legacy_name),
        namespace: &event.namespace,
        aggregate: &event.aggregate,
        correlation_id: event.correlation_id.to_string(),
        time: event.created.to_string(),
        payload,
    };
    Message {
        id: event.id,
        event_type: event.event_type.clone(),
        correlation_id: event.correlation_id,
        timestamp: event.created,
        routing_key: routing_key(&event.event_type, domain, consumer),
        // Values of these types cannot fail to be written.
        body: serde_json::to_vec(&body).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::domain::event::EventPosition;

    #[test]
    fn a_message_says_what_the_http_api_says() {
        let event = StoredEvent {
            position: EventPosition { transaction: 0, seq: 7 },
            id: Uuid::from_u128(1),
            event_type: "fetch.failed".to_owned(),
            namespace: "team".to_owned(),
            aggregate: "syncjob/team/books".to_owned(),
            payload: r#"{"amount":"10.00","failures":3}"#.to_owned(),
            correlation_id: Uuid::from_u128(2),
            created: Timestamp::UNIX_EPOCH,
        };
        let message = message(&event, "bank", "ops");
        assert_eq!((message.id, message.routing_key.as_str()), (event.id, "bank.fetch_failed.ops"));
        let body = String::from_utf8(message.body).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"id":"00000000-0000-0000-0000-000000000001","type":"fetch.failed","legacy_type":"mono.fetch.failed","#,
                r#""namespace":"team","aggregate":"syncjob/team/books","#,
                r#""correlation_id":"00000000-0000-0000-0000-000000000002","time":"1970-01-01T00:00:00Z","#,
                r#""payload":{"amount":"10.00","failures":3}}"#
            )
        );
    }
}
