//! Busbar against a real API server and etcd. Run with `cargo test --test e2e`.
//!
//! One control plane is shared by the whole binary, each test has a namespace of its own. The operator is what
//! Helm installs there: a node agent runs the Pod of the chart's workload, with the service account, the rights, the flags,
//! the mounts and the user that the chart declares; a test that needs to break the control plane starts one of its own. A missing control plane is a failure: a suite that skips itself shows nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may panic too")]

#[path = "../kit/cluster/mod.rs"]
mod cluster;
#[path = "../kit/mod.rs"]
mod kit;

mod admission;
mod chart;
mod chart_install;
mod chart_stories;
mod connection_use;
mod connections;
mod definition_guards;
mod deletion;
mod deletion_guards;
mod demo_on_cluster;
mod explain;
mod faults;
mod gateway;
mod gitops;
mod guide;
mod harness;
mod job_columns;
mod job_execution;
mod job_reports;
mod jobs;
mod least_privilege;
mod ledger_epoch;
mod ledger_faults;
mod memory;
mod metrics_auth;
mod node_agent;
mod outbox;
mod override_guards;
mod payout_env;
mod payout_kills;
mod payout_notices;
mod payouts;
mod peers;
mod postgres;
mod prometheus;
mod prometheus_operator;
mod providers;
mod release_upgrade;
mod replicas;
mod route_health;
mod routes;
mod routing_decisions;
mod routing_proposals;
mod routing_scorer;
mod routing_standby;
mod runtime;
mod samples;
mod soak;
mod sources;
mod syncs;
mod webhooks;
