//! The one integration binary: each module is a subject.
#![allow(clippy::unwrap_used, reason = "a test that fails loudly does its job")]

mod call_path;
mod probes;
mod sim;
mod sim_process;
mod sync;
