//! Busbar is a Kubernetes operator that keeps a business connected to its banks and financial-data providers.
//!
//! Custom resources say what should be. The [`provider`] registry is that wish as running things. [`work`] does what
//! takes time and pokes the [`controllers`]. The [`ledger`] remembers whatever must survive. Numbers go to metrics,
//! transitions to status, facts to the ledger.
//!
//! Start reading at [`domain`] (pure rules: no clock, no I/O), then [`controllers`] (observe → decide → act → report),
//! then [`provider`] (the one path that every provider call takes). A test (`tests/it/architecture.rs`) keeps the
//! layers apart.

pub mod admin;
pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod controllers;
pub mod domain;
pub mod explain;
pub mod gateway;
pub mod ledger;
pub mod metrics;
pub mod provider;
pub mod shutdown;
pub mod sync;
pub mod telemetry;
#[cfg(feature = "testbed")]
pub mod testbed;
pub mod work;
