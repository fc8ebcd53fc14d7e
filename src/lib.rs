//! Busbar is a Kubernetes operator that keeps a business connected to its banks and financial-data providers.
//!
//! Custom resources declare the desired state. The [`controllers`] reconcile it into the [`provider`] registry: one
//! running connection per `ProviderConnection`, with its HTTP client, quota, circuit breaker and cache. [`work`] runs
//! what takes time (probes, syncs, dead-request retries) and enqueues the objects to reconcile afterwards. The
//! [`gateway`] serves provider calls over HTTP. The [`ledger`] stores what must survive a restart. Measurements are
//! exported as metrics, state transitions as status, records in the ledger.
//!
//! Start reading at [`domain`] (pure rules: no clock, no I/O), then [`controllers`] (observe → decide → act → report),
//! then [`provider`] (the one path of every provider call). A test (`tests/it/architecture.rs`) enforces the layers:
//! which module may use which.

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
pub mod http_server;
pub mod ledger;
pub mod metrics;
pub mod notify;
pub mod profile;
pub mod provider;
pub mod resolve;
pub mod routing;
pub mod settings;
pub mod shutdown;
pub mod sync;
pub mod tasks;
pub mod telemetry;
#[cfg(feature = "testbed")]
pub mod testbed;
pub mod work;
