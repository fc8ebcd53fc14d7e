//! Resolves a `ProviderConnection` to validated settings.

mod access;
mod call_policy;
mod checks;
mod credentials;
mod draft;
mod payouts;
mod resolution;
#[cfg(test)]
mod tests;

pub use checks::{profile, unused_fields};
pub use draft::{draft, maintenance_windows};
pub use resolution::{
    ConnectionResolution, ConnectionSources, DesiredConnection, PayoutSupport, ResolvedConnection, connection,
};
