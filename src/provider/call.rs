//! The request and the result of a call to a provider.
//!
//! An HTTP response of any status is a [`Response`]; a [`CallError`] means that there is none. Errors carry our own
//! text only: no URL (it may hold a key), no text of the provider's.

pub(crate) mod error;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::domain::breaker::CallClass;
use crate::domain::rights::Caller;
use crate::profile::{Classification, DEFAULT_MAX_RESPONSE_BYTES, OperationRequest};
use crate::provider::memory::Reservation;
use crate::provider::probe::ProbeReport;

pub use error::{CallError, ConnectError, TokenStoreError};

/// Size limit of a response body where a profile sets none, in bytes: pages of records, not downloads.
pub const MAX_BODY: usize = DEFAULT_MAX_RESPONSE_BYTES;

/// Size limit of a health check's response body, in bytes. It is read only to keep the connection reusable.
pub const MAX_PROBE_BODY: usize = 64 * 1024;

/// One call to a provider.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own: a call may have any of them")]
pub struct Request {
    /// The class of the call: decides admission while the circuit is not closed, retries and quota.
    pub class: CallClass,
    /// Name for metrics, one of few per provider: the profile's operation or stream, or `probe`.
    pub operation: Arc<str>,
    /// The method.
    pub method: Method,
    /// Path below the connection's base URL, percent-encoded, starting with `/`. May include a query.
    pub path: String,
    /// Query parameters, encoded when the URL is built.
    pub query: Vec<(String, String)>,
    /// Headers in addition to those that the layers add (credentials, user agent).
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Bytes>,
    /// Time-out of the whole call. Unset: the connection's `timeout.total`, for a probe that of the health check.
    pub timeout: Option<Duration>,
    /// Size limit of the response body, in bytes, where it is lower than the profile's `maxResponseBytes`.
    pub max_body: usize,
    /// The caller, whose rights are checked. Unset: the operator itself.
    pub caller: Option<Arc<Caller>>,
    /// Whether a cached response may be returned.
    pub cache: CacheMode,
    /// The partition (for example an account) the call is about: limits of scope `Partition` count it there.
    pub partition: Option<Arc<str>>,
    /// Maximum number of tries. Unset: what the connection's `retry` allows.
    pub max_tries: Option<u32>,
    /// Fail instead of waiting, between two tries or for quota. For callers that have a fallback.
    pub no_wait: bool,
    /// Longest single wait, between two tries or for quota. Unset: any wait that fits the deadline. For callers that
    /// can postpone their work.
    pub max_wait: Option<Duration>,
    /// A user requested the call: it is sent although the provider's rate limit has not ended, once in a while. It still
    /// needs quota of the connection's own limits.
    pub requested: bool,
    /// The call is sent although the connection is suspended: money that is under way is followed in any case.
    pub while_suspended: bool,
    /// The body of a successful response must be JSON; otherwise the try has failed.
    pub expect_json: bool,
    /// What the caller reads although it is not JSON.
    pub tolerance: BodyTolerance,
    /// Parameters that a trace may show, by name: those that the profile declares public.
    pub trace_parameters: Vec<(String, String)>,
    /// Where the record of a probe is reported. Unset: nowhere.
    pub report: Option<ProbeReport>,
}

/// Bodies of a successful response that are no JSON, and that the caller of [`Request::expect_json`] reads nevertheless.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct BodyTolerance {
    /// JSON, but for characters of its texts that are not valid.
    pub characters: bool,
    /// None, with status 204 or 205.
    pub no_content: bool,
    /// None, with another status.
    pub empty: bool,
}

/// Whether a cached response may be returned.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum CacheMode {
    /// Always call the provider, and do not cache the response.
    #[default]
    Bypass,
    /// A fresh response instead of a call, a stale one instead of a failure, if the connection has a cache.
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
            timeout: None,
            max_body: usize::MAX,
            caller: None,
            cache: CacheMode::Bypass,
            partition: None,
            max_tries: None,
            no_wait: false,
            max_wait: None,
            requested: false,
            while_suspended: false,
            expect_json: false,
            tolerance: BodyTolerance::default(),
            trace_parameters: Vec::new(),
            report: None,
        }
    }

    /// The request of the profile's operation `name`.
    pub fn from_operation(name: impl Into<Arc<str>>, operation: OperationRequest) -> Self {
        Self {
            class: operation.class,
            method: operation.method,
            query: operation.query,
            headers: operation.headers,
            body: operation.body,
            partition: operation.partition.map(Arc::from),
            expect_json: operation.expects_json,
            cache: if operation.cacheable { CacheMode::FreshOrStale } else { CacheMode::Bypass },
            trace_parameters: operation.public_parameters,
            ..Self::get(name, operation.path)
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
    /// Prints only what may be logged: the path and the query can name accounts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("class", &self.class)
            .field("operation", &self.operation)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// The provider's response.
#[derive(Clone)]
pub struct Response {
    /// The HTTP status, of any class.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, complete.
    pub body: Bytes,
    /// From the start of the last try to its last byte.
    pub elapsed: Duration,
    /// How the profile classifies it.
    pub classification: Classification,
    /// Where it came from: the provider or the cache.
    pub meta: ResponseMeta,
    /// The memory that it takes, released with its last clone.
    pub memory: Reservation,
}

/// Where a response came from.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ResponseMeta {
    /// It was cached by an earlier call.
    pub cached: bool,
    /// It is older than the cache's TTL and was returned because the call failed.
    pub stale: bool,
    /// Time since the provider sent it; zero unless `cached`.
    pub age: Duration,
    /// Number of tries of this call; zero if `cached`.
    pub tries: u32,
}

impl Default for ResponseMeta {
    /// The provider's response to the first try.
    fn default() -> Self {
        Self { cached: false, stale: false, age: Duration::ZERO, tries: 1 }
    }
}

impl fmt::Debug for Response {
    /// Prints status and size only: the rest is for the caller alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status.as_u16())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
