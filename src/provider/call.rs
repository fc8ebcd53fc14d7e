//! What goes into the call path and what comes out of it.
//!
//! An HTTP answer of any status is an [`Answer`]; a [`CallError`] means that there is none. Errors carry our own words
//! only: no URL (it may hold a key), no text of the provider's.

mod error;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::domain::breaker::CallClass;
use crate::domain::rights::Caller;
use crate::provider::classify::Reading;

pub use error::{CallError, ConnectProblem, KeepProblem};

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
