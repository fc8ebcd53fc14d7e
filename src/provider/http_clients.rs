//! HTTP clients, shared by all connections with the same client configuration.
//!
//! A client owns a connection pool, a TLS configuration and its roots: too much for ten thousand instances. Clients are
//! keyed by the settings that may differ, and live as long as a connection uses them. Environment proxies and redirects
//! are off: only the configured address is called. Redirects within one origin are off too: they would leave the base
//! URL's path, resend credentials and spend quota unseen, and a moved endpoint is a change to make in the connection's
//! spec.
//!
//! Addresses are checked at connect time: the resolver of every client (`FilteringResolver`) checks those that a name
//! resolves to; those in a URL are checked when its client is looked up. A kept-alive connection stays on the address
//! that was checked.
//! Connections with one key share kept-alive connections to one origin; a client certificate is part of the key, so no
//! request is sent on a connection that another identity opened.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use reqwest::{Url, redirect};
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};

use crate::provider::call::CallError;
use crate::provider::connect_observer::ObserveConnects;
use crate::provider::dns::{DnsResolver, FilteringResolver};
use crate::settings::addresses::{AddressDenied, AddressRules, EndpointRole};
use crate::settings::{MinVersion, Settings, Tls, tls};

/// Idle connections per host: enough for a burst of syncs and probes to one provider, and a bound for a provider that
/// never closes connections.
const MAX_IDLE_PER_HOST: usize = 64;
/// Bytes of one HTTP/2 response that are received before they are read; a page has fewer at common latencies.
const STREAM_WINDOW: u32 = 512 * 1024;
/// The same of one HTTP/2 connection, whatever the number of its responses.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Longer than the common probe interval, so that probes reuse their connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A client, and the TLS server name that replaces the host of its URLs.
#[derive(Clone)]
pub struct HttpClient {
    http: Result<Arc<SharedClient>, CallError>,
    server_name: Option<Arc<str>>,
}

struct SharedClient {
    client: reqwest::Client,
    /// Built on first use: few providers end connections in the wrong moment.
    fresh: OnceLock<Result<reqwest::Client, Arc<str>>>,
    recipe: ClientRecipe,
}

/// What a client is built from.
struct ClientRecipe {
    key: ClientKey,
    tls: Tls,
    rules: AddressRules,
    resolver: DnsResolver,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl HttpClient {
    /// The HTTP client, or why it could not be built.
    pub(crate) fn http(&self) -> Result<&reqwest::Client, CallError> {
        self.http.as_ref().map(|shared| &shared.client).map_err(Clone::clone)
    }

    /// The same client without kept-alive connections: each request connects anew.
    pub(crate) fn fresh(&self) -> Result<&reqwest::Client, CallError> {
        let shared = self.http.as_ref().map_err(Clone::clone)?;
        let fresh = shared.fresh.get_or_init(|| shared.recipe.build(0));
        fresh.as_ref().map_err(|problem| CallError::Client(Arc::clone(problem)))
    }

    /// The URL to send a request for `url` to, and its `Host` header if it differs from that URL's host.
    ///
    /// The TLS layer sends and verifies the host of the URL. With `tls.serverName` that must be another name than the
    /// one connected to: the URL gets the server name, the client's resolver resolves it to the base URL's address, and
    /// `Host` stays that of the base URL.
    pub(crate) fn request_target(&self, mut url: Url) -> Result<(Url, Option<String>), CallError> {
        let Some(name) = &self.server_name else { return Ok((url, None)) };
        let host = url.host_str().unwrap_or_default().to_owned();
        let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        // Only names go through the resolver, which checks the addresses.
        if url.set_host(Some(name)).is_err() || url.domain().is_none() {
            return Err(CallError::Client("tls.serverName is not a DNS name".into()));
        }
        Ok((url, Some(authority)))
    }
}

/// The settings by which clients differ.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    connect: Duration,
    /// Plain HTTP needs no roots and must work without installed ones.
    secure: bool,
    ca: Option<[u8; 32]>,
    client: Option<[u8; 32]>,
    min_version: MinVersion,
    /// The server name and the host that it is resolved as.
    server_name: Option<(Arc<str>, String)>,
}

/// All clients in use. Clones share them.
#[derive(Clone, Default)]
pub struct HttpClients {
    by_key: Arc<Mutex<HashMap<ClientKey, Weak<SharedClient>>>>,
    rules: AddressRules,
    resolver: DnsResolver,
}

