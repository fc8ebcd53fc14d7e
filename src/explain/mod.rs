//! What an object's settings really are, and where each comes from: its spec, a policy, the provider's profile, a preset,
//! or a default of Busbar.
//!
//! Pure: manifests in, rows out; no cluster, no clock, no Secret. The values are not worked out here. They are read off
//! the very things that the operator works with (`Draft`, `Policy`, `Cadence`, `SyncPlan`), made by the same functions,
//! and each of them is taken apart without `..`, so that a setting that is added there does not compile until it is
//! explained here. Only the *source* is judged here: set in the spec, or else what stands in its place. Credentials are
//! shown as the place they are read from; a value never comes near.

mod connection;
mod job;
mod manners;
mod policy;
pub mod print;
pub mod read;
mod route;
mod sheet;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use crate::controllers::resolve::Problem;
use crate::domain::key::{Kind, ObjectKey};
use crate::provider::profile::Profiles;

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The object's own spec.
    Spec,
    /// A `BreakerPolicy`.
    Policy(String),
    /// The provider's profile.
    Profile(String),
    /// A preset of the breaker.
    Preset(&'static str),
    /// Made from another setting.
    From(&'static str),
    /// What Busbar does where nothing else speaks.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec => f.write_str("spec"),
            Self::Policy(name) => write!(f, "BreakerPolicy {name}"),
            Self::Profile(id) => write!(f, "profile {id}"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::From(field) => write!(f, "from {field}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One effective setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its path below `spec`; the rules of the breaker stand below `breaker`.
    pub field: String,
    /// What holds: text, number, truth, a list of them, or nothing.
    pub value: Value,
    /// Where it comes from.
    pub source: Source,
    /// It is set, and this version does not act on it.
    pub unused: bool,
}

/// What one object comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Its kind.
    pub kind: Kind,
    /// Where it is.
    pub key: ObjectKey,
    /// Its settings.
    pub settings: Vec<Setting>,
    /// Why the operator would not put it to work as it is.
    pub problems: Vec<String>,
}

/// The objects at hand: what is explained, and what it refers to.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Connections.
    pub connections: Vec<Arc<ProviderConnection>>,
    /// Policies.
    pub policies: Vec<Arc<BreakerPolicy>>,
    /// Jobs.
    pub jobs: Vec<Arc<SyncJob>>,
    /// Routes.
    pub routes: Vec<Arc<BankRoute>>,
}

fn at<K: kube::Resource>(list: &[Arc<K>], key: &ObjectKey) -> Option<Arc<K>> {
    let is = |o: &&Arc<K>| {
        o.meta().name.as_deref() == Some(&*key.name) && o.meta().namespace.as_deref() == Some(&*key.namespace)
    };
    list.iter().find(is).cloned()
}

impl World {
    /// Adds what is in `other`; what is here already stays.
    pub fn extend(&mut self, other: Self) {
        self.connections.extend(other.connections);
        self.policies.extend(other.policies);
        self.jobs.extend(other.jobs);
        self.routes.extend(other.routes);
    }

    /// Explains the object of `kind` at `key`; `None` if it is not here. `now` only decides where a schedule stands.
    pub fn explain(&self, kind: Kind, key: &ObjectKey, profiles: &Profiles, now: Timestamp) -> Option<Explanation> {
        let (settings, problems) = match kind {
            Kind::ProviderConnection => connection::explain(&*at(&self.connections, key)?, key, self, profiles),
            Kind::BreakerPolicy => policy::explain(&at(&self.policies, key)?.spec),
            Kind::SyncJob => job::explain(&at(&self.jobs, key)?.spec, key, self, profiles, now),
            Kind::BankRoute => route::explain(&at(&self.routes, key)?.spec),
        };
        let problems = problems.into_iter().map(|p| format!("{}: {}", p.reason.as_str(), p.message)).collect();
        Some(Explanation { kind, key: key.clone(), settings, problems })
    }
}

/// What the parts hand back: rows, and what is wrong.
type Explained = (Vec<Setting>, Vec<Problem>);
