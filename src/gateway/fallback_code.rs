//! Why a fallback did not answer: the `code` of an element of `details.stand_ins`.

use crate::domain::closed_list::closed_list;
use crate::provider::failure_reason::FailureReason;

closed_list!(
    "fallback result",
    /// Why the answer of a fallback was not used, although the call did not fail.
    FallbackResult {
        Stale = "stale":
            "The fallback returned an expired response from its cache, because its call failed."
            => "Check the condition Healthy of the fallback connection.",
        Refused = "refused":
            "The fallback denied or rejected the request, or does not have the item."
            => "Call the fallback connection directly: its error says why.",
        Forbidden = "forbidden":
            "RBAC does not allow the caller to call the fallback connection."
            => "Allow the caller `create` on `providerconnections/call` of the fallback connection.",
        AuthorizationUnavailable = "authorization_unavailable":
            "The API server did not review in time whether the caller may call the fallback connection."
            => "Wait for the API server.",
    }
);

/// The code of a fallback that did not answer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum FallbackCode {
    /// Its call failed.
    Failed(FailureReason),
    /// Its answer was not used.
    Unused(FallbackResult),
}

impl FallbackCode {
    /// The code as printed.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Failed(reason) => reason.as_str(),
            Self::Unused(result) => result.as_str(),
        }
    }
}
