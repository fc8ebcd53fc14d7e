//! Why a record is rejected.

use crate::domain::rejection_reason::RejectionReason;
use crate::settings::validation::FailedRule;

/// Why a record was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub reason: RejectionReason,
    /// JSON pointer of the field, or the name of a rule.
    pub path: String,
    /// The message of a rule.
    pub message: Option<String>,
}

impl Rejection {
    /// A rejection for `reason` at `path`.
    pub fn new(reason: RejectionReason, path: &str) -> Self {
        Self { reason, path: path.to_owned(), message: None }
    }

    /// A rejection by a rule of the job.
    pub fn failed(rule: FailedRule) -> Self {
        Self { reason: RejectionReason::ValidationFailed, path: rule.name, message: Some(rule.message) }
    }
}

/// An error for `reason` at `path`.
pub(super) fn reject<T>(reason: RejectionReason, path: &str) -> Result<T, Rejection> {
    Err(Rejection::new(reason, path))
}
