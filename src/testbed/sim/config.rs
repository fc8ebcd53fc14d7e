//! What a simulator and a bank are made from.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::testbed::sim::auth::Auth;
use crate::testbed::sim::mono::MonoConfig;
use crate::testbed::sim::script::Script;
use crate::testbed::sim::tls::Certificate;
use crate::testbed::sim::transactions::AccountConfig;

/// Settings of one simulator.
#[derive(Clone, Debug, Default)]
pub struct SimConfig {
    /// Where the control API listens; `None` means no control API, as tests in the same process want it.
    pub control: Option<SocketAddr>,
    /// Lets banks and control API listen beyond loopback. The control API has no authentication.
    pub allow_remote: bool,
}

/// One simulated bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BankConfig {
    /// Its name within the simulator: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Where it listens, for HTTP and HTTPS alike; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The credentials it wants.
    pub auth: Auth,
    /// Paths below these need none.
    pub open_paths: Vec<String>,
    /// Answers `{"status":"ok"}`.
    pub health_path: String,
    /// What it does from the start.
    pub script: Script,
    /// Accounts of the Mono API.
    pub accounts: Vec<AccountConfig>,
    /// Details of the Mono API.
    pub mono: MonoConfig,
    /// How many collaterals the Finastra API lists.
    pub collaterals: u64,
    /// Further answers by exact path, such as another provider's check: path → JSON body.
    pub canned: BTreeMap<String, String>,
    /// Further names in its certificate, beside `localhost`, `127.0.0.1`, `::1` and `<name>.sim.test`.
    pub server_names: Vec<String>,
    /// What is wrong with its certificate.
    pub certificate: Certificate,
    /// Whether it speaks TLS only with clients that show a certificate of the simulator's authority.
    pub demands_certificate: bool,
    /// Whether it speaks TLS 1.2 and nothing newer.
    pub only_tls12: bool,
    /// How many arrivals are kept.
    pub log_capacity: usize,
    /// Seeds chance (shares of a script) and generated data.
    pub seed: u64,
}

impl Default for BankConfig {
    fn default() -> Self {
        Self {
            name: "bank".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            auth: Auth::None,
            open_paths: Vec::new(),
            health_path: "/health".to_owned(),
            script: Script::default(),
            accounts: vec![AccountConfig::default()],
            mono: MonoConfig::default(),
            collaterals: 120,
            canned: BTreeMap::new(),
            server_names: Vec::new(),
            certificate: Certificate::Valid,
            demands_certificate: false,
            only_tls12: false,
            // At 10 000 connections every 30 s this holds the last 50 s; full, it takes about 4 MiB.
            log_capacity: 16_384,
            seed: 1,
        }
    }
}

impl BankConfig {
    /// A bank that asks for nothing, with one account `acc-1` of 120 transactions.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A bank that wants Mono's `mono-sec-key`.
    pub fn mono(name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { auth: Auth::mono(key), ..Self::new(name) }
    }

    /// Wants these credentials.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Has these accounts and no other.
    #[must_use]
    pub fn accounts(mut self, accounts: impl IntoIterator<Item = AccountConfig>) -> Self {
        self.accounts = accounts.into_iter().collect();
        self
    }
}
