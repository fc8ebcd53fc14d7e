//! The resolution caches of all kinds, and the operator's options that resolutions depend on.

use crate::controllers::bankroute::resolution::RouteCache;
use crate::controllers::providerconnection::first_seen::FirstSeen;
use crate::controllers::providerconnection::resolution::ConnectionCache;
use crate::controllers::syncjob::resolution::JobCache;
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
    /// Routes.
    pub routes: RouteCache,
}

impl Resolutions {
    /// Removes what a deleted or replaced object was resolved to.
    pub fn forget(&self, kind: Kind, key: &ObjectKey) {
        match kind {
            Kind::ProviderConnection => {
                self.connections.forget(key);
                self.first_seen.forget(key);
            }
            Kind::SyncJob => self.jobs.forget(key),
            Kind::BankRoute => self.routes.forget(key),
            Kind::BreakerPolicy => {}
        }
    }
}
