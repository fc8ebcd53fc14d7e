//! The event `bank.circuit`: a circuit changed, as the connection's status shows it. Pure.

use serde_json::json;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{CircuitStatus, ProviderConnectionStatus};
use crate::cluster::resource::WatchedResource as _;
use crate::domain::breaker::TripReason;
use crate::domain::event::{EventType, OutboxEvent, connection_aggregate, event_id};

/// The event of a change of the circuit between two statuses. The epoch of the circuit increases with every transition,
/// and the status keeps it across restarts: so an ID never repeats, and a reconcile that is repeated gives the same
/// one.
pub(super) fn circuit_event(
    object: &ProviderConnection,
    previous: Option<&ProviderConnectionStatus>,
    status: &ProviderConnectionStatus,
) -> Option<OutboxEvent> {
    // The state of a new connection is no change, unless it is not the usual one.
    let from = previous.and_then(|status| status.circuit).unwrap_or(CircuitStatus::Closed);
    let to = status.circuit.filter(|to| *to != from)?;
    let circuit = status.circuit_state.as_ref()?;
    let key = object.key();
    let aggregate = connection_aggregate(&key.namespace, &key.name);
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let parts: [&[u8]; 3] = [uid.as_bytes(), &circuit.epoch.to_be_bytes(), to.as_str().as_bytes()];
    let id = event_id(EventType::BankCircuit, &aggregate, &parts);
    let has_override = object.spec.circuit_override.is_some();
    let reason = overlay_reason(from, to, has_override).map(TripReason::as_str).or(circuit.reason.as_deref());
    let payload = json!({
        "namespace": &*key.namespace,
        "connection": &*key.name,
        "from": from.as_str(),
        "to": to.as_str(),
        "reason": reason,
        "next_trial_time": circuit.next_trial_time.as_ref().map(|time| time.0.to_string()),
    });
    Some(OutboxEvent {
        id,
        event_type: EventType::BankCircuit,
        namespace: key.namespace.to_string(),
        aggregate,
        payload: payload.to_string(),
        correlation_id: id,
    })
}

/// Why the circuit changed, if an override or the policy's mode changed it and not the breaker itself: the status keeps
/// the reason of the breaker's own transitions only.
fn overlay_reason(from: CircuitStatus, to: CircuitStatus, has_override: bool) -> Option<TripReason> {
    use CircuitStatus::{ForcedClosed, ForcedOpen, Shadow};
    match (from, to) {
        (_, ForcedOpen | ForcedClosed) => Some(TripReason::OverrideApplied),
        (_, Shadow) if has_override => Some(TripReason::OverrideApplied),
        (ForcedOpen | ForcedClosed | Shadow, _) if has_override => Some(TripReason::OverrideExpired),
        (ForcedOpen | ForcedClosed, _) => Some(TripReason::OverrideRemoved),
        (Shadow, _) | (_, Shadow) => Some(TripReason::PolicyChanged),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn connection() -> ProviderConnection {
        let object = json!({
            "apiVersion": "busbar.dev/v1alpha1", "kind": "ProviderConnection",
            "metadata": {"name": "bank", "namespace": "team", "uid": "uid-1"},
            "spec": {"provider": "generic", "environment": "Sandbox"},
        });
        serde_json::from_value(object).unwrap()
    }

    fn status(circuit: &str, state: &str, epoch: i64) -> ProviderConnectionStatus {
        let status = json!({
            "observedGeneration": 1, "circuit": circuit,
            "circuitState": {
                "state": state, "lastTransitionTime": "2026-03-01T12:00:00Z", "epoch": epoch, "opens": 1,
                "reason": "ConsecutiveFailures",
            },
        });
        serde_json::from_value(status).unwrap()
    }

    fn event(previous: Option<&ProviderConnectionStatus>, now: &ProviderConnectionStatus) -> Option<OutboxEvent> {
        circuit_event(&connection(), previous, now)
    }

    #[test]
    fn each_transition_of_a_circuit_has_an_event_with_an_id_of_its_own() {
        let (closed, open) = (status("Closed", "Closed", 1), status("Open", "Open", 2));
        let (half_open, again) = (status("HalfOpen", "HalfOpen", 3), status("Closed", "Closed", 4));
        let reopened = status("Open", "Open", 5);
        let mut ids = Vec::new();
        for (before, after) in
            [(&closed, &open), (&open, &half_open), (&half_open, &again), (&again, &reopened), (&open, &again)]
        {
            let event = event(Some(before), after).unwrap();
            let payload: Value = serde_json::from_str(&event.payload).unwrap();
            assert_eq!(payload["from"], before.circuit.unwrap().as_str());
            assert_eq!(payload["to"], after.circuit.unwrap().as_str());
            assert_eq!((&*event.namespace, &*event.aggregate), ("team", "providerconnection/team/bank"));
            ids.push(event.id);
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4, "a transition that is reported from an older state has the same ID");
        assert_eq!(event(Some(&closed), &open), event(Some(&closed), &open), "repeated, it is the same event");
    }

    #[test]
    fn a_status_without_a_transition_has_no_event() {
        let (closed, restored) = (status("Closed", "Closed", 1), status("Closed", "Closed", 2));
        assert_eq!(event(Some(&closed), &restored), None, "a restart is no transition");
        assert_eq!(event(None, &closed), None, "nor is a new connection");
        assert!(event(None, &status("Open", "Open", 2)).is_some(), "unless its circuit is open");
        let removed = ProviderConnectionStatus { circuit: None, circuit_state: None, ..closed.clone() };
        assert_eq!(event(Some(&closed), &removed), None);
    }

    #[test]
    fn an_override_or_the_policy_gives_the_reason_where_it_changed_the_circuit() {
        let (closed, forced) = (status("Closed", "Closed", 1), status("ForcedOpen", "Closed", 2));
        let (ended, open) = (status("Closed", "Closed", 3), status("Open", "Open", 4));
        for (before, after, reason) in [
            (&closed, &forced, "OverrideApplied"),
            (&forced, &ended, "OverrideRemoved"),
            (&ended, &open, "ConsecutiveFailures"),
            (&open, &status("Shadow", "Open", 5), "PolicyChanged"),
        ] {
            let event = event(Some(before), after).unwrap();
            let payload: Value = serde_json::from_str(&event.payload).unwrap();
            assert_eq!(payload["reason"], reason);
        }
        assert_eq!(
            overlay_reason(CircuitStatus::ForcedOpen, CircuitStatus::Closed, true),
            Some(TripReason::OverrideExpired)
        );
    }
}
