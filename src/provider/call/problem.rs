//! What can be wrong with a connection, and with the place where refresh tokens are kept: in our own words.

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
    /// TLS failed otherwise.
    Tls,
    /// The network failed otherwise.
    Network,
    /// The connection was there, and broke before the answer was complete.
    Reset,
}

impl ConnectProblem {
    /// The class of failure that a policy can count.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::Name | Self::Refused | Self::Network => ErrorClass::Connect,
            Self::UnknownIssuer | Self::WrongName | Self::Expired | Self::Tls => ErrorClass::Tls,
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
            Self::Tls => "TLS could not be agreed on",
            Self::Network => "the connection failed",
            Self::Reset => "the connection broke before the answer was complete",
        }
    }
}

/// What is wrong with the place where a rotated refresh token is kept.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeepProblem {
    /// The ledger does not answer.
    Ledger,
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
            Self::NoKey => "the operator has no key to seal it with (--key-secret)",
            Self::UnknownKey => {
                "it was sealed with a key that is not in --key-secret any more: put the key back, or a new refresh token \
                 into the Secret"
            }
        }
    }
}
