//! The rules themselves: allowed ranges, and the check of one address.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use reqwest::Url;

use super::kinds::{AddressKind, embedded_ipv4, kind_of};

/// The flag that allows ranges, for messages.
pub const ALLOW_FLAG: &str = "--allow-provider-addresses";

/// A non-public range that providers may use: `10.0.0.0/8`, `::1/128`, or one address.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AllowedRange(IpNet);

/// A text that is not a range of addresses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not an address range: write 10.1.0.0/16, fd00:1::/64, or one address")]
pub struct InvalidRange(String);

impl FromStr for AllowedRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let invalid = || InvalidRange(text.to_owned());
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| invalid())?),
        };
        // 10.1.2.3/8 is more often a typo than meant as all of 10.0.0.0/8.
        if net.addr() == net.network() { Ok(Self(net)) } else { Err(invalid()) }
    }
}

impl fmt::Display for AllowedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which endpoint an address belongs to.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum EndpointRole {
    /// The provider, from the base URL.
    Provider,
    /// The provider's token endpoint.
    TokenEndpoint,
}

/// An address that the rules deny.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct AddressDenied {
    /// The endpoint.
    pub endpoint: EndpointRole,
    /// The kind of its address.
    pub kind: AddressKind,
}

impl fmt::Display for AddressDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.endpoint {
            EndpointRole::Provider => "the provider's host",
            EndpointRole::TokenEndpoint => "the token endpoint's host",
        };
        write!(f, "{host} has {} address, which is denied: allow its range with {ALLOW_FLAG}", self.kind.with_article())
    }
}

/// Which addresses may be connected to. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    allowed: Arc<[AllowedRange]>,
}

impl AddressRules {
    /// Public addresses and these ranges.
    pub fn allowing(ranges: impl IntoIterator<Item = AllowedRange>) -> Self {
        Self { allowed: ranges.into_iter().collect() }
    }

    /// Public addresses and loopback: for tests and benches, whose banks run on the same host.
    pub fn with_loopback() -> Self {
        let v4 = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
        Self::allowing([AllowedRange(v4.into()), AllowedRange(IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)))])
    }

    /// Checks whether `address` may be connected to; the error is the kind of the denied address.
    pub fn check(&self, address: IpAddr) -> Result<(), AddressKind> {
        let inner = embedded_ipv4(address);
        let Some(kind) = kind_of(inner) else { return Ok(()) };
        let allowed = self.allowed.iter().any(|AllowedRange(net)| {
            let matches = net.contains(&inner) || net.contains(&address);
            // A wide range is meant for neighbours, not for the node's credentials: a metadata service must be allowed
            // by its exact address.
            matches && (kind != AddressKind::Metadata || net.prefix_len() == net.max_prefix_len())
        });
        if allowed { Ok(()) } else { Err(kind) }
    }

    /// Checks the host of a URL, where it is an address and not a name. The URL parser has normalized the notation.
    pub fn check_url(&self, url: &Url) -> Result<(), AddressKind> {
        ip_host(url).map_or(Ok(()), |address| self.check(address))
    }
}

/// The URL's host if it is an IP address; `None` for a name.
fn ip_host(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
