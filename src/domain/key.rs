//! Keys of custom resources: kind, namespace and name, cheap to clone and to compare.

use std::fmt;
use std::sync::Arc;

/// The four kinds of group `busbar.dev`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Connection to one bank or data provider.
    ProviderConnection,
    /// Scheduled fetch of one stream into the ledger.
    SyncJob,
    /// Choice of the bank for a payout.
    BankRoute,
    /// Circuit-breaker settings.
    BreakerPolicy,
}

impl Kind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::ProviderConnection, Self::SyncJob, Self::BankRoute, Self::BreakerPolicy];

    /// The kind as written in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProviderConnection => "ProviderConnection",
            Self::SyncJob => "SyncJob",
            Self::BankRoute => "BankRoute",
            Self::BreakerPolicy => "BreakerPolicy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Namespace and name of one custom resource. Prints as `namespace/name`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace, never empty: all four kinds are namespaced.
    pub namespace: Arc<str>,
    /// The object's name within its namespace.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The object `name` in the same namespace; every reference is resolved this way.
    #[must_use]
    pub fn sibling(&self, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: self.namespace.clone(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
