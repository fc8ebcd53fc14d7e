//! A provider's timeouts, where a connection sets none.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::serde_duration::{duration, optional_duration};

/// The timeouts of a call.
#[derive(Copy, Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TimeoutDefaults {
    /// To establish a connection, TLS included.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub connect: Duration,
    /// Of one try, from the first byte sent to the last byte read.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub request: Duration,
    /// Of the whole call, with its retries and delays.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub total: Duration,
    /// Of one try, until the response headers are complete; unset: all of the try's time.
    #[serde(deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub first_byte: Option<Duration>,
    /// Between two reads of a body; unset: 10s.
    #[serde(deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub read: Option<Duration>,
}

impl Default for TimeoutDefaults {
    /// The defaults of `spec.timeout`: 5s / 30s / 2m.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(30),
            total: Duration::from_mins(2),
            first_byte: None,
            read: None,
        }
    }
}
