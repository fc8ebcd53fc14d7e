//! The configuration of a simulator and of its banks.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::testbed::sim::auth::RequiredAuth;
use crate::testbed::sim::certificate::CertificateKind;
use crate::testbed::sim::mono::MonoConfig;
use crate::testbed::sim::payout_desk::PayoutConfig;
use crate::testbed::sim::script::Script;
use crate::testbed::sim::transactions::AccountConfig;

/// Configuration of one simulator.
#[derive(Clone, Debug, Default)]
pub struct SimConfig {
    /// Address of the control API; `None` for no control API, as in tests that use the library.
    pub control: Option<SocketAddr>,
    /// Allows addresses other than loopback for banks and control API. The control API has no authentication.
    pub allow_remote: bool,
}

/// Configuration of one bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BankConfig {
    /// Unique name: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Listen address for HTTP and HTTPS; port 0 selects a free one.
    pub listen: SocketAddr,
    /// The required credentials.
    pub auth: RequiredAuth,
    /// Path prefixes that need no credentials.
    pub open_paths: Vec<String>,
    /// Path that returns `{"status":"ok"}`.
    pub health_path: String,
    /// The initial script.
    pub script: Script,
    /// Accounts of the Mono API.
    pub accounts: Vec<AccountConfig>,
    /// Variants of the Mono API.
    pub mono: MonoConfig,
    /// How many collaterals the Finastra API lists.
    pub collaterals: u64,
    /// How it handles payouts.
    pub payouts: PayoutConfig,
    /// Additional responses by exact path, such as another provider's health check: path → JSON body.
    pub canned: BTreeMap<String, String>,
    /// Additional names in its certificate, besides `localhost`, `127.0.0.1`, `::1` and `<name>.sim.test`.
    pub server_names: Vec<String>,
    /// The validity of its certificate.
    pub certificate: CertificateKind,
    /// Whether TLS clients must present a certificate of the simulator's CA.
    pub demands_certificate: bool,
    /// Whether it supports only TLS 1.2.
    pub only_tls12: bool,
    /// Capacity of the arrival log.
    pub log_capacity: usize,
    /// Seed of random shares in scripts and of generated data.
    pub seed: u64,
}

impl Default for BankConfig {
    fn default() -> Self {
        Self {
            name: "bank".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            auth: RequiredAuth::None,
            open_paths: Vec::new(),
            health_path: "/health".to_owned(),
            script: Script::default(),
            accounts: vec![AccountConfig::default()],
            mono: MonoConfig::default(),
            collaterals: 120,
            payouts: PayoutConfig::default(),
            canned: BTreeMap::new(),
            server_names: Vec::new(),
            certificate: CertificateKind::Valid,
            demands_certificate: false,
            only_tls12: false,
            // With 10 000 connections probed every 30 s this covers the last 50 s; a full log takes about 4 MiB.
            log_capacity: 16_384,
            seed: 1,
        }
    }
}

impl BankConfig {
    /// A bank without credentials, with one account `acc-1` of 120 transactions.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A bank that requires Mono's `mono-sec-key`.
    pub fn mono(name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { auth: RequiredAuth::mono(key), ..Self::new(name) }
    }

    /// Sets the required credentials.
    #[must_use]
    pub fn auth(mut self, auth: RequiredAuth) -> Self {
        self.auth = auth;
        self
    }

    /// Sets the accounts.
    #[must_use]
    pub fn accounts(mut self, accounts: impl IntoIterator<Item = AccountConfig>) -> Self {
        self.accounts = accounts.into_iter().collect();
        self
    }
}
