//! The one integration binary, for what needs no cluster: each module is a subject.
#![allow(clippy::unwrap_used, reason = "a test that fails loudly does its job")]

mod crds;
mod sim;
mod sim_process;
