//! A circuit that opens repeatedly.

use super::*;

#[test]
fn flapping_is_the_reason_only_while_the_circuit_is_open() {
    let shown = |effective, flapping| {
        let live = LiveConnection { effective, flapping, ..super::live() };
        let status = status(&object(), None, &inputs(Some(live)));
        let reason = reason_of(&status.conditions, ConditionType::CircuitOpen).map(str::to_owned);
        (status_of(&status.conditions, ConditionType::CircuitOpen), reason)
    };
    assert_eq!(shown(EffectiveState::Open, true), (ConditionStatus::True, Some("Flapping".to_owned())));
    assert_eq!(shown(EffectiveState::Open, false), (ConditionStatus::True, Some("CircuitOpen".to_owned())));
    assert_eq!(shown(EffectiveState::HalfOpen, true), (ConditionStatus::True, Some("CircuitHalfOpen".to_owned())));
    assert_eq!(shown(EffectiveState::ForcedOpen, true), (ConditionStatus::True, Some("ForcedOpen".to_owned())));
    assert_eq!(shown(EffectiveState::Closed, false).0, ConditionStatus::Unknown, "absent while the circuit is closed");
}
