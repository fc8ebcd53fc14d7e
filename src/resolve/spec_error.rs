//! Why a spec cannot be used: reason, field and remedy. Pure.

use std::fmt;

use crate::api::v1alpha1::reasons::Reason;

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
    pub fn invalid(field: &str, problem: impl fmt::Display) -> Self {
        Self::stalled(Reason::InvalidSpec, format!("spec.{field} {problem}"))
    }
}
