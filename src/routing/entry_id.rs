//! IDs of audit entries that are no decisions: in the order of time, so that an index on them appends.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::domain::decision::OutcomeClass;

/// The ID of a new entry.
pub(crate) fn new_id(now: Timestamp) -> Uuid {
    time_ordered(now, &rand::random())
}

/// The ID of a reported outcome: the same for the same report, so that a repeated one is stored once. `place` is how many
/// outcomes of the decision come before.
pub(crate) fn outcome_id(decision: Uuid, class: OutcomeClass, occurred_at: Option<Timestamp>, place: usize) -> Uuid {
    let mut digest = Sha256::new();
    digest.update(decision.as_bytes());
    digest.update(class.as_str().as_bytes());
    digest.update(u64::try_from(place).unwrap_or(u64::MAX).to_be_bytes());
    if let Some(at) = occurred_at {
        digest.update(at.as_millisecond().to_be_bytes());
    }
    // The time of the decision is in its ID.
    let (mut bytes, hash) = (*decision.as_bytes(), digest.finalize());
    bytes[6..].copy_from_slice(&hash[..10]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// Version 7: milliseconds, then 74 of the given bits.
fn time_ordered(now: Timestamp, random: &[u8; 10]) -> Uuid {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_in_the_order_of_time_and_differ_at_one_instant() {
        let (early, late): (Timestamp, Timestamp) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T00:00:00.001Z".parse().unwrap());
        assert!(new_id(early) < new_id(late));
        assert_ne!(new_id(late), new_id(late));
    }

    #[test]
    fn the_same_report_has_the_same_id_and_another_class_time_or_place_another() {
        let (decision, at) = (Uuid::from_u128(7), Some("2026-01-01T00:00:00Z".parse().unwrap()));
        let id = outcome_id(decision, OutcomeClass::Timeout, None, 1);
        assert_eq!(id, outcome_id(decision, OutcomeClass::Timeout, None, 1));
        assert_ne!(id, outcome_id(decision, OutcomeClass::Success, None, 1));
        assert_ne!(id, outcome_id(decision, OutcomeClass::Timeout, None, 2));
        assert_ne!(id, outcome_id(decision, OutcomeClass::Timeout, at, 1));
        assert_ne!(id, outcome_id(Uuid::from_u128(8), OutcomeClass::Timeout, None, 1));
        assert_ne!(
            outcome_id(decision, OutcomeClass::Timeout, at, 1),
            outcome_id(decision, OutcomeClass::Timeout, at, 2),
            "the same may be said again"
        );
    }
}
