//! Which results of a call count as failures of the provider: the rules that a policy may replace.

use crate::profile::StatusPattern;

/// A kind of failure without an HTTP status.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ErrorClass {
    /// No connection: DNS, address, network.
    Connect,
    /// TLS handshake failed.
    Tls,
    /// The connection was closed before the response was complete.
    Reset,
    /// No complete response in time.
    Timeout,
    /// A response that cannot be used: too large, or not HTTP.
    Body,
}

impl ErrorClass {
    /// The class as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Body => "body",
        }
    }
}

/// Which results of a call count as failures of the provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailureCriteria {
    /// Statuses that are failures.
    pub failure_statuses: Vec<StatusPattern>,
    /// Errors that are failures.
    pub failure_errors: Vec<ErrorClass>,
    /// Statuses that are neither success nor failure; they take precedence over `failure_statuses`.
    pub ignore_statuses: Vec<StatusPattern>,
}

impl Default for FailureCriteria {
    fn default() -> Self {
        Self {
            failure_statuses: vec![StatusPattern::Class(5)],
            // `Connect` and `Timeout`, as documented: `Tls` and `Reset` are specific forms of a failed connection,
            // which a policy may distinguish. A bank with an expired certificate, or one that resets every connection,
            // is as unusable as one that is unreachable. `Body` is not a failure: the provider did respond.
            failure_errors: vec![ErrorClass::Connect, ErrorClass::Tls, ErrorClass::Timeout, ErrorClass::Reset],
            ignore_statuses: Vec::new(),
        }
    }
}
