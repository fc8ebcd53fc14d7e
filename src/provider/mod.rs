//! The call path: every call to a provider, from a probe, a sync or the gateway, goes through the layers built here.
//!
//! A [`profile`](crate::profile) describes a provider, as data; [`Settings`](crate::settings::Settings) are the
//! resolved and validated settings of one connection; a [`connection::Connection`] runs them, held by the
//! [`registry::Registry`]. The path is one stack of `tower` layers, listed in `stack.rs`: trace → deadline → rights →
//! cache → breaker → bulkhead → retry → quota → auth → time-out → HTTP. This module knows no Kubernetes: it receives
//! settings and reports observations. Provider responses are returned to the caller and go nowhere else: not into
//! errors, logs or metrics.
//!
//! Imports go one way: call types (`call`, `call_progress`, `call_context`) → layers → `stack` → `connection` →
//! `registry`.

pub mod access_denial;
pub mod assessment;
pub mod audit;
pub mod auth;
mod body;
pub mod breaker;
pub mod bulkhead;
pub mod bulkhead_limit;
pub mod cache;
mod cache_budget;
pub mod call;
pub mod call_context;
pub mod call_progress;
mod call_resources;
mod check_failure;
mod collector;
mod connect_observer;
pub mod connection;
mod day_quota;
pub mod deadline;
mod dns;
pub mod event_queues;
pub mod failure_reason;
pub mod fair_semaphore;
mod http;
pub mod http_clients;
mod http_error;
pub mod invoke;
mod legacy_collector;
pub mod legacy_metrics;
pub mod memory;
pub mod metrics;
pub mod monitor;
pub mod payouts;
pub mod predictions;
pub mod probe;
pub mod quota;
pub mod redirect;
pub mod registry;
pub(crate) mod request_url;
mod resend;
pub mod response_buffer;
pub mod response_cache;
pub mod restore;
pub mod retry;
pub mod rights;
mod route_state;
mod run_on;
mod shared_call;
mod stack;
#[cfg(test)]
pub(crate) mod testkit;
pub mod timeout;
pub mod trace;
mod usage_blocks;
mod waiting_callers;
