//! Version `v1alpha1` of the four kinds.
//!
//! One folder or file per kind: the spec with its rules, then the status. [`common`] holds what several kinds share,
//! [`text`] the strings with a form (durations, decimals, names), [`reasons`] every machine-readable word that status
//! and events may carry. A field is documented where it is declared; `docs/reference/crds.md` is printed from there.

#![allow(
    unreachable_pub,
    reason = "`derive(KubeSchema)` copies each public struct into a function body to print its schema"
)]
#![allow(
    clippy::doc_markdown,
    reason = "`kubectl explain` shows these docs as they are, where back-ticks around names are noise"
)]

#[macro_use]
mod closed;
pub mod bank_route;
pub mod breaker_policy;
pub mod common;
pub mod maps;
pub mod provider_connection;
pub mod reasons;
pub mod rule;
pub mod sync_job;
pub mod text;

pub use bank_route::{BankRoute, BankRouteSpec, BankRouteStatus};
pub use breaker_policy::{BreakerPolicy, BreakerPolicySpec, BreakerPolicyStatus};
pub use provider_connection::{ProviderConnection, ProviderConnectionSpec, ProviderConnectionStatus};
pub use sync_job::{SyncJob, SyncJobSpec, SyncJobStatus};
