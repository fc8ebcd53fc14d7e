//! The environment of tests, demo and benches: a real control plane, simulated banks, and faults between them.
//!
//! Behind the feature `testbed`, which no release build enables. The operator must not depend on it.

pub mod bank_series;
pub mod canaries;
pub mod control_plane;
pub mod faults;
pub mod payouts;
pub mod postgres;
pub mod rabbitmq;
pub mod shown;
pub mod sim;
