use reqwest::Url;

use super::*;
use AddressKind::{LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, SharedCarrier, Unspecified};

fn check(rules: &AddressRules, address: &str) -> Result<(), AddressKind> {
    rules.check(address.parse().unwrap())
}

fn allowing(ranges: &[&str]) -> AddressRules {
    AddressRules::allowing(ranges.iter().map(|range| range.parse().unwrap()))
}

#[test]
fn public_addresses_are_allowed_in_every_notation() {
    for public in [
        "1.1.1.1",
        "8.8.8.8",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:81b::200e",
        // The address of an IPv4 bank in an IPv6-only cluster with DNS64.
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
        "2002:808:808::1",
    ] {
        assert_eq!(check(&AddressRules::default(), public), Ok(()), "{public}");
    }
}

#[test]
fn non_public_addresses_are_denied_by_kind() {
    for (kind, addresses) in [
        (Unspecified, &["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "64:ff9b::0.0.0.0"][..]),
        (
            Loopback,
            &[
                "127.0.0.1",
                "127.255.0.1",
                "::1",
                "::ffff:127.0.0.1",
                "::127.0.0.1",
                "64:ff9b::127.0.0.1",
                "2002:7f00:1::",
            ],
        ),
        (
            Private,
            &[
                "10.0.0.1",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.0.1",
                "fc00::1",
                "fd12::1",
                "fec0::1",
                "::ffff:10.0.0.1",
                "2002:a00:1::1",
                "::ffff:0:10.0.0.1",
            ],
        ),
        (LinkLocal, &["169.254.0.1", "fe80::1", "febf::1", "64:ff9b::169.254.0.1"]),
        (SharedCarrier, &["100.64.0.1", "100.127.255.255", "::ffff:100.64.0.1"]),
        (
            Metadata,
            &[
                "169.254.169.254",
                "169.254.170.2",
                "169.254.170.23",
                "168.63.129.16",
                "100.100.100.200",
                "192.0.0.192",
                "fd00:ec2::254",
                "fd20:ce::254",
                "::ffff:169.254.169.254",
                "64:ff9b::a9fe:a9fe",
                "2002:a9fe:a9fe::",
            ],
        ),
        (Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1", "::ffff:224.0.0.1"]),
        (
            Reserved,
            &[
                "192.0.0.1",
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "198.18.0.1",
                "198.19.0.1",
                "192.88.99.1",
                "240.0.0.1",
                "255.255.255.255",
                "2001::1",
                "2001:db8::1",
                "3fff::1",
                "100::1",
                "64:ff9b:1::1",
                "5f00::1",
                "4000::1",
            ],
        ),
    ] {
        for address in addresses {
            assert_eq!(check(&AddressRules::default(), address), Err(kind), "{address}");
        }
    }
}

#[test]
fn an_allowed_range_does_not_include_its_neighbours() {
    let rules = allowing(&["10.1.0.0/16", "fd00:1::/32", "127.0.0.1"]);
    for allowed in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00:1::5", "127.0.0.1"] {
        assert_eq!(check(&rules, allowed), Ok(()), "{allowed}");
    }
    for denied in ["10.2.0.1", "fd00:2::5", "127.0.0.2", "::1"] {
        assert!(check(&rules, denied).is_err(), "{denied}");
    }
    assert_eq!(check(&AddressRules::with_loopback(), "127.0.0.1"), Ok(()));
    assert_eq!(check(&AddressRules::with_loopback(), "::1"), Ok(()));
    assert_eq!(check(&AddressRules::with_loopback(), "10.0.0.1"), Err(Private));
}

#[test]
fn a_metadata_service_is_allowed_only_by_its_exact_address() {
    for wide in ["0.0.0.0/0", "169.254.0.0/16", "169.254.169.254/31", "100.64.0.0/10"] {
        let rules = allowing(&[wide]);
        assert_eq!(check(&rules, "169.254.169.254"), Err(Metadata), "{wide}");
        assert_eq!(check(&rules, "100.100.100.200"), Err(Metadata), "{wide}");
    }
    assert_eq!(check(&allowing(&["169.254.169.254"]), "169.254.169.254"), Ok(()));
    assert_eq!(check(&allowing(&["fd00:ec2::254/128"]), "fd00:ec2::254"), Ok(()));
}

#[test]
fn the_host_of_a_url_is_checked_in_every_notation() {
    let check = |url: &str| AddressRules::default().check_url(&Url::parse(url).unwrap());
    for loopback in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://[::1]:80/",
        "http://[::ffff:7f00:1]/",
        "http://0177.0.0.1/",
    ] {
        assert_eq!(check(loopback), Err(Loopback), "{loopback}");
    }
    assert_eq!(check("http://169.254.169.254/latest/meta-data"), Err(Metadata));
    assert_eq!(check("https://bank.example/"), Ok(()), "names are checked after they are resolved");
}

#[test]
fn invalid_ranges_are_rejected() {
    for bad in ["", "10.0.0.0/33", "10.1.2.3/8", "localhost", "::1/129", "10.0.0.0-10.0.0.9"] {
        assert!(bad.parse::<AllowedRange>().is_err(), "{bad}");
    }
    assert_eq!("10.1.2.3".parse::<AllowedRange>().unwrap().to_string(), "10.1.2.3/32");
}

#[test]
fn a_denial_names_the_kind_and_the_flag_and_not_the_address() {
    let denied = AddressDenied { endpoint: EndpointRole::TokenEndpoint, kind: Metadata };
    let text = "the token endpoint's host has a cloud metadata address, which is denied: allow its range with \
                --allow-provider-addresses";
    assert_eq!(denied.to_string(), text);
}
