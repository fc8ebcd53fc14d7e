//! Why a call has no response, in our own text: no URL, nothing of the provider's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::provider::access_denial::AccessDenial;
use crate::provider::failure_reason::FailureReason;
use crate::settings::ErrorClass;
use crate::settings::addresses::{AddressDenied, EndpointRole};

/// Why a connection could not be made, or broke.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum ConnectError {
    /// The host name could not be resolved.
    Dns,
    /// The connection was refused.
    Refused,
    /// The server certificate is signed by an unknown issuer.
    UnknownIssuer,
    /// The server certificate is for another name.
    WrongName,
    /// The server certificate is expired or not yet valid.
    Expired,
    /// The server rejected the client certificate, or requires one.
    CertificateRefused,
    /// Any other TLS failure.
    Tls,
    /// Any other network failure.
    Network,
    /// The connect timed out.
    TimedOut,
    /// The connection broke before the response was complete.
    Reset,
}

impl ConnectError {
    /// The failure class that a policy can count.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::Dns | Self::Refused | Self::Network | Self::TimedOut => ErrorClass::Connect,
            Self::UnknownIssuer | Self::WrongName | Self::Expired | Self::CertificateRefused | Self::Tls => {
                ErrorClass::Tls
            }
            Self::Reset => ErrorClass::Reset,
        }
    }

    /// The cause, as text for a condition's message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "host name could not be resolved",
            Self::Refused => "connection refused",
            Self::UnknownIssuer => "server certificate is signed by an unknown issuer",
            Self::WrongName => "server certificate is not valid for the host name",
            Self::Expired => "server certificate is expired or not yet valid",
            Self::CertificateRefused => "the server rejected the client certificate, or requires one",
            Self::Tls => "TLS handshake failed",
            Self::Network => "connection failed",
            Self::TimedOut => "connect timed out",
            Self::Reset => "connection closed before the response was complete",
        }
    }
}

/// Why a rotated refresh token could not be stored or loaded.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum TokenStoreError {
    /// The ledger is not available.
    Ledger,
    /// Another replica holds the lease on it.
    Busy,
    /// No encryption key is configured.
    NoKey,
    /// It was encrypted with a key that is no longer configured.
    UnknownKey,
}

impl TokenStoreError {
    /// The cause and the remedy, as text for a condition's message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "the ledger is not available",
            Self::Busy => "in use by another replica",
            Self::NoKey => "no encryption key is configured; set --key-secret",
            Self::UnknownKey => {
                "it was encrypted with a key that is no longer in --key-secret; restore the key, or put a new refresh \
                 token into the Secret"
            }
        }
    }
}

/// Why a call has no response.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The circuit is open; nothing was sent.
    #[error("circuit open")]
    CircuitOpen {
        /// Until the next trial may be made, where known.
        retry_in: Option<Duration>,
    },
    /// The connection is suspended; nothing was sent.
    #[error("connection suspended")]
    Suspended,
    /// The connection was deleted, or calls another endpoint now; nothing was sent with its former credential.
    #[error("connection changed during the call")]
    Superseded,
    /// Too many calls of the connection are in flight; nothing was sent.
    #[error("too many calls of the connection in flight")]
    BulkheadFull,
    /// The licence profiles deny the call; nothing was sent.
    #[error(transparent)]
    Denied(#[from] AccessDenial),
    /// A quota of the connection is exhausted for longer than the call can wait; nothing was sent.
    #[error("quota of the connection exhausted")]
    QuotaExhausted {
        /// Until quota is available.
        retry_in: Duration,
    },
    /// The provider's rate limit lasts longer than the call can wait; nothing was sent.
    #[error("rate limited by the provider")]
    Throttled {
        /// Until the rate limit ends.
        retry_in: Duration,
    },
    /// No complete response in time.
    #[error("the provider timed out")]
    Timeout,
    /// No connection, or a broken one.
    #[error("provider not reachable: {}", .0.as_str())]
    Connect(ConnectError),
    /// The response body exceeds the call's size limit.
    #[error("response larger than {limit} bytes")]
    TooLarge {
        /// The size limit, in bytes.
        limit: usize,
    },
    /// The response has more values than any page of records; it was not read on.
    #[error("response has too many values")]
    TooComplex,
    /// No memory was left for the response, because too many large ones were being read.
    #[error("memory for responses exhausted")]
    Overloaded,
    /// The host has an address that the address rules forbid; nothing was sent.
    #[error("{0}")]
    AddressRefused(AddressDenied),
    /// The response is not valid HTTP, or has a content encoding that was not requested.
    #[error("response could not be parsed")]
    Malformed,
    /// The token endpoint rejected the client's credentials.
    #[error("the token endpoint rejected the credentials (status {status})")]
    CredentialsRefused {
        /// Its HTTP status.
        status: u16,
    },
    /// The token endpoint returned no token, for a reason other than the credentials.
    #[error("the token endpoint returned no token{}", TokenStatus(*status))]
    NoToken {
        /// Its HTTP status, if it answered.
        status: Option<u16>,
        /// The failure class.
        class: ErrorClass,
    },
    /// The circuit of the token endpoint is open; nothing was sent.
    #[error("circuit of the token endpoint open")]
    TokenCircuitOpen {
        /// Until the next trial may be made, where known.
        retry_in: Option<Duration>,
    },
    /// A rotated refresh token could not be stored or loaded; without it no access token is used.
    #[error("refresh token in the ledger not usable: {}", .0.as_str())]
    TokenStore(TokenStoreError),
    /// The request cannot be encoded as a URL or a header.
    #[error("invalid request: {0}")]
    InvalidRequest(&'static str),
    /// The HTTP client could not be built from the connection's TLS settings.
    #[error("HTTP client could not be built from the TLS settings: {0}")]
    Client(Arc<str>),
}

/// Prints an optional status.
struct TokenStatus(Option<u16>);

impl fmt::Display for TokenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => write!(f, " (status {status})"),
            None => Ok(()),
        }
    }
}

