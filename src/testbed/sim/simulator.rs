//! The simulator: a registry of banks, and optionally the control API.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::civil::Date;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::testbed::sim::bank::BankHandle;
use crate::testbed::sim::config::{BankConfig, SimConfig};
use crate::testbed::sim::control;
use crate::testbed::sim::error::SimError;
use crate::testbed::sim::registry::BankRegistry;

/// A running simulator. Dropping it stops its banks.
pub struct Sim {
    registry: Arc<BankRegistry>,
    control: Option<SocketAddr>,
    _stop: DropGuard,
}

impl Sim {
    /// Starts a simulator without banks. Must be called within a tokio runtime.
    pub async fn start(config: SimConfig) -> Result<Self, SimError> {
        let stop = CancellationToken::new();
        let registry = Arc::new(BankRegistry::new(config.allow_remote, stop.clone())?);
        let control = match config.control {
            Some(address) => Some(control::start(&registry, address).await?),
            None => None,
        };
        Ok(Self { registry, control, _stop: stop.drop_guard() })
    }

    /// Adds a bank; it listens when this returns.
    pub async fn add_bank(&self, config: BankConfig) -> Result<BankHandle, SimError> {
        self.registry.add_bank(config).await
    }

    /// A client certificate of the simulator's CA and its key, both PEM, for banks that require one. It is valid until
    /// the start of `not_after`.
    pub fn client_certificate(&self, name: &str, not_after: Date) -> Result<(String, String), SimError> {
        self.registry.client_certificate(name, not_after)
    }

    /// The bank with this name.
    pub fn bank(&self, name: &str) -> Option<BankHandle> {
        self.registry.bank(name).ok()
    }

    /// All banks, by name.
    pub fn banks(&self) -> Vec<BankHandle> {
        self.registry.banks()
    }

    /// Stops a bank and releases its port.
    pub fn remove_bank(&self, name: &str) -> Result<(), SimError> {
        self.registry.remove_bank(name)
    }

    /// The address of the control API.
    pub const fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The CA certificate that clients of every bank must trust, PEM.
    pub fn ca_pem(&self) -> &str {
        self.registry.ca_pem()
    }

    /// Nanoseconds since the simulator's start, on the clock of the arrival logs.
    pub fn now_ns(&self) -> u64 {
        self.registry.now_ns()
    }
}
