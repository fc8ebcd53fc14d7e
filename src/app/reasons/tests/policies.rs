//! Breaker policies, valid and invalid.

use super::{Emitted, at};
use crate::api::v1alpha1::BreakerPolicy;
use crate::controllers::breakerpolicy::decide::decide;

pub(super) fn emit(emitted: &mut Emitted) {
    for spec in ["{preset: Bank}", "{open: {factor: large}}"] {
        let object = BreakerPolicy::new("p", serde_yaml::from_str(spec).unwrap());
        let decision = decide(&object, None, 1, at("2026-03-01T12:00:00Z"));
        emitted.add_conditions(&decision.status.unwrap().conditions);
        emitted.add_events(&decision.events);
    }
}
