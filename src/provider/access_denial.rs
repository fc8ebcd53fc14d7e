//! Why the licence profiles of a connection deny a call.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::rights::Denial;

/// A denial: nothing was sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccessDenial {
    /// No licence profile of the caller allows it.
    #[error("{action} not allowed for the caller: {}", .why.as_str())]
    Rights {
        /// The operation or purpose that is not allowed.
        action: Arc<str>,
        /// The cause.
        why: Denial,
    },
    /// The daily request limit of the caller's licence profile is reached.
    #[error("daily request limit of the licence profile reached")]
    Quota {
        /// Until the next day.
        retry_in: Duration,
    },
}

impl AccessDenial {
    /// The machine-readable code in traces.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Rights { .. } => "rights_denied",
            Self::Quota { .. } => "rights_quota",
        }
    }
}
