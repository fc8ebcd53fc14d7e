//! The loopback ports of a control plane.

use std::net::{Ipv4Addr, TcpListener};

use crate::testbed::control_plane::error::ControlPlaneError;

/// Ports of one control plane; they stay the same when components restart.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd_client: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) api_server: u16,
    pub(crate) controller_manager: u16,
}

impl Ports {
    /// Free ports chosen by the system. All are bound at once, so that no two are equal, and then released. Another
    /// process may bind one before the component does; the start is then retried with other ports.
    pub(crate) fn reserve() -> Result<Self, ControlPlaneError> {
        let reserve = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(ControlPlaneError::Port);
        let bound = [reserve()?, reserve()?, reserve()?, reserve()?];
        let port = |of: usize| bound[of].local_addr().map(|address| address.port()).map_err(ControlPlaneError::Port);
        Ok(Self { etcd_client: port(0)?, etcd_peer: port(1)?, api_server: port(2)?, controller_manager: port(3)? })
    }

    pub(crate) fn etcd_url(self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_client)
    }

    pub(crate) fn api_server_url(self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }
}
