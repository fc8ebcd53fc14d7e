//! Who may call through a connection, who stands in for it, and what is switched on.

use std::collections::BTreeSet;

use crate::domain::rights::Rights;
use crate::provider::settings::Settings;

/// A connection that stands in for some operations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandIn {
    /// Its name in the list.
    pub name: String,
    /// For which operations; unset: all that both have.
    pub operations: Option<BTreeSet<String>>,
    /// The connection's name, in the same namespace.
    pub connection: String,
}

impl Settings {
    /// Licence profiles; `None`: open to whoever may call.
    pub fn rights(&self) -> Option<&Rights> {
        self.draft.rights.as_deref()
    }

    /// Who stands in, in order.
    pub fn fallback(&self) -> &[StandIn] {
        &self.draft.fallback
    }

    /// Whether a switch of the profile is on. One that the profile does not have is off.
    pub fn feature(&self, name: &str) -> bool {
        self.draft.features.get(name).copied().unwrap_or(false)
    }
}
