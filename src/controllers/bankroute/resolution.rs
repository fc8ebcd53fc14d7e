//! Resolves routes through the cache: anew only when the route changed.

use std::sync::Arc;

use crate::api::v1alpha1::BankRoute;
use crate::controllers::resolution_cache::{ObjectStamp, ResolutionCache};
use crate::domain::key::ObjectKey;
use crate::resolve::{self, ResolvedRoute, SpecError};

/// The resolved routes.
pub type RouteCache = ResolutionCache<ObjectStamp, Result<Arc<ResolvedRoute>, SpecError>>;

/// The resolution of `object`, from the cache if it did not change. `exists` tells whether it is still stored.
pub fn resolve(
    cache: &RouteCache,
    key: &ObjectKey,
    object: &BankRoute,
    exists: impl FnOnce() -> bool,
) -> Result<Arc<ResolvedRoute>, SpecError> {
    if let Some(cached) = cache.get(key, |stamp| stamp.matches(object)) {
        return cached;
    }
    let route = resolve::bank_route(&object.spec).map(Arc::new);
    cache.insert(key, ObjectStamp::of(object), route.clone(), exists);
    route
}
