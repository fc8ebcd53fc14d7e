//! Which addresses a provider may have: the public internet, and what the operator's flag allows beside it.
//!
//! Whoever may write a `ProviderConnection` makes the operator send requests from its own place in the network. A name
//! that leads to the node's metadata service, to the API server or to a neighbour's admin port would turn that into a
//! way in. So an address is looked at when it is about to be connected to, after the name was resolved, each time:
//! a check of the name, or of an earlier answer, could be gone round by a name that resolves to something else the next
//! moment. An address inside an address (IPv4-mapped, 6to4, NAT64) counts as the one inside.
//!
//! What is refused is told by the kind of address, never by the address: a refusal must not be a way to look names up.

mod kinds;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use reqwest::Url;

pub use kinds::AddressKind;

/// The flag that allows ranges, as messages name it.
pub const FLAG: &str = "--allow-provider-addresses";

/// A range of addresses that providers may have although it is not public: `10.0.0.0/8`, `::1/128`, or one address.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AllowedRange(IpNet);

/// A text that is no range of addresses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no range of addresses: write 10.1.0.0/16, fd00:1::/64, or one address")]
pub struct BadRange(String);

impl FromStr for AllowedRange {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let bad = || BadRange(text.to_owned());
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| bad())?),
        };
        // 10.1.2.3/8 is more often a slip than a wish for all of 10.0.0.0/8.
        if net.addr() == net.network() { Ok(Self(net)) } else { Err(bad()) }
    }
}

impl fmt::Display for AllowedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose address it is.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Peer {
    /// The provider's, from its base URL.
    Provider,
    /// Its token endpoint's.
    TokenEndpoint,
}

/// Why an address is not connected to.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct AddressProblem {
    /// Whose address.
    pub peer: Peer,
    /// What kind of address.
    pub kind: AddressKind,
}

impl fmt::Display for AddressProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.peer {
            Peer::Provider => "the provider's host",
            Peer::TokenEndpoint => "the token endpoint's host",
        };
        write!(f, "{whose} has {} address, and the operator's flag {FLAG} does not allow it", self.kind.as_str())
    }
}

/// What may be connected to. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    allowed: Arc<[AllowedRange]>,
}

impl AddressRules {
    /// Public addresses, and these.
    pub fn allowing(ranges: impl IntoIterator<Item = AllowedRange>) -> Self {
        Self { allowed: ranges.into_iter().collect() }
    }

    /// Public addresses and those of this very machine: for tests and benches, whose banks are on it.
    pub fn with_loopback() -> Self {
        let v4 = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
        Self::allowing([AllowedRange(v4.into()), AllowedRange(IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)))])
    }

    /// Whether `address` may be connected to; if not, what kind of address it is.
    pub fn check(&self, address: IpAddr) -> Result<(), AddressKind> {
        let inner = kinds::innermost(address);
        let Some(kind) = kinds::kind(inner) else { return Ok(()) };
        let allowed = self.allowed.iter().any(|AllowedRange(net)| {
            let named = net.contains(&inner) || net.contains(&address);
            // A wide range is a wish for neighbours, hardly for the keys of the node: those are allowed one by one.
            named && (kind != AddressKind::Metadata || net.prefix_len() == net.max_prefix_len())
        });
        if allowed { Ok(()) } else { Err(kind) }
    }

    /// The same for the host of a URL, where it is an address and not a name. The URL has brought every way of writing
    /// an address into one form.
    pub fn check_url(&self, url: &Url) -> Result<(), AddressKind> {
        literal(url).map_or(Ok(()), |address| self.check(address))
    }
}

/// The address that is the URL's host; `None` for a name.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests;
