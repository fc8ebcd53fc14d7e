//! The part of the test kit that needs a control plane. Start reading at [`operator::Operator`].
//!
//! The operator of every test is a Pod: [`chart_release`] installs the chart with Helm into the namespace of the test,
//! [`chart_pod`] adds the flags of the test, [`operator_pod`] scales the workload up, and the [`node`] agent runs what the
//! controllers create. Two programs run outside of a Pod, because their users start them on their own machine: the demo on an
//! existing cluster (`tests/e2e/demo_on_cluster.rs`), and `busbar run` with invalid settings, which ends at once
//! (`tests/e2e/runtime.rs`). `helm install --wait`, upgrades and several replicas of one workload are the subject of
//! `tests/e2e/chart_install.rs`; here the kit waits for `/readyz` itself, which is seconds faster than the chart's probes.

pub(crate) mod bank_env;
mod chart_pod;
pub(crate) mod chart_release;
pub(crate) mod control_planes;
pub(crate) mod failover_env;
pub(crate) mod fault_run;
pub(crate) mod gateway_calls;
pub(crate) mod ledger_volume;
pub(crate) mod memory_limit;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod operator;
mod operator_pod;
pub(crate) mod peer_server;
pub(crate) mod policies;
pub(crate) mod prometheus_server;
pub(crate) mod status_recorder;
pub(crate) mod sync_jobs;
