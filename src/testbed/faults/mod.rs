//! Fault injection between an operator and its API server: faults a test begins and ends each one.
//!
//! Three tools: the launcher stops, freezes and restarts the real components; the [`Proxy`] between operator and API
//! server rejects, delays or cuts requests; the [`LoadGenerator`] occupies the API server's request slots, so that the
//! server itself rejects requests. A [`Fault`] combines these. It knows nothing of how the operator should react: the
//! test asserts that.

mod error;
mod fault;
mod load_generator;
mod proxy;

pub use crate::testbed::faults::error::FaultError;
pub use crate::testbed::faults::fault::{Fault, FaultEnv};
pub use crate::testbed::faults::load_generator::LoadGenerator;
pub use crate::testbed::faults::proxy::{Proxy, ProxyMode};