impl CallError {
    /// The machine-readable code, stable, also used in metrics.
    pub const fn code(&self) -> &'static str {
        match self.reason() {
            Ok(reason) => reason.as_str(),
            Err(denial) => denial.code(),
        }
    }

    /// Why the call failed. A denied call did not fail: then the error is the denial.
    pub const fn reason(&self) -> Result<FailureReason, &AccessDenial> {
        Ok(match self {
            Self::Denied(denial) => return Err(denial),
            Self::CircuitOpen { .. } => FailureReason::CircuitOpen,
            Self::Suspended => FailureReason::Suspended,
            Self::Superseded => FailureReason::ConnectionChanged,
            Self::BulkheadFull => FailureReason::BulkheadFull,
            Self::QuotaExhausted { .. } => FailureReason::QuotaExhausted,
            Self::Throttled { .. } => FailureReason::Throttled,
            Self::Timeout => FailureReason::Timeout,
            Self::Connect(ConnectError::Dns) => FailureReason::Dns,
            Self::Connect(ConnectError::Refused | ConnectError::Network | ConnectError::TimedOut) => {
                FailureReason::Connect
            }
            Self::Connect(ConnectError::Reset) => FailureReason::Reset,
            Self::Connect(_) => FailureReason::Tls,
            Self::AddressRefused(_) => FailureReason::AddressRefused,
            Self::TooLarge { .. } => FailureReason::TooLarge,
            Self::TooComplex => FailureReason::TooComplex,
            Self::Overloaded => FailureReason::Overloaded,
            Self::Malformed => FailureReason::Malformed,
            Self::CredentialsRefused { .. } => FailureReason::CredentialsRefused,
            Self::NoToken { .. } => FailureReason::NoToken,
            Self::TokenCircuitOpen { .. } => FailureReason::TokenCircuitOpen,
            Self::TokenStore(_) => FailureReason::RefreshTokenNotKept,
            Self::InvalidRequest(_) => FailureReason::BadRequest,
            Self::Client(_) => FailureReason::Client,
        })
    }

    /// The failure class that a policy can count; `None` if the provider had no part in the failure.
    ///
    /// A token endpoint has a circuit of its own: its failures say nothing about the provider.
    pub const fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Timeout => Some(ErrorClass::Timeout),
            Self::Connect(problem) => Some(problem.class()),
            // The name may resolve to another address later; at this one the provider is not available, and routes must
            // avoid it.
            Self::AddressRefused(AddressDenied { endpoint: EndpointRole::Provider, .. }) => Some(ErrorClass::Connect),
            Self::TooLarge { .. } | Self::TooComplex | Self::Malformed => Some(ErrorClass::Body),
            Self::CircuitOpen { .. }
            | Self::Suspended
            | Self::Superseded
            | Self::BulkheadFull
            | Self::Denied(_)
            | Self::Overloaded
            | Self::QuotaExhausted { .. }
            | Self::Throttled { .. }
            | Self::AddressRefused(_)
            | Self::CredentialsRefused { .. }
            | Self::NoToken { .. }
            | Self::TokenCircuitOpen { .. }
            | Self::TokenStore(_)
            | Self::InvalidRequest(_)
            | Self::Client(_) => None,
        }
    }

    /// Whether the call failed because no access token was available, for a reason other than rejected credentials.
    pub const fn is_token_unavailable(&self) -> bool {
        matches!(
            self,
            Self::NoToken { .. }
                | Self::TokenCircuitOpen { .. }
                | Self::TokenStore(_)
                | Self::AddressRefused(AddressDenied { endpoint: EndpointRole::TokenEndpoint, .. })
        )
    }

    /// Whether the provider may have processed the request. Not without a connection, a trusted server certificate or
    /// an access token; nor after a 401 that led to a failed token refresh. A client certificate may be rejected after
    /// the request has been sent: `Tls` counts as sent.
    pub const fn was_sent(&self) -> bool {
        match self {
            Self::Connect(problem) => matches!(problem, ConnectError::Reset | ConnectError::Tls),
            Self::NoToken { .. } | Self::CredentialsRefused { .. } => false,
            _ => !self.is_local(),
        }
    }

    /// Whether the call was refused locally: neither the provider nor its token endpoint was involved.
    pub const fn is_local(&self) -> bool {
        matches!(
            self,
            Self::CircuitOpen { .. }
                | Self::Suspended
                | Self::Superseded
                | Self::BulkheadFull
                | Self::Denied(_)
                | Self::QuotaExhausted { .. }
                | Self::Throttled { .. }
                | Self::AddressRefused(_)
                | Self::TokenCircuitOpen { .. }
                | Self::TokenStore(_)
                | Self::InvalidRequest(_)
                | Self::Client(_)
        )
    }

    /// Whether the quota layer refused: quota exhausted, or rate limited by the provider.
    pub const fn is_quota_refusal(&self) -> bool {
        matches!(self, Self::QuotaExhausted { .. } | Self::Throttled { .. })
    }
}
