//! What can go wrong with the simulator itself.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::testbed::sim::auth::BadHeaderName;
use crate::testbed::sim::script::ScriptError;
use crate::testbed::sim::tls::TlsError;

/// Starting the simulator, or changing a bank, failed.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// An address could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address can be reached from other machines.
    #[error("{address} is not loopback; allow it with --allow-remote")]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// A bank's name is taken.
    #[error("there is a bank called {0:?} already")]
    NameTaken(String),
    /// A bank's name does not fit into a URL or a host name.
    #[error("{0:?} is no name for a bank: use letters, digits, '-', '_' and '.'")]
    BadName(String),
    /// There is no such bank.
    #[error("there is no bank called {0:?}")]
    NoSuchBank(String),
    /// There is no such account.
    #[error("the bank has no account {0:?}")]
    NoSuchAccount(String),
    /// The script cannot be played.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The credentials cannot be checked.
    #[error(transparent)]
    Auth(#[from] BadHeaderName),
    /// Certificates could not be made.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Signals could not be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}
