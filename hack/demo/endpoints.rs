//! Where the operator and the simulator listen.

use busbar::testbed::sim::process::Announcement;

/// The addresses of the operator and of the simulator, known once both listen.
pub(crate) struct Endpoints {
    /// The operator's admin port, `127.0.0.1:<port>`.
    pub(crate) admin: String,
    /// The gateway, `http://127.0.0.1:<port>`.
    pub(crate) gateway: String,
    /// The simulator: its control API and its banks.
    pub(crate) simulator: Announcement,
}

/// What the operator writes to its announce file once its ports are bound.
#[derive(serde::Deserialize)]
pub(crate) struct OperatorAnnouncement {
    /// See [`Endpoints::admin`].
    pub(crate) admin: String,
    /// See [`Endpoints::gateway`].
    pub(crate) gateway: String,
}
