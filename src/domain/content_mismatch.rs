//! Why a response with an expected status is not the expected response of a health check.

use std::fmt;

/// What differs from the expected content. Nothing of the response is in it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum ContentMismatch {
    /// The response has another content type, or none.
    ContentType,
    /// The body is not JSON.
    NotJson,
    /// The body is JSON without a value at the expected JSON pointer.
    NoValue,
    /// The status has no body, and no expected status names it.
    WithoutBody,
    /// The response reports an error, by the rules of the provider's profile.
    ReportedError,
}

impl ContentMismatch {
    /// The cause, as text for a condition's message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContentType => "the response does not have the expected content type",
            Self::NotJson => "the body is not JSON, as the health check expects",
            Self::NoValue => "the body has no value at the expected JSON pointer",
            Self::WithoutBody => "the response has no body; expectedStatuses does not name its status",
            Self::ReportedError => "the response reports an error, by the rules of the provider's profile",
        }
    }
}

impl fmt::Display for ContentMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
