//! Which addresses a provider may have: the public internet, and the ranges that the operator's flag allows.
//!
//! A user who may create a `ProviderConnection` makes the operator send requests from its own position in the network.
//! A name that resolves to the node's metadata service, the API server or a neighbour's admin port would make this an
//! attack (SSRF). So an address is checked each time before it is connected to, after the name was resolved: a check of
//! the name, or of an earlier DNS answer, could be bypassed by a name that resolves to something else a moment later.
//! An address embedded in another (IPv4-mapped, 6to4, NAT64) counts as the embedded one.
//!
//! Errors name the kind of a denied address, never the address: an error must not be a way to resolve names.

mod kinds;
mod rules;

pub use kinds::AddressKind;
pub use rules::{ALLOW_FLAG, AddressDenied, AddressRules, AllowedRange, EndpointRole, InvalidRange};

#[cfg(test)]
mod tests;
