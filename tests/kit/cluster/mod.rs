//! The part of the test kit that needs a control plane. Start reading at [`operator::Operator`].

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
