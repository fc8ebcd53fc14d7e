//! Durations in the text form that the custom resources use (`30s`, `5m`), for `deserialize_with`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::domain::duration::parse_duration;

/// Reads a duration.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

/// Reads a duration that may be absent.
pub(super) fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
