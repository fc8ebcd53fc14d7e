//! The resolver of an HTTP client: the addresses of a name without those that must not be connected to
//! (`docs/adr/0004-keys-are-mounted-addresses-are-checked-at-the-connection.md`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::resolver::DnsResolver;
use crate::settings::addresses::{AddressKind, AddressRules};

/// Addresses that one connection attempt tries: they share its time, and with a thousand of them each would have none.
const MAX_TRIED: usize = 8;

/// Resolves names, or `resolve_as` in place of a server name. Addresses that are not allowed are filtered out.
pub(crate) struct FilteringResolver {
    pub(crate) resolver: DnsResolver,
    pub(crate) resolve_as: Option<Arc<str>>,
    pub(crate) rules: AddressRules,
}

/// The name has no address. A separate type, to distinguish it from other connect errors.
#[derive(Debug, thiserror::Error)]
#[error("name resolution failed")]
pub(crate) struct NameNotFound;

/// The name has addresses, and none is allowed.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to {} address, which is not allowed", .0.with_article())]
pub(crate) struct AddressNotAllowed(pub(crate) AddressKind);

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = self.resolve_as.clone().unwrap_or_else(|| Arc::from(name.as_str()));
        let (resolver, rules) = (self.resolver.clone(), self.rules.clone());
        Box::pin(async move {
            // URLs put IPv6 addresses in brackets.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let found = match host.parse::<IpAddr>() {
                Ok(address) => Arc::from([address]),
                Err(_) => resolver.resolve(host).await.ok_or(NameNotFound)?,
            };
            match allowed(&found, &rules) {
                Ok(allowed) => {
                    let addresses: Addrs = Box::new(allowed.into_iter());
                    Ok(addresses)
                }
                Err(Some(kind)) => Err(AddressNotAllowed(kind).into()),
                Err(None) => Err(NameNotFound.into()),
            }
        })
    }
}

/// The first addresses that are allowed; if there are none, the kind of those that are not.
fn allowed(found: &[IpAddr], rules: &AddressRules) -> Result<Vec<SocketAddr>, Option<AddressKind>> {
    let mut refused = None;
    let mut allowed = Vec::new();
    for address in found {
        match rules.check(*address) {
            Ok(()) if allowed.len() < MAX_TRIED => allowed.push(SocketAddr::new(*address, 0)),
            Ok(()) => {}
            Err(kind) => refused = Some(kind),
        }
    }
    if allowed.is_empty() { Err(refused) } else { Ok(allowed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_tries_few_addresses_and_only_allowed_ones() {
        let private = (0..1_000_u16).map(|n| IpAddr::from([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]));
        let public = (0..=255).map(|n| IpAddr::from([93, 184, 216, n]));
        let all: Vec<IpAddr> = private.clone().chain(public).collect();
        let tried = allowed(&all, &AddressRules::default()).unwrap();
        assert_eq!(tried.len(), MAX_TRIED);
        assert!(tried.iter().all(|address| address.ip().to_string().starts_with("93.")));
        let private: Vec<IpAddr> = private.collect();
        assert!(allowed(&private, &AddressRules::default()).unwrap_err().is_some());
        assert_eq!(allowed(&[], &AddressRules::default()), Err(None));
    }
}
