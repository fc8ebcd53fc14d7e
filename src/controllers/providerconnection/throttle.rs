//! What a status says of a pause that the provider asked for, and what a new process takes from it. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::v1alpha1::provider_connection::ProviderConnectionStatus;
use crate::controllers::providerconnection::decide::LiveView;

/// A pause that is over before anybody could read of it is not worth two writes.
const WORTH_TELLING: SignedDuration = SignedDuration::from_secs(2);

/// What the condition says.
pub(super) const MESSAGE: &str = "the provider asked for a pause: calls wait, and probes are skipped";

/// The pause that the status shows.
pub(super) fn shown(live: &LiveView, previous: Option<&ProviderConnectionStatus>, now: Timestamp) -> Option<Timestamp> {
    let until = live.throttled_until.filter(|until| *until > now)?;
    let told = previous.is_some_and(|status| status.throttled_until_time.is_some());
    (told || until.duration_since(now) >= WORTH_TELLING).then_some(until)
}

/// The pause that a former process was asked for, as far as it is not over.
pub(super) fn left(previous: Option<&ProviderConnectionStatus>, now: Timestamp) -> Option<Timestamp> {
    previous?.throttled_until_time.as_ref().map(|time| time.0).filter(|until| *until > now)
}

/// How long until it is over; a second is added, so that it is over by then.
pub(super) fn wait(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default() + Duration::from_secs(1)
}
