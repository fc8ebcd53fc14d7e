//! Why a call has no answer, in our own words.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::rights::Denial;
use crate::provider::addresses::{AddressProblem, Peer};
use crate::provider::classify::ErrorClass;

/// Why a connection could not be made.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum ConnectProblem {
    /// The host's name has no address.
    Name,
    /// Nobody listens there.
    Refused,
    /// The certificate is signed by nobody we trust.
    UnknownIssuer,
    /// The certificate is for another name.
    WrongName,
    /// The certificate is expired or not yet valid.
    Expired,
    /// The provider did not take the certificate that we showed, or wants one.
    CertificateRefused,
    /// TLS failed otherwise.
    Tls,
    /// The network failed otherwise.
    Network,
    /// It did not come about in time.
    TimedOut,
    /// The connection was there, and broke before the answer was complete.
    Reset,
}

impl ConnectProblem {
    /// The class of failure that a policy can count.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::Name | Self::Refused | Self::Network | Self::TimedOut => ErrorClass::Connect,
            Self::UnknownIssuer | Self::WrongName | Self::Expired | Self::CertificateRefused | Self::Tls => {
                ErrorClass::Tls
            }
            Self::Reset => ErrorClass::Reset,
        }
    }

    /// What happened, in words for a condition's message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "the host's name cannot be resolved",
            Self::Refused => "the connection was refused",
            Self::UnknownIssuer => "its certificate is signed by an unknown issuer",
            Self::WrongName => "its certificate is not valid for the server's name",
            Self::Expired => "its certificate is expired or not yet valid",
            Self::CertificateRefused => "it does not take the client certificate, or wants one",
            Self::Tls => "TLS could not be agreed on",
            Self::Network => "the connection failed",
            Self::TimedOut => "no connection came about in time",
            Self::Reset => "the connection broke before the answer was complete",
        }
    }
}

/// What is wrong with the place where a rotated refresh token is kept.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeepProblem {
    /// The ledger does not answer.
    Ledger,
    /// Another replica is using it.
    Busy,
    /// There is no key to seal it with.
    NoKey,
    /// It was sealed with a key that is gone.
    UnknownKey,
}

