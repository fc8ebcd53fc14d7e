//! The kind of an IP address, by the IANA registries of special-purpose addresses (RFC 6890).
//!
//! IPv4: every special range is listed here. IPv6: only global unicast (`2000::/3`) can be public, so unlisted ranges
//! are denied.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A kind of address that is not public.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressKind {
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// `127.0.0.0/8`, `::1`: this host.
    Loopback,
    /// `10.0.0.0/8`, `172.16.0.0/12`, `192.168.0.0/16`, `fc00::/7`, `fec0::/10`.
    Private,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// `100.64.0.0/10`: carrier-grade NAT; many clusters use it for Pods.
    SharedCarrier,
    /// The metadata service of a cloud, which serves credentials.
    Metadata,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// Reserved for documentation, tests, tunnels or future use.
    Reserved,
}

impl AddressKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::Loopback,
        Self::Private,
        Self::LinkLocal,
        Self::SharedCarrier,
        Self::Metadata,
        Self::Multicast,
        Self::Reserved,
    ];

    /// The kind with its article, for messages: goes before "address".
    pub const fn with_article(self) -> &'static str {
        match self {
            Self::Unspecified => "an unspecified",
            Self::Loopback => "a loopback",
            Self::Private => "a private",
            Self::LinkLocal => "a link-local",
            Self::SharedCarrier => "a shared carrier (CGNAT)",
            Self::Metadata => "a cloud metadata",
            Self::Multicast => "a multicast",
            Self::Reserved => "a reserved",
        }
    }
}

/// Metadata services over IPv4: AWS, GCP, Azure and others (the first), AWS ECS and EKS, Azure's host agent, Alibaba,
/// Oracle.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// Metadata services over IPv6: AWS (instances, EKS), GCP.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// The IPv4 address that is embedded in this address, where there is one; else the address.
pub(super) fn embedded_ipv4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let join = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        // ::1 and :: are not IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        // IPv4-compatible, IPv4-mapped, IPv4-translated (RFC 2765), and NAT64's well-known prefix.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // 6to4.
        | [0x2002, high, low, ..] => join(high, low),
        _ => address,
    }
}

/// The kind of a special address; `None` if it is public. Takes the result of [`embedded_ipv4`].
pub(super) fn kind_of(address: IpAddr) -> Option<AddressKind> {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v4(v4: Ipv4Addr) -> Option<AddressKind> {
    if METADATA_V4.contains(&v4) {
        return Some(AddressKind::Metadata);
    }
    match v4.octets() {
        [0, ..] => Some(AddressKind::Unspecified),
        [127, ..] => Some(AddressKind::Loopback),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some(AddressKind::Private),
        [169, 254, ..] => Some(AddressKind::LinkLocal),
        [100, 64..=127, ..] => Some(AddressKind::SharedCarrier),
        [224..=239, ..] => Some(AddressKind::Multicast),
        // Protocols, documentation, 6to4 relays, benchmarks, future use, broadcast.
        [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [240..=255, ..] => Some(AddressKind::Reserved),
        _ => None,
    }
}

fn kind_v6(v6: Ipv6Addr) -> Option<AddressKind> {
    if METADATA_V6.contains(&v6) {
        return Some(AddressKind::Metadata);
    }
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(AddressKind::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(AddressKind::Loopback),
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some(AddressKind::Private),
        [0xfe80..=0xfebf, ..] => Some(AddressKind::LinkLocal),
        [0xff00..=0xffff, ..] => Some(AddressKind::Multicast),
        // Teredo, benchmarks, ORCHID and other protocols; documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some(AddressKind::Reserved),
        [0x2000..=0x3fff, ..] => None,
        _ => Some(AddressKind::Reserved),
    }
}
