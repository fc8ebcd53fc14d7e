//! HTTP clients, shared by all connections that need the same kind.
//!
//! A client owns a connection pool, a TLS configuration and its roots: too much to have ten thousand of. What may differ
//! between two connections is a shape; clients live as long as a connection needs their shape. No environment
//! proxies, no redirects: a provider's address is the one that was configured, and nothing else. Not even those of the same
//! origin: a redirect followed down here would leave the base URL's path, resend credentials and spend quota unseen, and
//! a bank that moves is a change of the connection that somebody should make.
//!
//! Addresses are checked here, where they are about to be connected to: those that a name resolves to by the resolver of
//! every client, those that a URL spells out when its client is asked for. A connection that is kept alive goes on to the
//! address that was checked. Connections of one shape share kept-alive connections to one origin; who presents a client
//! certificate has a shape of his own, so nobody speaks on a connection that another identity opened.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Url, redirect};
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};

use crate::provider::addresses::{AddressKind, AddressProblem, AddressRules, Peer};
use crate::provider::call::CallError;
use crate::provider::settings::{MinVersion, Settings, Tls, tls};

/// Idle connections kept per host: enough for a burst of syncs and probes to one bank, and a bound for one that never
/// ends a connection.
const IDLE_PER_HOST: usize = 64;
/// Longer than the common probe interval, so that probes find their connection alive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A client, and what to do to a URL before it is sent.
#[derive(Clone)]
pub struct Client {
    http: Result<Arc<Shared>, CallError>,
    server_name: Option<Arc<str>>,
}

struct Shared {
    client: reqwest::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// The HTTP client, or why there is none.
    pub(crate) fn http(&self) -> Result<&reqwest::Client, CallError> {
        self.http.as_ref().map(|shared| &shared.client).map_err(Clone::clone)
    }

    /// Whether both are one client, and share its connections.
    pub(crate) fn is(&self, other: &Self) -> bool {
        matches!((&self.http, &other.http), (Ok(one), Ok(other)) if Arc::ptr_eq(one, other))
    }

    /// Where to send a request for `url`, and its `Host` header where that is not the URL's own.
    ///
    /// The TLS layer asks for and verifies the host of the URL it is given. Under `tls.serverName` that must be another
    /// name than the one connected to, so the URL gets the server name, this shape's resolver leads it to the base URL's
    /// address, and `Host` stays what the base URL says.
    pub(crate) fn aim(&self, mut url: Url) -> Result<(Url, Option<String>), CallError> {
        let Some(name) = &self.server_name else { return Ok((url, None)) };
        let host = url.host_str().unwrap_or_default().to_owned();
        let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        // Only a name goes through the resolver, which is where addresses are checked.
        if url.set_host(Some(name)).is_err() || url.domain().is_none() {
            return Err(CallError::Client("tls.serverName is no name".into()));
        }
        Ok((url, Some(authority)))
    }
}

/// What makes two connections need two clients.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Shape {
    connect: Duration,
    /// Plain HTTP needs no roots, and must work where none are installed.
    secure: bool,
    ca: Option<[u8; 32]>,
    client: Option<[u8; 32]>,
    min_version: MinVersion,
    /// Server name and the host that it is reached at.
    rename: Option<(Arc<str>, String)>,
}

/// All clients in use.
#[derive(Clone, Default)]
pub struct Clients {
    by_shape: Arc<Mutex<HashMap<Shape, Weak<Shared>>>>,
    rules: AddressRules,
}

impl Clients {
    /// None yet; they will connect to what `rules` allow.
    pub fn new(rules: AddressRules) -> Self {
        Self { by_shape: Arc::default(), rules }
    }

    /// What may be connected to.
    pub fn rules(&self) -> &AddressRules {
        &self.rules
    }

    /// The client for calls to the connection's base URL.
    pub fn for_provider(&self, settings: &Settings) -> Client {
        self.client(settings, settings.base_url())
    }

    /// The client for calls to `url`, in the manner of the connection. `serverName` speaks of the base URL's host only.
    pub fn client(&self, settings: &Settings, url: &Url) -> Client {
        let tls = settings.tls();
        let secure = url.scheme() == "https";
        let same_host = url.host_str() == settings.base_url().host_str();
        let server_name: Option<Arc<str>> = tls
            .server_name
            .as_deref()
            .filter(|name| secure && same_host && url.host_str() != Some(name))
            .map(Arc::from);
        if server_name.is_none()
            && let Err(kind) = self.rules.check_url(url)
        {
            let problem = AddressProblem { peer: Peer::Provider, kind };
            return Client { http: Err(CallError::Refused(problem)), server_name };
        }
        let shape = Shape {
            connect: settings.timeouts().connect,
            secure,
            ca: tls.ca.as_deref().filter(|_| secure).map(|pem| Sha256::digest(pem).into()),
            client: tls.client.as_ref().filter(|_| secure).map(|client| {
                let key = client.key.expose_secret().as_bytes();
                Sha256::new().chain_update(&client.certificate).chain_update(key).finalize().into()
            }),
            min_version: if secure { tls.min_version } else { MinVersion::default() },
            rename: server_name.clone().map(|name| (name, url.host_str().unwrap_or_default().to_owned())),
        };
        let mut by_shape = self.by_shape.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = by_shape.get(&shape).and_then(Weak::upgrade) {
            return Client { http: Ok(shared), server_name };
        }
        by_shape.retain(|_, shared| shared.strong_count() > 0);
        let http = build(&shape, tls, &self.rules).map(|client| Arc::new(Shared { client })).map_err(CallError::Client);
        if let Ok(shared) = &http {
            by_shape.insert(shape, Arc::downgrade(shared));
        }
        Client { http, server_name }
    }

