<<<<<<< HEAD
//! The test bench: what Busbar's tests, demo and benches run on. Never part of the operator (feature `testbed`).

pub mod control_plane;
=======
//! The test bench: what the operator's tests, demo and benches run against. Never part of the operator's own build.

>>>>>>> part/sim
pub mod sim;
