//! A circuit that opens again and again.

use super::*;

#[test]
fn a_circuit_that_flaps_says_so_while_it_is_open_and_not_in_between() {
    let shown = |effective, flapping| {
        let view = LiveView { effective, flapping, ..live() };
        let status = status(&object(), None, &observed(Some(view)));
        let reason = reason_of(&status.conditions, ConditionType::CircuitOpen).map(str::to_owned);
        (status_of(&status.conditions, ConditionType::CircuitOpen), reason)
    };
    assert_eq!(shown(Effective::Open, true), (Status::True, Some("Flapping".to_owned())));
    assert_eq!(shown(Effective::Open, false), (Status::True, Some("CircuitOpen".to_owned())));
    assert_eq!(shown(Effective::HalfOpen, true), (Status::True, Some("CircuitHalfOpen".to_owned())));
    assert_eq!(shown(Effective::ForcedOpen, true), (Status::True, Some("ForcedOpen".to_owned())));
    assert_eq!(shown(Effective::Closed, false).0, Status::Unknown, "absent, as a condition that is not so");
}
