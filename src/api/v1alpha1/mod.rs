//! Version `v1alpha1` of the four kinds.
//!
//! One folder or file per kind: the spec with its validation rules, then the status. [`common`] has the types shared by
//! several kinds, [`text`] the formatted strings (durations, decimals, names), [`reasons`] every condition type, reason
//! and event reason. Fields are documented at their declaration; `docs/reference/crds.md` is generated from there.

#![allow(
    unreachable_pub,
    reason = "`derive(KubeSchema)` copies each public struct into a function body to print its schema"
)]
#![allow(
    clippy::doc_markdown,
    reason = "`kubectl explain` shows these docs verbatim, where back-ticks around names are noise"
)]

#[macro_use]
mod string_enum;
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
