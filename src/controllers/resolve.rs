//! Converts spec fields to domain values: durations, instants, windows, keys of Secrets.
//!
//! Pure. A [`SpecError`] is never an error of the reconcile: it becomes a condition that names the field, the class of
//! value and the remedy.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha1::common as wire;
use crate::api::v1alpha1::reasons::Reason;
use crate::cluster::secrets::SecretData;
use crate::domain::duration::parse_duration;
use crate::domain::window::TimeWindow;

/// A spec that cannot be used, as a condition reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// Machine-readable reason.
    pub reason: Reason,
    /// Field, class of value, remedy. Never the value itself.
    pub message: String,
    /// Whether a change of another object (a Secret, a policy, a connection) can resolve it. If not, the object is
    /// Stalled until its own spec changes.
    pub waiting: bool,
}

impl SpecError {
    /// An error that only a change of the object's own spec resolves.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), waiting: false }
    }

    /// An error that a change of a referenced object resolves.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), waiting: true }
    }

    /// `InvalidSpec` for a field (below `spec`) that is out of bounds or does not parse.
    pub fn invalid(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::stalled(Reason::InvalidSpec, format!("spec.{field} {problem}"))
    }
}

/// Parses a duration field; `default` if it is not set.
pub fn duration(field: &str, text: Option<&str>, default: Duration) -> Result<Duration, SpecError> {
    text.map_or(Ok(default), |text| parse_duration(text).map_err(|e| SpecError::invalid(field, e)))
}

/// `value` converted to the domain's type, or `default` if not set; a value out of range is a spec error.
pub fn number<T: TryFrom<i32>>(field: &str, value: Option<i32>, default: T) -> Result<T, SpecError> {
    value.map_or(Ok(default), |v| T::try_from(v).map_err(|_| SpecError::invalid(field, "is out of range")))
}

/// Parses an instant field.
pub fn instant(field: &str, text: &str) -> Result<Timestamp, SpecError> {
    text.parse().map_err(|_| SpecError::invalid(field, "must be an RFC 3339 instant such as \"2030-01-31T18:00:00Z\""))
}

/// Converts a list of windows.
pub fn windows(field: &str, list: Option<&[wire::TimeWindow]>) -> Result<Vec<TimeWindow>, SpecError> {
    list.unwrap_or_default().iter().map(|one| window(&format!("{field}[{}]", &*one.name), one)).collect()
}

fn window(field: &str, one: &wire::TimeWindow) -> Result<TimeWindow, SpecError> {
    if let Some(line) = &one.schedule {
        let length = duration(&format!("{field}.duration"), one.duration.as_deref(), Duration::ZERO)?;
        return TimeWindow::recurring(line, one.time_zone.as_deref(), length).map_err(|e| {
            let message = format!("spec.{field}: {e}");
            SpecError::stalled(Reason::InvalidSchedule, message)
        });
    }
    match (&one.start_time, &one.end_time) {
        (Some(from), Some(to)) => Ok(TimeWindow::Once {
            from: instant(&format!("{field}.startTime"), from)?,
            to: instant(&format!("{field}.endTime"), to)?,
        }),
        _ => Err(SpecError::invalid(field, "must have schedule and duration, or startTime and endTime")),
    }
}

/// A Secret that a spec field references, as it was read.
#[derive(Clone, Debug)]
pub struct ReferencedSecret {
    /// The referencing field, below `spec`.
    pub field: &'static str,
    /// Name of the Secret.
    pub name: String,
    /// Content; `None` if the Secret does not exist.
    pub data: Option<Arc<SecretData>>,
}

impl ReferencedSecret {
    /// The content, or `SecretNotFound`.
    pub fn data(&self) -> Result<&SecretData, SpecError> {
        self.data.as_deref().ok_or_else(|| {
            SpecError::waiting(
                Reason::SecretNotFound,
                format!("Secret {:?} (spec.{}) not found: create it in this namespace", self.name, self.field),
            )
        })
    }

    /// The UTF-8 text under `key`.
    pub fn text(&self, key: &str) -> Result<SecretString, SpecError> {
        let bytes = self.bytes(key)?;
        let text = std::str::from_utf8(bytes.expose_secret()).map_err(|_| {
            SpecError::waiting(
                Reason::SecretKeyInvalid,
                format!(
                    "key {key:?} of Secret {:?} (spec.{}) is not UTF-8 text: store the plain text",
                    self.name, self.field
                ),
            )
        })?;
        Ok(SecretString::from(text.to_owned()))
    }

    /// The bytes under `key`.
    pub fn bytes(&self, key: &str) -> Result<&secrecy::SecretSlice<u8>, SpecError> {
        self.data()?.get(key).ok_or_else(|| {
            SpecError::waiting(
                Reason::SecretKeyMissing,
                format!("Secret {:?} (spec.{}) has no key {key:?}: add it", self.name, self.field),
            )
        })
    }

    /// A copy of the bytes under `key`; for certificates, which are not secret.
    pub fn copy(&self, key: &str) -> Result<Vec<u8>, SpecError> {
        Ok(self.bytes(key)?.expose_secret().to_vec())
    }

    /// Whether the Secret exists and has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.data.as_ref().is_some_and(|data| data.get(key).is_some())
    }

    /// Name and resource version: changes with the Secret and reveals nothing of its content.
    pub fn revision(&self) -> String {
        self.data.as_ref().map(|data| format!("{}@{}", self.name, data.resource_version)).unwrap_or_default()
    }
}
