//! The test bench: what Busbar's tests, demo and benches run on. Never part of the operator's own build (feature
//! `testbed`).

pub mod control_plane;
pub mod sim;
