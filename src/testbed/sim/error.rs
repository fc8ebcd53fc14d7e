//! Errors of the simulator.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::testbed::sim::auth::InvalidHeaderName;
use crate::testbed::sim::script::ScriptError;
use crate::testbed::sim::tls::TlsError;

/// Why the simulator could not start, or an operation on a bank failed.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// An address could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Other machines can reach the address.
    #[error("{address} is not loopback; allow it with --allow-remote")]
    NotLoopback {
        /// The requested address.
        address: SocketAddr,
    },
    /// The name of the bank is already in use.
    #[error("bank {0:?} already exists")]
    NameTaken(String),
    /// The name of the bank cannot be part of a host name.
    #[error("bank name {0:?} is invalid: use letters, digits, '-', '_' and '.'")]
    InvalidName(String),
    /// The bank does not exist.
    #[error("bank {0:?} not found")]
    NoSuchBank(String),
    /// The account does not exist.
    #[error("account {0:?} not found")]
    NoSuchAccount(String),
    /// The script is invalid.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The credentials are invalid.
    #[error(transparent)]
    Auth(#[from] InvalidHeaderName),
    /// A certificate could not be generated or used.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Signal handlers could not be installed.
    #[error("cannot install signal handlers")]
    Signals(#[source] io::Error),
}