    /// How many clients are in use.
    pub fn len(&self) -> usize {
        let by_shape = self.by_shape.lock().unwrap_or_else(PoisonError::into_inner);
        by_shape.values().filter(|shared| shared.strong_count() > 0).count()
    }

    /// Whether none is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn build(shape: &Shape, tls: &Tls, rules: &AddressRules) -> Result<reqwest::Client, Arc<str>> {
    let instead = shape.rename.as_ref().map(|(_, host)| Arc::from(host.as_str()));
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("busbar/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(shape.connect)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_nodelay(true)
        .dns_resolver(Arc::new(Names { instead, rules: rules.clone() }));
    if !shape.secure {
        builder = builder.tls_certs_only([]);
    } else if let Some(ca) = &tls.ca {
        let roots = tls::certificates(ca).ok_or("ca.crt cannot be read")?;
        builder = builder.tls_certs_only(roots);
    }
    if shape.min_version == MinVersion::Tls13 {
        builder = builder.tls_version_min(reqwest::tls::Version::TLS_1_3);
    }
    if shape.secure
        && let Some(client) = &tls.client
    {
        builder = builder.identity(tls::identity(client).ok_or("tls.crt and tls.key cannot be read")?);
    }
    if shape.rename.is_some() {
        // HTTP/2 has no `Host` beside `:authority`, which is the URL's.
        builder = builder.http1_only();
    }
    // The text of a builder's error is about certificates and never holds a key or a URL.
    builder.build().map_err(|error| Arc::from(error.without_url().to_string()))
}

/// Resolves names with the system's resolver; where a server name stands in for the host, resolves the host. What may
/// not be connected to is left out of the answer.
struct Names {
    instead: Option<Arc<str>>,
    rules: AddressRules,
}

/// The name has no address. A type of its own, so that it can be told from other failures to connect.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(crate) struct NoSuchName;

/// The name has addresses, and none may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the name has {} address, which is not allowed", .0.as_str())]
pub(crate) struct NotAllowed(pub(crate) AddressKind);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let host = self.instead.clone().unwrap_or_else(|| Arc::from(name.as_str()));
        let rules = self.rules.clone();
        Box::pin(async move {
            // A URL writes IPv6 addresses in brackets; a lookup does not know them.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let mut refused = None;
            let mut found: Vec<SocketAddr> =
                tokio::net::lookup_host((host, 0)).await.map_err(|_| NoSuchName)?.collect();
            found.retain(|address| match rules.check(address.ip()) {
                Ok(()) => true,
                Err(kind) => {
                    refused = Some(kind);
                    false
                }
            });
            match refused {
                _ if !found.is_empty() => Ok::<Addrs, _>(Box::new(found.into_iter())),
                Some(kind) => Err(NotAllowed(kind).into()),
                None => Err(NoSuchName.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::settings::Draft;
    use crate::provider::testkit::settings;

    fn client(clients: &Clients, change: impl FnOnce(&mut Draft)) -> (Client, Arc<Settings>) {
        let settings = settings(change);
        (clients.for_provider(&settings), settings)
    }

    fn allowing(ranges: &[&str]) -> Clients {
        Clients::new(AddressRules::allowing(ranges.iter().map(|range| range.parse().unwrap())))
    }

    #[test]
    fn connections_of_one_shape_share_a_client_and_the_last_one_takes_it_along() {
        let clients = Clients::default();
        let all: Vec<_> = (0..100)
            .map(|n| client(&clients, |draft| draft.base_url = format!("http://bank-{n}.test/v{n}")).0)
            .collect();
        assert_eq!(clients.len(), 1);
        let secure = client(&clients, |draft| draft.base_url = "https://bank.test".to_owned());
        let slow = client(&clients, |draft| draft.timeouts.connect = Duration::from_mins(1));
        assert_eq!(clients.len(), 3);
        drop((all, secure, slow));
        assert!(clients.is_empty());
    }

    #[test]
    fn a_server_name_goes_into_the_url_and_the_host_stays_what_it_was() {
        let (client, settings) = client(&allowing(&["10.0.0.0/8"]), |draft| {
            draft.base_url = "https://10.0.0.1:8443/v1".to_owned();
            draft.tls.server_name = Some("bank.internal".to_owned());
        });
        let (url, host) = client.aim(settings.base_url().clone()).unwrap();
        assert_eq!(url.as_str(), "https://bank.internal:8443/v1");
        assert_eq!(host.as_deref(), Some("10.0.0.1:8443"));
    }

    #[test]
    fn two_addresses_behind_one_server_name_never_share_connections() {
        let clients = Clients::default();
        let named = |host: &'static str| {
            client(&clients, move |draft| {
                draft.base_url = format!("https://{host}");
                draft.tls.server_name = Some("bank.internal".to_owned());
            })
        };
        let both = (named("a.test"), named("b.test"));
        assert_eq!(clients.len(), 2);
        drop(both);
    }

    #[test]
    fn a_server_name_speaks_of_the_base_urls_host_only() {
        let clients = Clients::default();
        let (_, settings) = client(&clients, |draft| {
            draft.base_url = "https://bank.test".to_owned();
            draft.tls.server_name = Some("bank.internal".to_owned());
        });
        let token_url = Url::parse("https://login.test/token").unwrap();
        assert_eq!(clients.client(&settings, &token_url).aim(token_url.clone()), Ok((token_url, None)));
    }
}
