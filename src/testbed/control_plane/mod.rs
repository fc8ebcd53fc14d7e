//! A real control plane on this machine: etcd, kube-apiserver and kube-controller-manager as child processes, on
//! loopback ports chosen by the system, with keys generated for each run.
//!
//! Tests, demo and benches run on it. It starts within a few seconds and leaves nothing behind, however its owner
//! exits. It is not a full cluster: there is no kubelet, so Pods are only objects. Everything listens on loopback and
//! lives for one run; the operator's own build must not reach any of it.
//!
//! ```no_run
//! # async fn example() -> Result<(), busbar::testbed::control_plane::ControlPlaneError> {
//! use busbar::testbed::control_plane::{ControlPlane, Options};
//! let plane = ControlPlane::start(Options::default()).await?;
//! let output = plane.kubectl().args(["get", "namespaces"]).output();
//! plane.stop().await;
//! # Ok(()) }
//! ```

mod audit;
mod binaries;
mod command_line;
mod component;
mod error;
mod install;
mod kubeconfig;
mod layout;
mod options;
mod pki;
mod plane;
mod ports;
pub mod process;
mod readiness;
mod run_dir;

pub use crate::testbed::control_plane::audit::{
    AuditLog, AuditPosition, AuditQuery, AuditRequest, AuthorizationDecision,
};
pub use crate::testbed::control_plane::binaries::Binaries;
pub use crate::testbed::control_plane::component::Component;
pub use crate::testbed::control_plane::error::ControlPlaneError;
pub use crate::testbed::control_plane::install::{OperatorIdentity, OperatorScope};
pub use crate::testbed::control_plane::options::Options;
pub use crate::testbed::control_plane::plane::ControlPlane;
pub use crate::testbed::control_plane::run_dir::RunDir;