impl HttpClients {
    /// No clients yet; they will connect only to addresses that `rules` allow.
    pub fn new(rules: AddressRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// The same, whose clients resolve names with `resolver`.
    #[must_use]
    pub(crate) fn with_resolver(self, resolver: DnsResolver) -> Self {
        Self { resolver, ..self }
    }

    /// The addresses that may be connected to.
    pub fn rules(&self) -> &AddressRules {
        &self.rules
    }

    /// The client for calls to the connection's base URL.
    pub fn for_provider(&self, settings: &Settings) -> HttpClient {
        self.for_url(settings, settings.base_url())
    }

    /// The client for calls to `url` with the settings of the connection. `tls.serverName` applies to the base URL's
    /// host only.
    pub fn for_url(&self, settings: &Settings, url: &Url) -> HttpClient {
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
            let problem = AddressDenied { endpoint: EndpointRole::Provider, kind };
            return HttpClient { http: Err(CallError::AddressRefused(problem)), server_name };
        }
        let key = ClientKey {
            connect: settings.timeouts().connect,
            secure,
            ca: tls.ca.as_deref().filter(|_| secure).map(|pem| Sha256::digest(pem).into()),
            client: tls.client.as_ref().filter(|_| secure).map(|client| {
                let private_key = client.key.expose_secret().as_bytes();
                Sha256::new().chain_update(&client.certificate).chain_update(private_key).finalize().into()
            }),
            min_version: if secure { tls.min_version } else { MinVersion::default() },
            server_name: server_name.clone().map(|name| (name, url.host_str().unwrap_or_default().to_owned())),
        };
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = by_key.get(&key).and_then(Weak::upgrade) {
            return HttpClient { http: Ok(shared), server_name };
        }
        by_key.retain(|_, shared| shared.strong_count() > 0);
        let (rules, resolver) = (self.rules.clone(), self.resolver.clone());
        let recipe = ClientRecipe { key: key.clone(), tls: tls.clone(), rules, resolver };
        let http = match recipe.build(MAX_IDLE_PER_HOST) {
            Ok(client) => Ok(Arc::new(SharedClient { client, fresh: OnceLock::new(), recipe })),
            Err(problem) => Err(CallError::Client(problem)),
        };
        if let Ok(shared) = &http {
            by_key.insert(key, Arc::downgrade(shared));
        }
        HttpClient { http, server_name }
    }

    /// The number of clients in use.
    pub fn len(&self) -> usize {
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.values().filter(|shared| shared.strong_count() > 0).count()
    }

    /// Whether no client is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ClientRecipe {
    /// A client that keeps this many idle connections per host.
    fn build(&self, idle_per_host: usize) -> Result<reqwest::Client, Arc<str>> {
        let Self { key, tls, rules, resolver } = self;
        let resolve_as = key.server_name.as_ref().map(|(_, host)| Arc::from(host.as_str()));
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("busbar/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(key.connect)
            .pool_max_idle_per_host(idle_per_host)
            .connector_layer(ObserveConnects)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .dns_resolver(Arc::new(FilteringResolver { resolver: resolver.clone(), resolve_as, rules: rules.clone() }));
        if !key.secure {
            builder = builder.tls_certs_only([]);
        } else if let Some(ca) = &tls.ca {
            let roots = tls::certificates(ca).ok_or("ca.crt cannot be read")?;
            builder = builder.tls_certs_only(roots);
        }
        if key.min_version == MinVersion::Tls13 {
            builder = builder.tls_version_min(reqwest::tls::Version::TLS_1_3);
        }
        if key.secure
            && let Some(client) = &tls.client
        {
            builder = builder.identity(tls::identity(client).ok_or("tls.crt and tls.key cannot be read")?);
        }
        if key.server_name.is_some() {
            // HTTP/2 has only `:authority`, which is the URL's host, and no separate `Host`.
            builder = builder.http1_only();
        }
        // A builder error is about certificates and never contains a key or a URL.
        builder.build().map_err(|error| Arc::from(error.without_url().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::testkit::settings;
    use crate::settings::Draft;

    fn client(clients: &HttpClients, change: impl FnOnce(&mut Draft)) -> (HttpClient, Arc<Settings>) {
        let settings = settings(change);
        (clients.for_provider(&settings), settings)
    }

    fn allowing(ranges: &[&str]) -> HttpClients {
        HttpClients::new(AddressRules::allowing(ranges.iter().map(|range| range.parse().unwrap())))
    }

    #[test]
    fn connections_with_one_key_share_a_client_until_the_last_is_dropped() {
        let clients = HttpClients::default();
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
    fn a_server_name_replaces_the_url_host_and_keeps_the_host_header() {
        let (client, settings) = client(&allowing(&["10.0.0.0/8"]), |draft| {
            draft.base_url = "https://10.0.0.1:8443/v1".to_owned();
            draft.tls.server_name = Some("bank.internal".to_owned());
        });
        let (url, host) = client.request_target(settings.base_url().clone()).unwrap();
        assert_eq!(url.as_str(), "https://bank.internal:8443/v1");
        assert_eq!(host.as_deref(), Some("10.0.0.1:8443"));
    }

    #[test]
    fn two_hosts_with_one_server_name_never_share_connections() {
        let clients = HttpClients::default();
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
    fn a_server_name_applies_to_the_base_urls_host_only() {
        let clients = HttpClients::default();
        let (_, settings) = client(&clients, |draft| {
            draft.base_url = "https://bank.test".to_owned();
            draft.tls.server_name = Some("bank.internal".to_owned());
        });
        let token_url = Url::parse("https://login.test/token").unwrap();
        assert_eq!(clients.for_url(&settings, &token_url).request_target(token_url.clone()), Ok((token_url, None)));
    }
}
