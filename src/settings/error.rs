//! Why a setting cannot be used.

use crate::profile::InvalidUrl;

/// An invalid setting.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SettingsError {
    /// The field, as it is named in `spec`.
    pub field: &'static str,
    /// What is wrong and what to do. Never contains a value of a Secret.
    pub problem: String,
}

impl SettingsError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    /// For `map_err`: an invalid URL in `field`.
    pub(super) fn url(field: &'static str) -> impl FnOnce(InvalidUrl) -> Self {
        move |error| Self::new(field, error.to_string())
    }
}
