//! Effective settings of an object and the source of each: its spec, a policy, the provider's profile, a preset, or a
//! default.
//!
//! Pure: manifests in, rows out; no cluster, no clock, no Secret. Values are not computed here. They are read from the
//! operator's own types (`Draft`, `Policy`, `Cadence`, `SyncPlan`), built by the same functions, and each is
//! destructured without `..`, so that a setting added there does not compile until it is explained here. Only the
//! *source* is determined here. Credentials are shown as the Secret key they are read from; their values are never
//! loaded.

mod call_policy;
mod connection;
mod job;
pub mod manifests;
mod policy;
pub mod print;
mod route;
pub mod route_choice;
mod setting;
mod settings_table;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::domain::key::{Kind, ObjectKey};
use crate::profile::Profiles;

pub use self::manifests::Manifests;
use self::manifests::find;
pub use self::setting::{Setting, Source};

/// The explanation of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace and name.
    pub key: ObjectKey,
    /// Effective settings.
    pub settings: Vec<Setting>,
    /// Reasons why the operator would not accept the object.
    pub problems: Vec<String>,
}

impl Manifests {
    /// Explains the object of `kind` at `key`; `None` if it is not loaded. `now` is only used for a schedule's gap.
    pub fn explain(&self, kind: Kind, key: &ObjectKey, profiles: &Profiles, now: Timestamp) -> Option<Explanation> {
        let (settings, problems) = match kind {
            Kind::ProviderConnection => connection::explain(&*find(&self.connections, key)?, key, self, profiles),
            Kind::BreakerPolicy => policy::explain(&find(&self.policies, key)?.spec),
            Kind::SyncJob => job::explain(&find(&self.jobs, key)?.spec, key, self, profiles, now),
            Kind::BankRoute => route::explain(&find(&self.routes, key)?.spec),
        };
        let problems =
            problems.into_iter().map(|error| format!("{}: {}", error.reason.as_str(), error.message)).collect();
        Some(Explanation { kind, key: key.clone(), settings, problems })
    }
}
