//! Simulated banks over real sockets, for tests, demo and load tests.
//!
//! A [`Sim`] runs banks. Each has one port that serves HTTP and HTTPS, a [`script::Script`] of faults, the credentials
//! it requires, a Mono-like API with any number of transactions, and a log of the requests it received. Tests use the
//! library in their own process; the demo runs `busbar-sim`, which adds a control API and an announce file.
//!
//! It must not know the operator: it only simulates the remote side. The operator's own build contains none of it.
//!
//! Reading order: `script` (the format of faults), `engine` (evaluates it, pure), `serve` (one request), `listen` (the
//! port), `bank` (state and handle), `control` (the same over HTTP).

mod abortable_stream;
mod arrivals;
mod auth;
mod bank;
mod certificate;
mod config;
mod control;
mod counters;
mod endpoints;
mod engine;
mod error;
mod finastra;
mod listen;
mod mono;
mod oauth;
pub mod otlp;
mod payout_desk;
mod payout_notices;
mod payouts;
pub mod process;
mod random;
mod registry;
mod reply;
mod response_body;
pub mod script;
mod serve;
mod simulator;
mod tls;
mod transactions;

pub use crate::testbed::sim::arrivals::{Arrival, Arrivals};
pub use crate::testbed::sim::auth::{InvalidHeaderName, RequiredAuth};
pub use crate::testbed::sim::bank::BankHandle;
pub use crate::testbed::sim::certificate::CertificateKind;
pub use crate::testbed::sim::config::{BankConfig, SimConfig};
pub use crate::testbed::sim::counters::CounterSnapshot;
pub use crate::testbed::sim::endpoints::BankEndpoints;
pub use crate::testbed::sim::error::SimError;
pub use crate::testbed::sim::mono::{MonoConfig, PageShape};
pub use crate::testbed::sim::payout_desk::{PayoutBooks, PayoutConfig, PayoutFate};
pub use crate::testbed::sim::payout_notices::{Notice, NoticeConfig};
pub use crate::testbed::sim::script::{
    Behaviour, Down, FailurePoint, Garbage, Latency, Rule, Script, ScriptError, ScriptStep,
};
pub use crate::testbed::sim::simulator::Sim;
pub use crate::testbed::sim::tls::TlsError;
pub use crate::testbed::sim::transactions::{AccountConfig, Direction, Transaction};
