//! The settings of a control plane.

use std::time::Duration;

/// Settings of one control plane. [`Options::default`] suits most tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// Additional flags of etcd.
    pub etcd_args: Vec<String>,
    /// Additional flags of kube-apiserver, e.g. `--max-requests-inflight=5`, `--watch-cache=false`.
    pub api_server_args: Vec<String>,
    /// Whether kube-controller-manager runs: without it no namespace is removed and nothing is garbage collected.
    pub controllers: bool,
    /// Additional flags of kube-controller-manager.
    pub controller_manager_args: Vec<String>,
    /// How long each component may take to become ready, and each installation step to take effect.
    pub ready_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            etcd_args: Vec::new(),
            api_server_args: Vec::new(),
            controllers: true,
            controller_manager_args: Vec::new(),
            // All three together usually take four seconds; a minute each allows for a machine that is busy compiling.
            ready_timeout: Duration::from_mins(1),
        }
    }
}
