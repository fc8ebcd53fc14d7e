//! Why a health check failed, as conditions and events say it: the cause, its class, what to do. Pure.
//!
//! Never a text of the provider. The cause has no duration and no count, because an unchanged condition must not look
//! changed.

use std::fmt;
use std::sync::Arc;

use crate::domain::content_mismatch::ContentMismatch;

/// Why a health check failed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CheckFailure {
    /// The host name could not be resolved.
    Dns,
    /// No connection could be made, for this cause.
    Connect(&'static str),
    /// The TLS handshake failed, for this cause.
    Tls(&'static str),
    /// The connection closed before the response was complete.
    Reset,
    /// No complete response in time.
    Timeout,
    /// An unexpected HTTP status.
    Status(u16),
    /// A redirect, which is not followed.
    Redirect {
        /// Its HTTP status.
        status: u16,
        /// Origin of its target, if that is an HTTP URL.
        origin: Option<Arc<str>>,
    },
    /// The expected status with unexpected content.
    Content(ContentMismatch),
    /// A body that cannot be read, for this cause.
    Body(&'static str),
    /// The address of the host is not allowed.
    Address,
    /// The check could not be sent, for this cause.
    NotSent(&'static str),
}

impl CheckFailure {
    /// The class: `DNS`, `connect`, `TLS`, `reset`, `timeout`, `status`, `redirect`, `content`, `body`, `address` or
    /// `request`.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Dns => "DNS",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "TLS",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status(_) => "status",
            Self::Redirect { .. } => "redirect",
            Self::Content(_) => "content",
            Self::Body(_) => "body",
            Self::Address => "address",
            Self::NotSent(_) => "request",
        }
    }

    /// What the user can do.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Dns => "check spec.endpoint.baseURL and the DNS of the cluster",
            Self::Connect(_) => "check spec.endpoint.baseURL, the network policies and the provider",
            Self::Tls(_) => "check spec.tls and the certificate of the provider",
            Self::Status(401 | 403) => {
                "see condition Authenticated; check the Secret referenced by spec.auth and its rights at the provider"
            }
            Self::Status(429) => {
                "check spec.healthCheck.interval and spec.rateLimit, or have the provider raise its limit"
            }
            Self::Reset | Self::Timeout | Self::Status(500..=599) => "contact the provider if it lasts",
            Self::Status(_) => "check spec.healthCheck.path and expectedStatuses, or contact the provider",
            Self::Redirect { .. } => "set spec.endpoint.baseURL to the new address if the provider has moved",
            Self::Content(_) => "check spec.endpoint.baseURL and spec.healthCheck",
            Self::Body(_) => "check that spec.endpoint.baseURL is the address of an HTTP API",
            Self::Address => "use a public address, or have the range allowed by --allow-provider-addresses",
            Self::NotSent(_) => "see condition Authenticated, or correct the field that the cause names",
        }
    }
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns => f.write_str("host name could not be resolved"),
            Self::Connect(cause) | Self::Tls(cause) | Self::Body(cause) | Self::NotSent(cause) => f.write_str(cause),
            Self::Reset => f.write_str("connection closed before the response was complete"),
            Self::Timeout => f.write_str("timed out without a complete response"),
            Self::Status(status) => write!(f, "unexpected HTTP status {status}"),
            Self::Redirect { status, origin: Some(origin) } => {
                write!(f, "HTTP status {status} redirects to {origin}, which is not followed")
            }
            Self::Redirect { status, origin: None } => {
                write!(f, "HTTP status {status} is a redirect, which is not followed")
            }
            Self::Content(mismatch) => mismatch.fmt(f),
            Self::Address => f.write_str("the host has an address that is not allowed"),
        }?;
        write!(f, " ({})", self.class())
    }
}

/// The failure that a status shows: it changes when a new cause has been seen twice in a row. A provider that fails in
/// two ways by turns would otherwise cost a status write per check.
#[derive(Clone, Debug, Default)]
pub struct CheckFailureLatch {
    shown: Option<CheckFailure>,
    last: Option<CheckFailure>,
}

impl CheckFailureLatch {
    /// Records the end of a check; `None`: it passed.
    pub fn observe(&mut self, failure: Option<CheckFailure>) {
        if failure.is_none() || self.shown.is_none() || self.last == failure {
            self.shown.clone_from(&failure);
        }
        self.last = failure;
    }

    /// The failure to show; `None` if the last check passed.
    pub const fn shown(&self) -> Option<&CheckFailure> {
        self.shown.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_the_cause_and_nothing_volatile_is_said() {
        for (failure, text) in [
            (CheckFailure::Dns, "host name could not be resolved (DNS)"),
            (CheckFailure::Connect("connection refused"), "connection refused (connect)"),
            (CheckFailure::Status(503), "unexpected HTTP status 503 (status)"),
            (
                CheckFailure::Redirect { status: 301, origin: Some("https://bank.example".into()) },
                "HTTP status 301 redirects to https://bank.example, which is not followed (redirect)",
            ),
        ] {
            assert_eq!(failure.to_string(), text);
        }
    }

    #[test]
    fn a_remedy_blames_what_is_at_fault() {
        let blames = |failure: CheckFailure, field: &str| failure.remedy().contains(field);
        for status in [401, 403] {
            assert!(blames(CheckFailure::Status(status), "spec.auth") && !blames(CheckFailure::Status(status), "path"));
        }
        assert!(blames(CheckFailure::Status(429), "spec.rateLimit") && blames(CheckFailure::Status(404), "path"));
        assert!(blames(CheckFailure::Status(503), "provider") && !blames(CheckFailure::Status(503), "spec."));
        let refused = CheckFailure::NotSent("the token endpoint rejected the credentials");
        assert!(blames(refused, "Authenticated"));
    }

    #[test]
    fn two_causes_by_turns_are_shown_as_the_first_until_one_of_them_stays() {
        let mut latch = CheckFailureLatch::default();
        let mut shown = |failure| {
            latch.observe(failure);
            latch.shown().cloned()
        };
        let (dns, down) = (CheckFailure::Dns, CheckFailure::Status(503));
        for failure in [&dns, &down, &dns, &down] {
            assert_eq!(shown(Some(failure.clone())), Some(dns.clone()));
        }
        assert_eq!(shown(Some(down.clone())), Some(down));
        assert_eq!(shown(None), None);
        assert_eq!(shown(Some(CheckFailure::Timeout)), Some(CheckFailure::Timeout));
    }
}
