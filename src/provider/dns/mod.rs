//! Name resolution for calls: a resolver of our own, because the system's blocks a thread for each look-up, for up to
//! half a minute, and hundreds of names without an answer would stop all others. Why not `getaddrinfo`:
//! `docs/adr/0014-names-are-resolved-by-our-own-client.md`.
//!
//! `system.rs` asks the servers of `/etc/resolv.conf`, after `/etc/hosts`; `cache.rs` says how long an answer is good;
//! `resolver.rs` makes one look-up of a name at a time, each with a time limit, and few of all names; `filter.rs` is the
//! resolver of the HTTP clients, which removes addresses that must not be connected to.

mod cache;
mod filter;
mod lookup;
mod resolver;
mod system;

pub(crate) use filter::{AddressNotAllowed, FilteringResolver, NameNotFound};
pub(crate) use resolver::DnsResolver;
