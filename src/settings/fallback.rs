//! Fallbacks: the connections that serve a call whose provider fails.

use std::collections::BTreeSet;

/// A connection that is a fallback for some operations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FallbackTarget {
    /// The entry's name in the list.
    pub name: String,
    /// The operations; unset: all that both connections have.
    pub operations: Option<BTreeSet<String>>,
    /// The connection's name, in the same namespace.
    pub connection: String,
}
