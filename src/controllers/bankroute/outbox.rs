//! The event `bank.failover`: a route failed over, as its status shows it. Pure.

use serde_json::json;

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteStatus, CandidateState};
use crate::cluster::resource::WatchedResource as _;
use crate::domain::event::{EventType, OutboxEvent, event_id, route_aggregate};

/// The event of a failover between two statuses. Its ID says which failover of the route it is, from when on the bank
/// was active that it left, and the two banks; not when it was noticed: a reconcile that is repeated gives the same
/// event.
pub(super) fn failover_event(
    object: &BankRoute,
    previous: Option<&BankRouteStatus>,
    status: &BankRouteStatus,
) -> Option<OutboxEvent> {
    let count = status.failovers.unwrap_or_default();
    if count <= previous.and_then(|status| status.failovers).unwrap_or_default() {
        return None;
    }
    let failover = status.last_failover.as_ref()?;
    let key = object.key();
    let aggregate = route_aggregate(&key.namespace, &key.name);
    let since = previous
        .into_iter()
        .flat_map(|status| &status.candidates)
        .find(|candidate| candidate.name == failover.from && candidate.state == CandidateState::Preferred)
        .map_or(0, |candidate| candidate.last_transition_time.0.as_second());
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let parts: [&[u8]; 5] = [
        uid.as_bytes(),
        &count.to_be_bytes(),
        &since.to_be_bytes(),
        failover.from.as_bytes(),
        failover.to.as_deref().unwrap_or_default().as_bytes(),
    ];
    let id = event_id(EventType::BankFailover, &aggregate, &parts);
    let payload = json!({
        "namespace": &*key.namespace,
        "route": &*key.name,
        "from": failover.from,
        "to": failover.to,
        "reason": failover.reason,
        "mode": object.spec.mode.as_str(),
        "time": failover.time.0.to_string(),
    });
    Some(OutboxEvent {
        id,
        event_type: EventType::BankFailover,
        namespace: key.namespace.to_string(),
        aggregate,
        payload: payload.to_string(),
        correlation_id: id,
    })
}