impl KeepProblem {
    /// What happened and what to do, in words for a condition's message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "the ledger does not answer",
            Self::Busy => "another replica is using it",
            Self::NoKey => "the operator has no key to seal it with (--key-secret)",
            Self::UnknownKey => {
                "it was sealed with a key that is not in --key-secret any more: put the key back, or a new refresh token \
                 into the Secret"
            }
        }
    }
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The breaker refused; nothing was sent.
    #[error("the circuit is open")]
    CircuitOpen {
        /// Until the next trial may be made, where known.
        retry_in: Option<Duration>,
    },
    /// The connection is suspended; nothing was sent.
    #[error("the connection is suspended")]
    Suspended,
    /// No licence profile of the caller allows it; nothing was sent.
    #[error("the caller has no right to {action} ({})", .why.as_str())]
    RightsDenied {
        /// The operation or purpose that is not allowed.
        action: Arc<str>,
        /// Why.
        why: Denial,
    },
    /// The requests of the caller's licence profile are used up; nothing was sent.
    #[error("the licence profile's requests of the day are used up")]
    RightsQuota {
        /// Until the next day.
        retry_in: Duration,
    },
    /// A limit of the connection is used up for longer than the call can wait; nothing was sent.
    #[error("the connection's quota is used up")]
    QuotaExhausted {
        /// Until there is room.
        retry_in: Duration,
    },
    /// The provider asked to be left alone for longer than the call can wait; nothing was sent.
    #[error("the provider asked for a pause")]
    Throttled {
        /// Until the pause ends.
        retry_in: Duration,
    },
    /// No complete answer in time.
    #[error("the provider did not answer in time")]
    Timeout,
    /// No connection.
    #[error("the provider cannot be reached: {}", .0.as_str())]
    Connect(ConnectProblem),
    /// The answer is larger than the call allows.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The cap.
        limit: usize,
    },
    /// The host has an address that the operator does not connect to; nothing was sent.
    #[error("{0}")]
    Refused(AddressProblem),
    /// What came back is not HTTP, or not what was asked for.
    #[error("the answer cannot be read")]
    Malformed,
    /// The token endpoint refused the client's credentials.
    #[error("the token endpoint refused the credentials with status {status}")]
    CredentialsRefused {
        /// Its HTTP status.
        status: u16,
    },
    /// The token endpoint gave no token, for a reason of its own.
    #[error("the token endpoint gave no token{}", TokenStatus(*status))]
    NoToken {
        /// Its HTTP status, if it answered.
        status: Option<u16>,
        /// What kind of failure it was.
        class: ErrorClass,
    },
    /// The circuit of the token endpoint is open; nothing was sent.
    #[error("the circuit of the token endpoint is open")]
    TokenCircuitOpen {
        /// Until the next trial may be made, where known.
        retry_in: Option<Duration>,
    },
    /// A rotated refresh token cannot be kept or read, and without that no access token is used.
    #[error("the refresh token in the ledger cannot be used: {}", .0.as_str())]
    NotKept(KeepProblem),
    /// The request cannot be put into a URL or a header.
    #[error("the request is not valid: {0}")]
    Request(&'static str),
    /// No client could be built from the connection's TLS settings.
    #[error("no client can be built from the TLS settings: {0}")]
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
        match self {
            Self::CircuitOpen { .. } => "circuit_open",
            Self::Suspended => "suspended",
            Self::RightsDenied { .. } => "rights_denied",
            Self::RightsQuota { .. } => "rights_quota",
            Self::QuotaExhausted { .. } => "quota_exhausted",
            Self::Throttled { .. } => "throttled",
            Self::Timeout => "timeout",
            Self::Connect(ConnectProblem::Name) => "dns",
            Self::Connect(ConnectProblem::Refused | ConnectProblem::Network | ConnectProblem::TimedOut) => "connect",
            Self::Connect(ConnectProblem::Reset) => "reset",
            Self::Connect(_) => "tls",
            Self::Refused(_) => "address_refused",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed => "malformed",
            Self::CredentialsRefused { .. } => "credentials_refused",
            Self::NoToken { .. } => "no_token",
            Self::TokenCircuitOpen { .. } => "token_circuit_open",
            Self::NotKept(_) => "refresh_token_not_kept",
            Self::Request(_) => "bad_request",
            Self::Client(_) => "client",
        }
    }

    /// The class of failure that a policy can count; none for what the provider had no part in.
    ///
    /// A token endpoint has a circuit of its own: that it gives no token says nothing about the provider behind it.
    pub const fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Timeout => Some(ErrorClass::Timeout),
            Self::Connect(problem) => Some(problem.class()),
            // Whatever a name leads to today: at its address the provider is not to be had, and routes must avoid it.
            Self::Refused(AddressProblem { peer: Peer::Provider, .. }) => Some(ErrorClass::Connect),
            Self::TooLarge { .. } | Self::Malformed => Some(ErrorClass::Body),
            Self::CircuitOpen { .. }
            | Self::Suspended
            | Self::RightsDenied { .. }
            | Self::RightsQuota { .. }
            | Self::QuotaExhausted { .. }
            | Self::Throttled { .. }
            | Self::Refused(_)
            | Self::CredentialsRefused { .. }
            | Self::NoToken { .. }
            | Self::TokenCircuitOpen { .. }
            | Self::NotKept(_)
            | Self::Request(_)
            | Self::Client(_) => None,
        }
    }

    /// Whether the provider could not be called for want of a token, through no fault of the credentials.
    pub const fn wants_token(&self) -> bool {
        matches!(
            self,
            Self::NoToken { .. }
                | Self::TokenCircuitOpen { .. }
                | Self::NotKept(_)
                | Self::Refused(AddressProblem { peer: Peer::TokenEndpoint, .. })
        )
    }

    /// Whether the provider may have taken the request up. Not if there was no connection, nobody whose certificate we
    /// trust at its other end, or no token to send along; what was refused with a 401 before a token ran out was not taken
    /// up either. A client certificate may be refused after the request has left: `Tls` counts as sent.
    pub const fn was_sent(&self) -> bool {
        match self {
            Self::Connect(problem) => matches!(problem, ConnectProblem::Reset | ConnectProblem::Tls),
            Self::NoToken { .. } | Self::CredentialsRefused { .. } => false,
            _ => !self.is_our_own(),
        }
    }

    /// Whether we refused the call ourselves: neither the provider nor its token endpoint has had a part in it.
    pub const fn is_our_own(&self) -> bool {
        matches!(
            self,
            Self::CircuitOpen { .. }
                | Self::Suspended
                | Self::RightsDenied { .. }
                | Self::RightsQuota { .. }
                | Self::QuotaExhausted { .. }
                | Self::Throttled { .. }
                | Self::Refused(_)
                | Self::TokenCircuitOpen { .. }
                | Self::NotKept(_)
                | Self::Request(_)
                | Self::Client(_)
        )
    }

    /// Whether the quota layer refused: for lack of room, or because the provider asked for a pause.
    pub const fn is_held_back(&self) -> bool {
        matches!(self, Self::QuotaExhausted { .. } | Self::Throttled { .. })
    }
}
