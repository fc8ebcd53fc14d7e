//! The system's name servers: `/etc/hosts` first, then the servers, search domains and `ndots` of `/etc/resolv.conf`.
//!
//! Both files are read again when they change, which a laptop's do and a Pod's may.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, Resolver, TokioResolver, system_conf};

use super::lookup::{Addresses, LookupError, NameLookup};
use crate::clock::Clock;
use crate::domain::time::Mono;

/// Files whose change is noticed.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// Interval at which the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Time of one try: servers that have to ask others first need a second or two; with the two more that follow it fits the
/// time of a look-up.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);
/// Tries after the first.
const MAX_RETRIES: usize = 2;
/// Requests in flight on one TCP connection to a server: its default of 32 would refuse others while some hang.
const MAX_TCP_REQUESTS: usize = 1_024;
/// How long an entry of `/etc/hosts` is cached: until the file is looked at again.
const HOSTS_TTL: Duration = CHECK_INTERVAL;

/// Looks up names as the system's configuration says.
pub(super) struct SystemLookup {
    clock: Clock,
    current: Mutex<Option<Loaded>>,
}

/// The configuration that was read, and when.
struct Loaded {
    checked: Mono,
    changed: [Option<SystemTime>; 2],
    servers: Arc<NameServers>,
}

impl SystemLookup {
    /// Reads the configuration at the first look-up.
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, current: Mutex::default() }
    }

    /// The configuration in force.
    fn current(&self) -> Arc<NameServers> {
        let now = self.clock.mono();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = current.as_mut() {
            if now.since(loaded.checked) < CHECK_INTERVAL {
                return Arc::clone(&loaded.servers);
            }
            loaded.checked = now;
            if loaded.changed == changed() {
                return Arc::clone(&loaded.servers);
            }
        }
        let changed = changed();
        let servers = Arc::new(NameServers::of_system());
        *current = Some(Loaded { checked: now, changed, servers: Arc::clone(&servers) });
        servers
    }
}

impl NameLookup for SystemLookup {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Addresses, LookupError>> {
        let servers = self.current();
        async move { servers.lookup(name).await }.boxed()
    }
}

/// When the files were last changed.
fn changed() -> [Option<SystemTime>; 2] {
    FILES.map(|file| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok())
}

/// The static names and the servers.
pub(super) struct NameServers {
    hosts: Hosts,
    /// `None` if the configuration cannot be used: only static names are resolved.
    resolver: Option<TokioResolver>,
}

impl NameServers {
    fn of_system() -> Self {
        let hosts = Hosts::from_system().unwrap_or_default();
        // Without the file, or without a server in it, the server is on this machine: resolv.conf(5).
        let (config, options) = system_conf::read_system_conf().unwrap_or_else(|_| {
            let local = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
            (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
        });
        // Not the domain of the machine's own name, which the library searches first: only what the file says.
        let (search, servers) = (config.search().to_vec(), config.name_servers().to_vec());
        Self::new(hosts, ResolverConfig::from_parts(None, search, servers), options)
    }

    pub(super) fn new(hosts: Hosts, config: ResolverConfig, options: ResolverOpts) -> Self {
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let used = builder.options_mut();
        *used = options;
        used.timeout = used.timeout.min(TRY_TIMEOUT);
        used.attempts = used.attempts.min(MAX_RETRIES);
        used.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Cached by `cache.rs`; the file is read by this module.
        used.cache_size = 0;
        used.use_hosts_file = ResolveHosts::Never;
        used.max_active_requests = MAX_TCP_REQUESTS;
        let resolver = builder.build();
        if let Err(error) = &resolver {
            tracing::warn!(%error, "name servers could not be configured: only /etc/hosts is used; check /etc/resolv.conf");
        }
        Self { hosts, resolver: resolver.ok() }
    }

    pub(super) async fn lookup(&self, name: &str) -> Result<Addresses, LookupError> {
        let Ok(parsed) = Name::from_str_relaxed(name) else { return Err(LookupError::NotFound { ttl: None }) };
        let addresses = self.hosts_addresses(&parsed);
        if !addresses.is_empty() {
            return Ok(Addresses { addresses, ttl: HOSTS_TTL });
        }
        let resolver = self.resolver.as_ref().ok_or(LookupError::Failed)?;
        let found = resolver.lookup_ip(parsed).await.map_err(|error| lookup_error(&error))?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        let ttl = found.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        let ttl = Duration::from_secs(ttl.into());
        if addresses.is_empty() {
            Err(LookupError::NotFound { ttl: Some(ttl) })
        } else {
            Ok(Addresses { addresses, ttl })
        }
    }

    /// The addresses that `/etc/hosts` has for the name as it is written. The library would ask the servers for it with
    /// each search domain first, and wait for them.
    fn hosts_addresses(&self, name: &Name) -> Vec<IpAddr> {
        let types = [RecordType::A, RecordType::AAAA];
        let found =
            types.into_iter().filter_map(|kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)));
        found
            .flat_map(|found| found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
            .collect()
    }
}

fn lookup_error(error: &NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            LookupError::NotFound { ttl: none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())) }
        }
        _ => LookupError::Failed,
    }
}

#[cfg(test)]
mod tests;
