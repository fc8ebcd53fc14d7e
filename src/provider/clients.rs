//! HTTP clients, shared by all connections that need the same kind.
//!
//! A client owns a connection pool, a TLS configuration and its roots: too much to have ten thousand of. What may differ
//! between two connections is a shape; clients live as long as a connection needs their shape. No environment
//! proxies, no redirects: a provider's address is the one that was configured, and nothing else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Url, redirect};
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};

use crate::provider::settings::{Settings, Tls, tls};

/// Idle connections kept per host: enough for a burst of syncs and probes to one bank, and a bound for one that never
/// ends a connection.
const IDLE_PER_HOST: usize = 64;
/// Longer than the common probe interval, so that probes find their connection alive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A client, and what to do to a URL before it is sent.
#[derive(Clone)]
pub struct Client {
    http: Result<Arc<Shared>, Arc<str>>,
    server_name: Option<Arc<str>>,
}

struct Shared {
    client: reqwest::Client,
}

impl Client {
    /// The HTTP client, or why there is none.
    pub(crate) fn http(&self) -> Result<&reqwest::Client, Arc<str>> {
        self.http.as_ref().map(|shared| &shared.client).map_err(Arc::clone)
    }

    /// Where to send a request for `url`, and its `Host` header where that is not the URL's own.
    ///
    /// The TLS layer asks for and verifies the host of the URL it is given. Under `tls.serverName` that must be another
    /// name than the one connected to, so the URL gets the server name, this shape's resolver leads it to the base URL's
    /// address, and `Host` stays what the base URL says.
    pub(crate) fn aim(&self, mut url: Url) -> (Url, Option<String>) {
        let Some(name) = &self.server_name else { return (url, None) };
        let host = url.host_str().unwrap_or_default().to_owned();
        let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        match url.set_host(Some(name)) {
            Ok(()) => (url, Some(authority)),
            Err(_) => (url, None),
        }
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
    /// Server name and the host that it is reached at.
    rename: Option<(Arc<str>, String)>,
}

/// All clients in use.
#[derive(Clone, Default)]
pub struct Clients {
    by_shape: Arc<Mutex<HashMap<Shape, Weak<Shared>>>>,
}

impl Clients {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
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
        let shape = Shape {
            connect: settings.timeouts().connect,
            secure,
            ca: tls.ca.as_deref().filter(|_| secure).map(|pem| Sha256::digest(pem).into()),
            client: tls.client.as_ref().filter(|_| secure).map(|client| {
                let key = client.key.expose_secret().as_bytes();
                Sha256::new().chain_update(&client.certificate).chain_update(key).finalize().into()
            }),
            rename: server_name.clone().map(|name| (name, url.host_str().unwrap_or_default().to_owned())),
        };
        let mut by_shape = self.by_shape.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = by_shape.get(&shape).and_then(Weak::upgrade) {
            return Client { http: Ok(shared), server_name };
        }
        by_shape.retain(|_, shared| shared.strong_count() > 0);
        let http = build(&shape, tls).map(|client| Arc::new(Shared { client }));
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

fn build(shape: &Shape, tls: &Tls) -> Result<reqwest::Client, Arc<str>> {
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
        .dns_resolver(Arc::new(Names { instead: shape.rename.as_ref().map(|(_, host)| Arc::from(host.as_str())) }));
    if !shape.secure {
        builder = builder.tls_certs_only([]);
    } else if let Some(ca) = &tls.ca {
        let roots = tls::certificates(ca).ok_or("ca.crt cannot be read")?;
        builder = builder.tls_certs_only(roots);
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

/// Resolves names with the system's resolver; where a server name stands in for the host, resolves the host.
struct Names {
    instead: Option<Arc<str>>,
}

/// The name has no address. A type of its own, so that it can be told from other failures to connect.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(crate) struct NoSuchName;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let host = self.instead.clone().unwrap_or_else(|| Arc::from(name.as_str()));
        Box::pin(async move {
            // A URL writes IPv6 addresses in brackets; a lookup does not know them.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await.map_err(|_| NoSuchName)?.collect();
            if found.is_empty() {
                return Err(NoSuchName.into());
            }
            Ok::<Addrs, _>(Box::new(found.into_iter()))
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

    #[test]
    fn connections_of_one_shape_share_a_client_and_the_last_one_takes_it_along() {
        let clients = Clients::new();
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
        let (client, settings) = client(&Clients::new(), |draft| {
            draft.base_url = "https://10.0.0.1:8443/v1".to_owned();
            draft.tls.server_name = Some("bank.internal".to_owned());
        });
        let (url, host) = client.aim(settings.base_url().clone());
        assert_eq!(url.as_str(), "https://bank.internal:8443/v1");
        assert_eq!(host.as_deref(), Some("10.0.0.1:8443"));
    }

    #[test]
    fn two_addresses_behind_one_server_name_never_share_connections() {
        let clients = Clients::new();
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
        let clients = Clients::new();
        let (_, settings) = client(&clients, |draft| {
            draft.base_url = "https://bank.test".to_owned();
            draft.tls.server_name = Some("bank.internal".to_owned());
        });
        let token_url = Url::parse("https://login.test/token").unwrap();
        assert_eq!(clients.client(&settings, &token_url).aim(token_url.clone()), (token_url, None));
    }
}
