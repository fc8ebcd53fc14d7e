//! The banks of one simulator: state shared by the library and the control API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use jiff::civil::Date;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::testbed::sim::bank::{Bank, BankHandle, lock};
use crate::testbed::sim::config::BankConfig;
use crate::testbed::sim::error::SimError;
use crate::testbed::sim::listen::{self, BankPort};
use crate::testbed::sim::tls::CertificateAuthority;

/// The banks by name, and what they share.
pub(crate) struct BankRegistry {
    clock: Clock,
    authority: CertificateAuthority,
    ca_pem: Arc<str>,
    allow_remote: bool,
    stop: CancellationToken,
    banks: Mutex<BTreeMap<String, BankHandle>>,
}

impl BankRegistry {
    pub(crate) fn new(allow_remote: bool, stop: CancellationToken) -> Result<Self, SimError> {
        let authority = CertificateAuthority::new("Busbar simulator CA")?;
        Ok(Self {
            clock: Clock::system(),
            ca_pem: authority.pem().into(),
            authority,
            allow_remote,
            stop,
            banks: Mutex::new(BTreeMap::new()),
        })
    }

    /// Rejects an address that other machines can reach, unless that is allowed.
    pub(crate) fn check_address(&self, address: SocketAddr) -> Result<(), SimError> {
        if self.allow_remote || address.ip().is_loopback() { Ok(()) } else { Err(SimError::NotLoopback { address }) }
    }

    pub(crate) async fn add_bank(&self, config: BankConfig) -> Result<BankHandle, SimError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if config.name.is_empty() || !config.name.chars().all(allowed) {
            return Err(SimError::InvalidName(config.name));
        }
        self.check_address(config.listen)?;
        let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.push(format!("{}.sim.test", config.name));
        names.extend(config.server_names.iter().cloned());
        let tls = self.authority.acceptor(names, &config)?;
        let listen = config.listen;
        let port = BankPort::open(listen).map_err(|source| SimError::Listen { address: listen, source })?;
        let bank = Arc::new(Bank::new(config, self.clock, port.address, tls, self.stop.child_token())?);
        let handle = BankHandle::new(bank.clone(), self.ca_pem.clone());
        {
            let mut banks = lock(&self.banks);
            if banks.contains_key(handle.name()) {
                return Err(SimError::NameTaken(handle.name().to_owned()));
            }
            banks.insert(handle.name().to_owned(), handle.clone());
        }
        // Version 1 is the configured script; it must be in force before the first request.
        bank.script_version.send_modify(|n| *n += 1);
        let mut applied = bank.applied_version.subscribe();
        tokio::spawn(listen::run(bank, port));
        let _closed = applied.wait_for(|n| *n > 0).await;
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

    pub(crate) fn client_certificate(&self, name: &str, not_after: Date) -> Result<(String, String), SimError> {
        Ok(self.authority.client(name, not_after)?)
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.mono().nanos()
    }
}
