//! The integration tests, in one binary: one link instead of many.
//!
//! What is here asks about the house (architecture, documents) or needs more than one module of the library. One line
//! per file, in the order of the alphabet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail loudly too")]

mod admission;
mod architecture;
mod auth;
mod call_order;
mod call_path;
mod call_time;
mod call_troubles;
mod call_waits;
mod circles;
mod compat;
mod crds;
mod docs;
mod explain;
mod gateway;
mod live_check;
mod manifests;
mod probes;
mod profiles;
mod purity;
mod reference;
mod release;
mod rules;
mod samples;
mod sim;
mod sim_process;
mod source;
mod sync;
mod traces;
mod words;
