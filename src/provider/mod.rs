//! The one way out: every call to a provider, from a probe, a sync or the gateway, takes the path built here.
//!
//! What a provider looks like is data ([`profile`]); what one connection needs, resolved and checked, is a
//! [`settings::Settings`]; what runs is a [`live::Live`], kept by the [`registry::Registry`]. The path itself is one
//! stack of `tower` layers, visible in `stack.rs`: cache → deadline → breaker → retry → quota → auth →
//! time-outs → HTTP. This layer knows no Kubernetes: it is told settings and it tells what it observed. Provider answers go to the caller who asked and nowhere else: not into
//! errors, logs or metrics.

pub mod addresses;
pub mod admission;
pub mod ask;
pub mod audit;
pub mod auth;
mod body;
pub mod cache;
pub mod call;
pub mod classify;
pub mod clients;
pub mod compat;
pub mod course;
pub mod deadline;
mod exchange;
pub mod json;
pub mod live;
pub mod observe;
pub mod profile;
pub mod quota;
pub mod registry;
pub mod retry;
pub mod rights;
pub mod series;
pub mod settings;
mod stack;
#[cfg(test)]
pub(crate) mod testkit;
pub mod timeout;
pub mod trace;
