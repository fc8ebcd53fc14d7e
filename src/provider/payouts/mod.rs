//! Calls to banks about payouts: inquiries and recalls.
//!
//! - [`port`]: the interfaces of those who follow payouts.
//! - [`banks`]: the calls through the connections of this process.
//! - [`metrics`]: what is counted of payouts.
//! - `answer`: what a response says of an attempt.

mod answer;
pub mod banks;
pub mod metrics;
pub mod port;

pub use self::banks::{CALL_TIMEOUT, RegistryBanks};
pub use self::metrics::PayoutMetrics;
pub use self::port::{BankAnswer, NextAttempts, PayoutBanks, PayoutFollower};
