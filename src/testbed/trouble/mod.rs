//! Trouble on order: what goes wrong between an operator and its API server, begun and ended when a test says so.
//!
//! Three tools. The launcher stops, freezes and restarts the real components; the [`Proxy`] stands between operator and
//! API server and refuses, delays or cuts; the [`Crowd`] takes the API server's slots, so that it refuses by itself.
//! A [`Fault`] is one misfortune made of these. It knows nothing of what the operator should do about it: that is for
//! whoever watches the operator.

mod crowd;
mod fault;
mod proxy;

pub use crate::testbed::trouble::crowd::Crowd;
pub use crate::testbed::trouble::fault::{Fault, Ground};
pub use crate::testbed::trouble::proxy::{Proxy, Weather};

use crate::testbed::control_plane;

/// Trouble could not be made, or not be ended.
#[derive(Debug, thiserror::Error)]
pub enum TroubleError {
    /// A component of the control plane does not obey.
    #[error(transparent)]
    Plane(#[from] control_plane::Error),
    /// The proxy or the crowd has no usable client.
    #[error("client of the API server: {0}")]
    Client(#[from] reqwest::Error),
    /// A port or a file.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The API server refused what the fault needs.
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
}
