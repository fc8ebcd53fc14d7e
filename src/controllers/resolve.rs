//! From what users write to what the rest of Busbar works with: durations, keys of Secrets, and the words for what is
//! wrong with them.
//!
//! Pure. A [`Problem`] is never an error of the reconcile: it becomes a condition that names the field, the class of
//! value and the remedy.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha1::common as wire;
use crate::api::v1alpha1::reasons::Reason;
use crate::cluster::secrets::SecretData;
use crate::domain::duration::parse_duration;
use crate::domain::window::Window;

/// Why an object cannot be put to work as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The machine-readable why.
    pub reason: Reason,
    /// Field, value class, remedy.
    pub message: String,
    /// Whether another object (a Secret, a policy, a connection) can repair it. If not, the object is Stalled until its
    /// own spec changes.
    pub waiting: bool,
}

impl Problem {
    /// Only a change of the object's own spec repairs this.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), waiting: false }
    }

    /// Another object repairs this.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), waiting: true }
    }

    /// A field's value is out of its bounds or does not parse.
    pub fn invalid(field: &str, what: impl std::fmt::Display) -> Self {
        Self::stalled(Reason::InvalidSpec, format!("spec.{field} {what}"))
    }
}

/// The duration in `text`, or `default` if the field is not set.
pub fn duration(field: &str, text: Option<&str>, default: Duration) -> Result<Duration, Problem> {
    text.map_or(Ok(default), |text| parse_duration(text).map_err(|e| Problem::invalid(field, e)))
}

/// The instant in `text`.
pub fn instant(field: &str, text: &str) -> Result<Timestamp, Problem> {
    text.parse().map_err(|_| Problem::invalid(field, "must be an RFC 3339 instant such as \"2030-01-31T18:00:00Z\""))
}

/// The windows of a list.
pub fn windows(field: &str, list: Option<&[wire::Window]>) -> Result<Vec<Window>, Problem> {
    list.unwrap_or_default().iter().map(|one| window(&format!("{field}[{}]", &*one.name), one)).collect()
}

fn window(field: &str, one: &wire::Window) -> Result<Window, Problem> {
    if let Some(line) = &one.schedule {
        let length = duration(&format!("{field}.duration"), one.duration.as_deref(), Duration::ZERO)?;
        return Window::again(line, one.time_zone.as_deref(), length).map_err(|e| {
            let message = format!("spec.{field}: {e}");
            Problem::stalled(Reason::InvalidSchedule, message)
        });
    }
    match (&one.start_time, &one.end_time) {
        (Some(from), Some(to)) => Ok(Window::Once {
            from: instant(&format!("{field}.startTime"), from)?,
            to: instant(&format!("{field}.endTime"), to)?,
        }),
        _ => Err(Problem::invalid(field, "must have schedule and duration, or startTime and endTime")),
    }
}

/// A Secret that a field names, as it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The field that names it, below `spec`.
    pub field: &'static str,
    /// Its name.
    pub name: String,
    /// Its content; `None` if there is no Secret of that name.
    pub data: Option<Arc<SecretData>>,
}

impl Found {
    /// The Secret's content.
    pub fn data(&self) -> Result<&SecretData, Problem> {
        self.data.as_deref().ok_or_else(|| {
            Problem::waiting(
                Reason::SecretNotFound,
                format!(
                    "spec.{} names Secret {:?}, which does not exist: create it in this namespace",
                    self.field, self.name
                ),
            )
        })
    }

    /// The text under `key`.
    pub fn text(&self, key: &str) -> Result<SecretString, Problem> {
        let bytes = self.bytes(key)?;
        let text = std::str::from_utf8(bytes.expose_secret()).map_err(|_| {
            Problem::waiting(
                Reason::SecretKeyInvalid,
                format!(
                    "key {key:?} of Secret {:?} (spec.{}) holds bytes that are not UTF-8 text: store the plain text",
                    self.name, self.field
                ),
            )
        })?;
        Ok(SecretString::from(text.to_owned()))
    }

    /// The bytes under `key`.
    pub fn bytes(&self, key: &str) -> Result<&secrecy::SecretSlice<u8>, Problem> {
        self.data()?.get(key).ok_or_else(|| {
            Problem::waiting(
                Reason::SecretKeyMissing,
                format!("Secret {:?} (spec.{}) has no key {key:?}: add it", self.name, self.field),
            )
        })
    }

    /// A copy of the bytes under `key`, for what is no secret: certificates.
    pub fn copy(&self, key: &str) -> Result<Vec<u8>, Problem> {
        Ok(self.bytes(key)?.expose_secret().to_vec())
    }

    /// Whether the Secret has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.data.as_ref().is_some_and(|data| data.get(key).is_some())
    }

    /// Name and version: changes with the Secret, tells nothing of its content.
    pub fn revision(&self) -> String {
        self.data.as_ref().map(|data| format!("{}@{}", self.name, data.resource_version)).unwrap_or_default()
    }
}
