//! Simulated banks over real sockets: the test bench, the demo's world and the load target.
//!
//! A [`Sim`] holds banks. Each has one port that speaks HTTP and HTTPS, a [`script::Script`] of bad behaviour, the
//! credentials it wants, a Mono-shaped API with any number of transactions, and a log of what arrived. Tests use the
//! library in their own process; the demo runs `busbar-sim`, which adds a control API and an announce file.
//!
//! It must not know the operator: it only plays the other side. Nothing here is part of the operator's own build.
//!
//! Reading order: `script` (what can be told), `engine` (plays it, pure), `serve` (one request), `listen` (the
//! port), `bank` (state and handle), `control` (the same over HTTP).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::testbed::sim::bank::{Bank, lock};
use crate::testbed::sim::listen::Port;
use crate::testbed::sim::tls::Authority;

pub mod announce;
mod arrivals;
mod auth;
mod bank;
mod body;
mod config;
mod control;
mod engine;
mod error;
mod finastra;
mod listen;
mod mono;
mod oauth;
pub mod otlp;
mod reply;
pub mod script;
mod serve;
mod tls;
mod transactions;
mod wire;

pub use arrivals::{Arrival, Arrivals, Counts};
pub use auth::{Auth, BadHeaderName};
pub use bank::BankHandle;
pub use config::{BankConfig, SimConfig};
pub use error::SimError;
pub use mono::{Body, MonoConfig};
pub use script::{Behaviour, Down, Garbage, Latency, Moment, Rule, Script, ScriptError, Step};
pub use tls::{Certificate, TlsError};
pub use transactions::{AccountConfig, Direction, Transaction};

/// A running simulator. Its banks end when it is dropped.
pub struct Sim {
    town: Arc<Town>,
    control: Option<SocketAddr>,
    _ends: DropGuard,
}

/// What the library and the control API share.
pub(crate) struct Town {
    clock: Clock,
    authority: Authority,
    ca_pem: Arc<str>,
    allow_remote: bool,
    stop: CancellationToken,
    banks: Mutex<BTreeMap<String, BankHandle>>,
}

impl Sim {
    /// Starts a simulator without banks. Must be called within a tokio runtime.
    pub async fn start(config: SimConfig) -> Result<Self, SimError> {
        let authority = Authority::new("Busbar simulator CA")?;
        let stop = CancellationToken::new();
        let town = Arc::new(Town {
            clock: Clock::system(),
            ca_pem: authority.pem().into(),
            authority,
            allow_remote: config.allow_remote,
            stop: stop.clone(),
            banks: Mutex::new(BTreeMap::new()),
        });
        let control = match config.control {
            Some(address) => Some(control::start(&town, address).await?),
            None => None,
        };
        Ok(Self { town, control, _ends: stop.drop_guard() })
    }

    /// Adds a bank; it listens when this returns.
    pub async fn add_bank(&self, config: BankConfig) -> Result<BankHandle, SimError> {
        self.town.add_bank(config).await
    }

    /// A client certificate of the simulator's authority, with its key, both PEM: for banks that demand one.
    pub fn client_certificate(&self, name: &str, last_day: (i32, u8, u8)) -> Result<(String, String), SimError> {
        Ok(self.town.authority.client(name, last_day)?)
    }

    /// The bank with this name.
    pub fn bank(&self, name: &str) -> Option<BankHandle> {
        self.town.bank(name).ok()
    }

    /// All banks, by name.
    pub fn banks(&self) -> Vec<BankHandle> {
        self.town.banks()
    }

    /// Ends a bank: its port is free again.
    pub fn remove_bank(&self, name: &str) -> Result<(), SimError> {
        self.town.remove_bank(name)
    }

    /// Where the control API listens.
    pub const fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The certificate that clients of every bank must trust.
    pub fn ca_pem(&self) -> &str {
        &self.town.ca_pem
    }

    /// Nanoseconds since the simulator's start, on the clock of the arrival logs.
    pub fn now_ns(&self) -> u64 {
        self.town.clock.mono().nanos()
    }
}

impl Town {
    pub(crate) fn check_address(&self, address: SocketAddr) -> Result<(), SimError> {
        if self.allow_remote || address.ip().is_loopback() { Ok(()) } else { Err(SimError::NotLoopback { address }) }
    }

    pub(crate) async fn add_bank(&self, config: BankConfig) -> Result<BankHandle, SimError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if config.name.is_empty() || !config.name.chars().all(legal) {
            return Err(SimError::BadName(config.name));
        }
        self.check_address(config.listen)?;
        let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.push(format!("{}.sim.test", config.name));
        names.extend(config.server_names.iter().cloned());
        let tls = self.authority.acceptor(names, &config)?;
        let listen = config.listen;
        let port = Port::open(listen).map_err(|source| SimError::Listen { address: listen, source })?;
        let bank = Arc::new(Bank::new(config, self.clock, port.address, tls, self.stop.child_token())?);
        let handle = BankHandle::new(bank.clone(), self.ca_pem.clone());
        {
            let mut banks = lock(&self.banks);
            if banks.contains_key(handle.name()) {
                return Err(SimError::NameTaken(handle.name().to_owned()));
            }
            banks.insert(handle.name().to_owned(), handle.clone());
        }
        // The first wish is the script the bank was made with: in force before anybody asks.
        bank.wished.send_modify(|n| *n += 1);
        let mut in_force = bank.in_force.subscribe();
        tokio::spawn(listen::run(bank, port));
        let _ended = in_force.wait_for(|n| *n > 0).await;
        Ok(handle)
    }

    pub(crate) fn bank(&self, name: &str) -> Result<BankHandle, SimError> {
        lock(&self.banks).get(name).cloned().ok_or_else(|| SimError::NoSuchBank(name.to_owned()))
    }

    pub(crate) fn banks(&self) -> Vec<BankHandle> {
        lock(&self.banks).values().cloned().collect()
    }

    pub(crate) fn remove_bank(&self, name: &str) -> Result<(), SimError> {
        let handle = lock(&self.banks).remove(name).ok_or_else(|| SimError::NoSuchBank(name.to_owned()))?;
        handle.stop();
        Ok(())
    }
}
