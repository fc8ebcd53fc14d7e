//! The components of a control plane.

use std::fmt;

/// A server of the control plane.
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
pub enum Component {
    /// etcd, the store.
    Etcd,
    /// The API server.
    ApiServer,
    /// Namespace deletion, garbage collection, service accounts, workloads.
    ControllerManager,
}

impl Component {
    /// All components in start order.
    pub const ALL: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    /// The name of the binary.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
