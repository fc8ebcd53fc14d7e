//! The test bench: what the operator's tests, demo and benches run against. Never part of the operator's own build.

pub mod sim;
