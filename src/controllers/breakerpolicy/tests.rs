//! When the status of a policy is written.

use std::time::Duration;

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::breaker_policy::{BreakerPolicyStatus, PolicyConnections};
use crate::cluster::status::{MIN_WRITE_INTERVAL, Timing, timing};

fn used_by(total: i32) -> BreakerPolicyStatus {
    BreakerPolicyStatus { connections: Some(PolicyConnections { total }), ..BreakerPolicyStatus::default() }
}

#[test]
fn the_first_and_the_last_connection_of_a_policy_are_written_at_once() {
    let timing = |old, new| timing::<BreakerPolicy>(Some(&used_by(old)), &used_by(new), Some(Duration::ZERO));
    assert_eq!((timing(0, 1), timing(1, 0), timing(7, 0)), (Timing::Now, Timing::Now, Timing::Now));
    assert_eq!((timing(1, 2), timing(2, 1)), (Timing::After(MIN_WRITE_INTERVAL), Timing::After(MIN_WRITE_INTERVAL)));
    assert_eq!(timing(3, 3), Timing::Unchanged);
}
