//! A node for Pods: what a kubelet does, with processes of this machine in place of containers. Start reading at
//! [`agent::NodeAgent`].

pub(crate) mod agent;
mod container;
pub(crate) mod control;
mod environment;
mod exec;
mod pod_run;
mod probe;
pub(crate) mod process;
mod sources;
mod status;
mod volumes;
