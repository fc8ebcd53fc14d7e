//! How a provider proves that a webhook is its own.
//!
//! A webhook only ever pokes a sync: nothing of its body goes anywhere else.

use schemars::JsonSchema;
use serde::Deserialize;

use super::wait::is_header;

/// The webhook's check.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// The header that carries the proof, where the connection names none.
    pub header: String,
    /// The schemes in use, the documented one first; the connection's `webhook` chooses.
    pub schemes: Vec<WebhookScheme>,
    /// Pointer to the event's name in the body.
    #[serde(default)]
    pub event: Option<String>,
    /// The events that poke syncs; none: all.
    #[serde(default)]
    pub pokes: Vec<String>,
}

/// What the proof is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WebhookScheme {
    /// The secret itself.
    StaticSecret,
    /// The HMAC-SHA-512 of the raw body under the secret, in hexadecimal.
    HmacSha512,
}

impl Webhook {
    /// What serde cannot see.
    pub(super) fn check(&self) -> Result<(), String> {
        if !is_header(&self.header) {
            return Err(format!("{:?} is no header name", self.header));
        }
        if self.schemes.is_empty() {
            return Err("schemes must name at least one".to_owned());
        }
        match &self.event {
            Some(pointer) if !pointer.starts_with('/') => {
                Err(format!("{pointer:?} is no JSON pointer: it must start with /"))
            }
            None if !self.pokes.is_empty() => Err("pokes needs event: where is the event's name?".to_owned()),
            _ => Ok(()),
        }
    }
}
