//! The interface to a source of addresses, implemented by the system's name servers and by scripts in tests.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::BoxFuture;

/// The addresses of a name, and how long they are valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Addresses {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

/// Why there are no addresses.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum LookupError {
    /// The name does not exist or has no addresses, for as long as the server says.
    NotFound { ttl: Option<Duration> },
    /// No server gave an answer.
    Failed,
}

/// Looks up names.
pub(super) trait NameLookup: Send + Sync + 'static {
    /// Looks up `name` once. The caller limits its time.
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Addresses, LookupError>>;
}
