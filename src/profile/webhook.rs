//! How a webhook is verified to come from the provider.
//!
//! A webhook only triggers syncs: nothing else of its body is used.

use schemars::JsonSchema;
use serde::Deserialize;

use super::header_name::check_header_name;

/// How a webhook is verified, and which events trigger syncs.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookVerification {
    /// The header that carries the secret or signature, where the connection names none.
    pub header: String,
    /// The supported schemes, the documented one first; the connection's `webhook` selects one.
    pub schemes: Vec<WebhookScheme>,
    /// JSON pointer to the event's name in the body.
    #[serde(default)]
    pub event: Option<String>,
    /// The events that trigger syncs; empty: all.
    #[serde(default)]
    pub pokes: Vec<String>,
    /// JSON pointer to the time in the body, which `hmacSha512` signs: RFC 3339, or seconds or milliseconds since 1970. One
    /// more than 5 minutes from now is refused. Unset: repeats only coalesce.
    #[serde(default)]
    pub time: Option<String>,
}

/// What the header carries.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WebhookScheme {
    /// The secret itself.
    StaticSecret,
    /// The HMAC-SHA-512 of the raw body with the secret as key, in hexadecimal.
    HmacSha512,
}

impl WebhookVerification {
    /// Checks what serde cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        check_header_name(&self.header)?;
        if self.schemes.is_empty() {
            return Err("schemes must name at least one".to_owned());
        }
        if let Some(pointer) = self.time.as_ref().filter(|pointer| !pointer.starts_with('/')) {
            return Err(format!("{pointer:?} is not a JSON pointer: it must start with /"));
        }
        match &self.event {
            Some(pointer) if !pointer.starts_with('/') => {
                Err(format!("{pointer:?} is not a JSON pointer: it must start with /"))
            }
            None if !self.pokes.is_empty() => {
                Err("pokes needs event: add the JSON pointer to the event's name".to_owned())
            }
            _ => Ok(()),
        }
    }
}
