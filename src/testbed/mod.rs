//! The test bench: what Busbar's tests, demo and benches run on. Never part of the operator (feature `testbed`).

pub mod control_plane;
pub mod sim;
