//! How long a provider may take where a connection says nothing.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::duration;

/// The time-outs of a call: to connect, for one try, and for the whole call.
#[derive(Copy, Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProfileTimeouts {
    /// To a connection, TLS included.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub connect: Duration,
    /// One try, from the first byte sent to the last byte read.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub request: Duration,
    /// The whole call, with its retries and waits.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub total: Duration,
    /// Of one try, until the head of the answer is there; unset, all of its time.
    #[serde(deserialize_with = "some_duration")]
    #[schemars(with = "Option<String>")]
    pub first_byte: Option<Duration>,
    /// Between two pieces of a body; unset, 10s.
    #[serde(deserialize_with = "some_duration")]
    #[schemars(with = "Option<String>")]
    pub read: Option<Duration>,
}

impl Default for ProfileTimeouts {
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

/// The same for one that may be absent.
fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
