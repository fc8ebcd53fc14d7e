//! What is asked of RBAC.

use quick_cache::Equivalent;

/// A request that RBAC can allow, in API group `busbar.dev`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AccessRequest {
    /// The verb.
    pub verb: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// The subresource, or empty.
    pub subresource: &'static str,
    /// The namespace; empty: all.
    pub namespace: String,
    /// The object's name; empty: any.
    pub name: String,
}

/// The key of an access review, without a copy of it.
#[derive(Hash)]
pub(super) struct AccessKey<'a> {
    pub(super) user: &'a [u8; 32],
    pub(super) request: &'a AccessRequest,
}

impl Equivalent<([u8; 32], AccessRequest)> for AccessKey<'_> {
    fn equivalent(&self, (user, request): &([u8; 32], AccessRequest)) -> bool {
        self.user == user && self.request == request
    }
}
