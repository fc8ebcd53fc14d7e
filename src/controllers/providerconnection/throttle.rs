//! The provider's rate limit as the status reports it, and as a new process restores it. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::v1alpha1::provider_connection::ProviderConnectionStatus;
use crate::api::v1alpha1::reasons::ConditionType;
use crate::controllers::conditions::transition_of;
use crate::controllers::providerconnection::inputs::LiveConnection;
use crate::domain::clock_skew::happened;

/// Shortest rate limit that is reported: a shorter one is over before anyone reads it and would cost two writes.
const MIN_REPORTED: SignedDuration = SignedDuration::from_secs(2);

/// End of the rate limit that the status reports; one already reported stays until it is over.
pub(super) fn to_report(
    live: &LiveConnection,
    previous: Option<&ProviderConnectionStatus>,
    now: Timestamp,
) -> Option<Timestamp> {
    let until = live.throttled_until.filter(|until| *until > now)?;
    let reported = previous.is_some_and(|status| status.throttled_until_time.is_some());
    (reported || until.duration_since(now) >= MIN_REPORTED).then_some(until)
}

/// End of the rate limit in the status, if it is in the future.
pub(super) fn remaining(previous: Option<&ProviderConnectionStatus>, now: Timestamp) -> Option<Timestamp> {
    previous?.throttled_until_time.as_ref().map(|time| time.0).filter(|until| *until > now)
}

/// When the reported rate limit began: as the status says, else now.
pub(super) fn since(previous: Option<&ProviderConnectionStatus>, now: Timestamp) -> Timestamp {
    let reported = previous.filter(|status| status.throttled_until_time.is_some());
    let since = reported.and_then(|status| {
        let of_condition = transition_of(&status.conditions, ConditionType::Throttled);
        status.throttled_since_time.as_ref().map(|time| time.0).or(of_condition)
    });
    since.map_or(now, |since| happened(since, now))
}

/// Time until the rate limit ends, plus one second, so that it has ended by then.
pub(super) fn requeue_after(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default() + Duration::from_secs(1)
}
