//! `busbar-sim` as a process: its flags, and the file in which it tells where everything listens.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::testbed::sim::Sim;
use crate::testbed::sim::auth::Auth;
use crate::testbed::sim::bank::BankHandle;
use crate::testbed::sim::config::{BankConfig, SimConfig};
use crate::testbed::sim::error::SimError;
use crate::testbed::sim::transactions::AccountConfig;

/// Simulated banks for Busbar's demo, tests and benches.
#[derive(Clone, Parser)]
#[command(name = "busbar-sim", version)]
pub struct Flags {
    /// How many banks to start: bank-a, bank-b, …; further ones come by the control API.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub banks: u32,
    /// Where the control API listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub control: SocketAddr,
    /// Written whole when everything listens: where the control API and the banks are, as JSON.
    #[arg(long)]
    pub announce_file: Option<PathBuf>,
    /// The certificate that clients must trust for HTTPS is written here.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// The `mono-sec-key` that the banks want; without it they want no credentials.
    #[arg(long)]
    pub mono_key: Option<String>,
    /// How many transactions account acc-1 of each bank has.
    #[arg(long, default_value_t = 120)]
    pub transactions: u64,
    /// Seed of generated data and of chance; bank n gets seed + n.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Listen beyond loopback if an address says so. The control API has no authentication.
    #[arg(long)]
    pub allow_remote: bool,
}

/// Where one bank is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankPlace {
    /// Its name.
    pub name: String,
    /// Base URL over plain HTTP.
    pub http: String,
    /// Base URL over HTTPS.
    pub https: String,
}

impl BankPlace {
    pub(crate) fn of(bank: &BankHandle) -> Self {
        Self { name: bank.name().to_owned(), http: bank.base_url(), https: bank.https_url() }
    }
}

/// What the announce file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Base URL of the control API.
    pub control: String,
    /// The banks from the start.
    pub banks: Vec<BankPlace>,
    /// Where the CA certificate was written.
    pub ca_file: Option<PathBuf>,
    /// The process, so that whoever started it can end it.
    pub pid: u32,
}

/// Runs the simulator until SIGTERM or SIGINT.
pub async fn run(flags: Flags) -> Result<(), SimError> {
    // Before anything is announced: whoever reads the file may send the signal at once.
    let mut terminate = signal(SignalKind::terminate()).map_err(SimError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SimError::Signals)?;
    let sim = Sim::start(SimConfig { control: Some(flags.control), allow_remote: flags.allow_remote }).await?;
    for n in 0..flags.banks {
        sim.add_bank(bank(&flags, n)).await?;
    }
    if let Some(path) = &flags.ca_file {
        write_whole(path, sim.ca_pem().as_bytes())?;
    }
    let announcement = Announcement {
        control: sim.control().map(|a| format!("http://{a}")).unwrap_or_default(),
        banks: sim.banks().iter().map(BankPlace::of).collect(),
        ca_file: flags.ca_file.clone(),
        pid: std::process::id(),
    };
    // Cannot fail: strings and numbers only.
    let text = serde_json::to_string_pretty(&announcement).unwrap_or_default();
    if let Some(path) = &flags.announce_file {
        write_whole(path, text.as_bytes())?;
    }
    // Nobody may be reading; that is no reason to end.
    let _unread = writeln!(std::io::stdout(), "{text}");
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
    let auth = flags.mono_key.as_deref().map_or(Auth::None, Auth::mono);
    BankConfig { seed, ..BankConfig::new(name).auth(auth).accounts([account]) }
}

/// Writes beside the file and renames, so that a reader sees all of it or none.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), SimError> {
    let failed = |source| SimError::Write { path: path.to_owned(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    std::fs::write(&beside, content).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}
