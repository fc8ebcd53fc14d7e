//! The environment of tests, demo and benches: a real control plane, simulated banks, and faults between them.
//!
//! Behind the feature `testbed`, which no release build enables. The operator must not depend on it.

pub mod canaries;
pub mod control_plane;
pub mod faults;
pub mod postgres;
pub mod sim;
