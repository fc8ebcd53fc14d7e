//! What tests, the demo and the benches run against: a real control plane and simulated banks.
//!
//! Behind the feature `testbed`, which no release build has. Nothing of the operator may depend on it.

pub mod canaries;
pub mod control_plane;
pub mod sim;
pub mod trouble;
