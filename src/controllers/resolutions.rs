//! The resolution caches of all kinds, and the operator's options that resolutions depend on.

use std::collections::BTreeSet;

use crate::controllers::bankroute::resolution::RouteCache;
use crate::controllers::providerconnection::first_seen::FirstSeen;
use crate::controllers::providerconnection::resolution::ConnectionCache;
use crate::controllers::syncjob::resolution::JobCache;
use crate::controllers::syncjob::sources::JobSources;
use crate::domain::key::{Kind, ObjectKey};

/// The caches, one per kind that is resolved to more than a check.
#[derive(Debug, Default)]
pub struct Resolutions {
    /// Connections.
    pub connections: ConnectionCache,
    /// When the current version of each connection was first seen.
    pub first_seen: FirstSeen,
    /// Jobs.
    pub jobs: JobCache,
    /// What the jobs read.
    pub sources: JobSources,
    /// Routes.
    pub routes: RouteCache,
}

impl Resolutions {
    /// Removes what a deleted or replaced object was resolved to; returns the jobs that this concerns, which shared a source
    /// with it.
    pub fn forget(&self, kind: Kind, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        match kind {
            Kind::ProviderConnection => {
                self.connections.forget(key);
                self.first_seen.forget(key);
                self.sources.forget_connection(key);
            }
            Kind::SyncJob => {
                self.jobs.forget(key);
                return self.sources.remove(key);
            }
            Kind::BankRoute => self.routes.forget(key),
            Kind::BreakerPolicy => {}
        }
        BTreeSet::new()
    }
}
