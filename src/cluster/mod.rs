//! All access to the Kubernetes API, and nothing else.
//!
//! One concern per file: the [`client`], the [`lease`] that elects the leader, the [`stores`] that mirror our four
//! kinds (filled by reflectors, whose silence [`watch_monitor`] notices; shared traits in [`resource`]), the only writer of [`status`], [`events`],
//! [`finalizers`], [`secrets`] (by `get`, never by list), [`discovery`] of our own CRDs and the [`reconcile_backoff`].
//! It decides nothing: what to write comes from `controllers`.

pub mod auth;
mod change_filter;
pub mod client;
pub mod client_metrics;
mod decode_guard;
pub mod discovery;
pub mod events;
pub mod finalizers;
pub mod kube_reviewer;
pub mod lease;
pub mod object_check;
pub mod reconcile_backoff;
pub mod references;
mod reflector;
pub mod resource;
pub mod review_limit;
pub mod run_jobs;
pub mod secrets;
pub mod served_fields;
pub mod status;
pub mod status_ownership;
pub mod stores;
pub mod watch_monitor;
pub mod watched_version;

use std::time::Duration;

/// Timeout of one request of a reconcile. The API server responds in milliseconds or is overloaded; a reconcile that
/// waits longer occupies a worker that a healthy object needs.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A request to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No response within [`CALL_TIMEOUT`] or a shorter timeout of the caller.
    #[error("request to the API server timed out")]
    Timeout,
    /// Nothing was sent: this replica may no longer write.
    #[error("this replica is no longer the leader")]
    NotLeading,
    /// The API server rejected the request, or was unreachable.
    #[error("{}", describe(.0))]
    Kube(#[from] kube::Error),
}

impl ApiError {
    /// Whether the requested object does not exist.
    pub fn is_not_found(&self) -> bool {
        // The code too: for a path that is not served at all the response is plain text without a reason.
        matches!(self, Self::Kube(kube::Error::Api(s)) if s.is_not_found() || s.code == 404)
    }

    /// Whether RBAC does not permit the request.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(s)) if s.is_forbidden() || s.code == 403)
    }

    /// Whether the object changed in the meantime, or was replaced by another of the same name.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(s)) if s.is_conflict())
    }
}

/// The error's message with its causes. kube's own `Display` prints a rejection twice, the second time as `Debug`, and
/// omits the cause of a failed connection.
pub fn describe(error: &kube::Error) -> String {
    use std::error::Error as _;
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !message.ends_with(&next) {
            message = format!("{message}: {next}");
        }
        cause = error.source();
    }
    message
}

/// Runs one request with [`CALL_TIMEOUT`].
pub async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    call_within(CALL_TIMEOUT, request).await
}

/// Runs one request with a timeout of `limit`.
pub async fn call_within<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match tokio::time::timeout(limit, request).await {
        Ok(response) => Ok(response?),
        Err(_) => Err(ApiError::Timeout),
    }
}
