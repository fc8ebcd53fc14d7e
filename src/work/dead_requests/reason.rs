//! Why a dead request was not answered: the `reason` that the ledger stores with it.

use crate::domain::code_enum::code_enum;
use crate::provider::failure_reason::FailureReason;

code_enum! {
    /// Why a dead request was not retried, or its retry did not count.
    RetryReason {
        ConnectionAbsent = "connection_absent":
            "The connection was not running until the caller's review expired."
            => "Check the condition Ready of the connection, then replay the request.",
        ConnectionReplaced = "connection_replaced":
            "The connection was deleted, and another object of the same name exists."
            => "Delete the request; the new object never receives its parameters.",
        ProviderChanged = "provider_changed":
            "`spec.provider` of the connection changed since the request was stored."
            => "Delete the request, or restore the provider and replay it.",
        ReviewExpired = "review_expired":
            "The caller's permissions were reviewed more than 15 minutes ago."
            => "Replay the request: it is retried with the permissions of the replaying caller.",
        Unreadable = "unreadable":
            "The stored parameters cannot be decrypted or parsed."
            => "Restore the key in --key-secret that encrypted them, then replay the request.",
        OperationNotFound = "operation_not_found":
            "The profile no longer has the operation, or its feature is disabled."
            => "Restore the operation and replay the request, or delete the request.",
        NotRepeatable = "not_repeatable":
            "The profile now declares that the operation writes; writes are never retried."
            => "Delete the request; call the operation again if it is needed.",
        InvalidParameter = "invalid_parameter":
            "The profile no longer accepts the stored parameters."
            => "Delete the request; call the operation again with valid parameters.",
        RightsDenied = "rights_denied":
            "The licence profiles of the connection deny the request, or their daily quota is exhausted."
            => "Replay the request as a caller whose licence profile allows it.",
        Stale = "stale":
            "The retry returned an expired response from the cache: the provider still fails."
            => "Check the condition Healthy of the connection, then replay the request.",
    }
}

/// The reason of a dead request: why its retry failed, or why it was not retried.
#[derive(Copy, Clone, Debug)]
pub(super) enum DeadRequestReason {
    /// The call failed.
    Failed(FailureReason),
    /// It was not retried, or the retry did not count.
    Retry(RetryReason),
}

impl DeadRequestReason {
    /// The code, as stored.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Failed(reason) => reason.as_str(),
            Self::Retry(reason) => reason.as_str(),
        }
    }
}

impl From<FailureReason> for DeadRequestReason {
    fn from(reason: FailureReason) -> Self {
        Self::Failed(reason)
    }
}

impl From<RetryReason> for DeadRequestReason {
    fn from(reason: RetryReason) -> Self {
        Self::Retry(reason)
    }
}
