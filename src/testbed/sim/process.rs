//! The process `busbar-sim`: its flags, its main loop and its announce file.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::testbed::sim::auth::RequiredAuth;
use crate::testbed::sim::config::{BankConfig, SimConfig};
use crate::testbed::sim::endpoints::BankEndpoints;
use crate::testbed::sim::error::SimError;
use crate::testbed::sim::simulator::Sim;
use crate::testbed::sim::transactions::AccountConfig;

/// Simulated banks for Busbar's demo, tests and benches.
#[derive(Clone, Parser)]
#[command(name = "busbar-sim", version)]
pub struct Flags {
    /// Number of banks to start: bank-a, bank-b, …; the control API can add more.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub banks: u32,
    /// Listen address of the control API; port 0 selects a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub control: SocketAddr,
    /// File to write atomically once all ports listen: the URLs of the control API and the banks, as JSON.
    #[arg(long)]
    pub announce_file: Option<PathBuf>,
    /// File for the CA certificate that HTTPS clients must trust.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// The `mono-sec-key` that the banks require; without it they require no credentials.
    #[arg(long)]
    pub mono_key: Option<String>,
    /// Number of transactions of account acc-1 of each bank.
    #[arg(long, default_value_t = 120)]
    pub transactions: u64,
    /// Seed of generated data and random shares; bank n gets seed + n.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Allow listen addresses other than loopback. The control API has no authentication.
    #[arg(long)]
    pub allow_remote: bool,
}

/// The content of the announce file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Base URL of the control API.
    pub control: String,
    /// The banks started by `--banks`.
    pub banks: Vec<BankEndpoints>,
    /// Path of the CA certificate, if written.
    pub ca_file: Option<PathBuf>,
    /// The process id, for stopping it.
    pub pid: u32,
}

/// Runs the simulator until SIGTERM or SIGINT.
pub async fn run(flags: Flags) -> Result<(), SimError> {
    // Before the announcement: its reader may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).map_err(SimError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SimError::Signals)?;
    let sim = Sim::start(SimConfig { control: Some(flags.control), allow_remote: flags.allow_remote }).await?;
    for n in 0..flags.banks {
        sim.add_bank(bank(&flags, n)).await?;
    }
    if let Some(path) = &flags.ca_file {
        write_atomically(path, sim.ca_pem().as_bytes())?;
    }
    let announcement = Announcement {
        control: sim.control().map(|a| format!("http://{a}")).unwrap_or_default(),
        banks: sim.banks().iter().map(BankEndpoints::of).collect(),
        ca_file: flags.ca_file.clone(),
        pid: std::process::id(),
    };
    // Infallible: strings and numbers only.
    let text = serde_json::to_string_pretty(&announcement).unwrap_or_default();
    if let Some(path) = &flags.announce_file {
        write_atomically(path, text.as_bytes())?;
    }
    // A closed stdout is ignored.
    let _closed = writeln!(std::io::stdout(), "{text}");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn bank(flags: &Flags, n: u32) -> BankConfig {
    let seed = flags.seed.wrapping_add(u64::from(n));
    let name = match u8::try_from(n) {
        Ok(n @ 0..26) => format!("bank-{}", char::from(b'a' + n)),
        _ => format!("bank-{n}"),
    };
    let account = AccountConfig { seed, ..AccountConfig::new("acc-1", flags.transactions) };
    let auth = flags.mono_key.as_deref().map_or(RequiredAuth::None, RequiredAuth::mono);
    BankConfig { seed, ..BankConfig::new(name).auth(auth).accounts([account]) }
}

/// Writes a temporary file and renames it, so that a reader sees the complete file or none.
fn write_atomically(path: &Path, content: &[u8]) -> Result<(), SimError> {
    let failed = |source| SimError::Write { path: path.to_owned(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    std::fs::write(&temporary, content).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)
}
