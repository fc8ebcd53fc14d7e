//! What goes into the call path and what comes out of it.
//!
//! An HTTP answer of any status is an [`Answer`]; a [`CallError`] means that there is none. Errors carry our own words
//! only: no URL (it may hold a key), no text of the provider's.

mod problem;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::domain::breaker::CallClass;
use crate::domain::rights::{Caller, Denial};
use crate::provider::addresses::{AddressProblem, Peer};
use crate::provider::classify::{ErrorClass, Reading};

pub use problem::{ConnectProblem, KeepProblem};

/// An answer's body may be this large unless the call says otherwise: pages of records, not downloads.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// A health check's answer is read only to keep its connection usable.
pub const MAX_PROBE_BODY: usize = 64 * 1024;

/// One call to a provider.
#[derive(Clone)]
pub struct Request {
    /// What kind of call it is: decides admission while the circuit is not closed.
    pub class: CallClass,
    /// A name for metrics, one of few per provider: the profile's operation or stream, or `probe`.
    pub operation: Arc<str>,
    /// The method.
    pub method: Method,
    /// Path below the connection's base URL, percent-encoded, starting with `/`. May carry a query of its own.
    pub path: String,
    /// Query parameters, encoded when the URL is built.
    pub query: Vec<(String, String)>,
    /// Headers beside those the path adds (credentials, user agent).
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Bytes>,
    /// The whole call must end within this; unset, the connection's `timeout.total` (a probe: its check's time-out).
    pub within: Option<Duration>,
    /// Largest body that is read.
    pub max_body: usize,
    /// Who asked, where it was not the operator itself: the rights are judged by it.
    pub caller: Option<Arc<Caller>>,
    /// Whether a kept answer will do.
    pub cache: CacheUse,
    /// The partition (an account, say) it is about: limits of scope `Partition` count it there.
    pub partition: Option<Arc<str>>,
    /// At most so many tries; unset, as many as the connection's `retry` allows.
    pub tries: Option<u32>,
    /// Never waits: not between two tries, not for quota. For callers that have somebody else to ask.
    pub no_wait: bool,
    /// The longest single wait, between two tries or for quota, that is sat through; unset, whatever fits the call's
    /// time. For callers that can put their work off.
    pub max_wait: Option<Duration>,
    /// A good answer's body must be JSON: one that is not is a failed try.
    pub json: bool,
    /// Parameters that a trace may show, by name: those that the profile calls public.
    pub public: Vec<(String, String)>,
}

/// Whether a kept answer will do.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum CacheUse {
    /// Only the provider's own word, which is not kept either.
    #[default]
    None,
    /// A fresh one instead of a call, and a stale one instead of a failure, where the connection has a cache.
    FreshOrStale,
}

impl Request {
    /// A GET of class `Read`.
    pub fn get(operation: impl Into<Arc<str>>, path: impl Into<String>) -> Self {
        Self {
            class: CallClass::Read,
            operation: operation.into(),
            method: Method::GET,
            path: path.into(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: None,
            within: None,
            max_body: MAX_BODY,
            caller: None,
            cache: CacheUse::None,
            partition: None,
            tries: None,
            no_wait: false,
            max_wait: None,
            json: false,
            public: Vec::new(),
        }
    }

    /// A health check.
    pub fn probe(path: impl Into<String>) -> Self {
        Self { class: CallClass::Probe, max_body: MAX_PROBE_BODY, ..Self::get("probe", path) }
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn with_query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }
}

impl fmt::Debug for Request {
    /// Only what may be logged: the path and the query can name accounts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("class", &self.class)
            .field("operation", &self.operation)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// What the provider answered.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status, whatever it is.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, complete.
    pub body: Bytes,
    /// From the start of the last try to the last byte.
    pub elapsed: Duration,
    /// What it means, by the profile.
    pub reading: Reading,
    /// How it came about.
    pub meta: Meta,
}

/// How an answer came about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    /// It was kept from an earlier call.
    pub cached: bool,
    /// It is past its time and was given because there was no better one.
    pub stale: bool,
    /// How long ago the provider gave it; zero unless `cached`.
    pub age: Duration,
    /// How often the provider was asked for it.
    pub tries: u32,
}

impl Default for Meta {
    /// The provider's own answer to the first try.
    fn default() -> Self {
        Self { cached: false, stale: false, age: Duration::ZERO, tries: 1 }
    }
}

impl fmt::Debug for Answer {
    /// Status and size only: the rest belongs to the caller who asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status.as_u16())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
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
            Self::Connect(ConnectProblem::Refused | ConnectProblem::Network) => "connect",
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

    /// Whether anything may have been sent to the provider.
    pub const fn was_sent(&self) -> bool {
        !matches!(
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
