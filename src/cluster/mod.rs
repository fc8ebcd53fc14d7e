//! Everything Busbar says to the Kubernetes API, and nothing else.
//!
//! One concern a file: the [`client`], the [`lease`] that elects one worker, the [`stores`] that mirror our four kinds,
//! the only writer of [`status`], [`events`], [`finalizers`], [`secrets`] (by `get`, never by list), [`discovery`] of our own CRDs and
//! the [`failures`] that space retries. It decides nothing: what to write comes from `controllers`.

pub mod auth;
pub mod claims;
pub mod client;
pub mod discovery;
pub mod events;
pub mod failures;
pub mod finalizers;
pub mod guard;
pub mod lease;
mod mirror;
pub mod references;
pub mod secrets;
mod seen;
pub mod status;
pub mod stores;

use std::time::Duration;

/// Longest that one request of a reconcile may take. The API server answers in milliseconds or is in trouble; a
/// reconcile that waits longer holds a slot that a healthy object needs.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A request to the API server did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No answer within [`CALL_TIMEOUT`], or whatever shorter time the caller had.
    #[error("the API server did not answer in time")]
    Timeout,
    /// Nothing was asked: this replica may not write any more.
    #[error("this replica does not lead any more")]
    NotLeading,
    /// The API server refused, or could not be reached.
    #[error("{}", told(.0))]
    Kube(#[from] kube::Error),
}

impl ApiError {
    /// Whether the object asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        // The code too: a path that is not served at all is answered in plain text, without a reason.
        matches!(self, Self::Kube(kube::Error::Api(s)) if s.is_not_found() || s.code == 404)
    }

    /// Whether a right is missing.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(s)) if s.is_forbidden())
    }

    /// Whether the API server's state moved on under us, or the object was replaced by another of the same name.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(s)) if s.is_conflict())
    }
}

/// What happened, for people: kube prints a refusal twice, once for its inventors, and of a broken connection not what
/// broke it.
pub fn told(error: &kube::Error) -> String {
    use std::error::Error as _;
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !said.ends_with(&next) {
            said = format!("{said}: {next}");
        }
        cause = error.source();
    }
    said
}

/// Runs one request under [`CALL_TIMEOUT`].
pub async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::Timeout),
    }
}
