//! Errors of the local control plane; one variant per step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::testbed::control_plane::component::Component;

/// Why a control plane did not start, or an operation on it failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The build script could not be run.
    #[error("cannot run {}: {source}", script.display())]
    BuildScript {
        /// The script.
        script: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The build script failed; it has written the cause to stderr.
    #[error("{} failed ({status}): see its output above; Go 1.24 or newer must be on PATH", script.display())]
    Build {
        /// The script.
        script: PathBuf,
        /// Its exit status.
        status: String,
    },
    /// A required binary is missing.
    #[error("control plane binary not found: {0}; check KUBEBUILDER_ASSETS or run hack/control-plane/build")]
    MissingBinary(&'static str),
    /// A file or directory of the run could not be written or read.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Keys or certificates could not be generated.
    #[error("certificate generation failed: {0}")]
    Pki(#[from] rcgen::Error),
    /// No free port is available.
    #[error("cannot reserve a port on 127.0.0.1: {0}")]
    Port(io::Error),
    /// A process could not be started.
    #[error("cannot start {name}: {source}")]
    Spawn {
        /// The process.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// A signal could not be sent.
    #[error("cannot send SIG{signal} to {name} (process {pid}): {detail}")]
    Signal {
        /// The signal.
        signal: &'static str,
        /// The process.
        name: String,
        /// Its id.
        pid: u32,
        /// The output of `kill`.
        detail: String,
    },
    /// A component exited before it was ready.
    #[error("{component} exited before it was ready ({status}); its log ends with:\n{log_tail}")]
    Exited {
        /// The component.
        component: Component,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// A component did not become ready in time.
    #[error("{component} not ready after {timeout:?}: {last}; its log ends with:\n{log_tail}")]
    NotReady {
        /// The component.
        component: Component,
        /// The timeout.
        timeout: Duration,
        /// The result of the last probe.
        last: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// The component is not part of this control plane, or was stopped.
    #[error("{0} is not running")]
    NotRunning(Component),
    /// The generated kubeconfig could not be read back.
    #[error("kubeconfig of the control plane is invalid: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A request to the API server failed.
    #[error("cannot {what}: {source}")]
    Api {
        /// The operation.
        what: String,
        /// The API server's response, or the transport error.
        source: Box<kube::Error>,
    },
    /// Manifests were rejected, or accepted with a warning.
    #[error("kubectl apply of {what} failed or returned a warning: {detail}")]
    Apply {
        /// File, folder, or `-`.
        what: String,
        /// The output of kubectl.
        detail: String,
    },
    /// A change did not take effect in time.
    #[error("timed out after {timeout:?} waiting for the API server to {what}")]
    Timeout {
        /// The expected change.
        what: &'static str,
        /// The timeout.
        timeout: Duration,
    },
    /// etcd rejected a compaction.
    #[error("etcd compaction failed: {0}")]
    Compact(String),
    /// A line of the audit log is not an audit event.
    #[error("audit log line is not an audit event: {0}")]
    Audit(serde_json::Error),
}

impl ControlPlaneError {
    /// A file error, for `map_err`.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// An API error, for `map_err`.
    pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source: Box::new(source) }
    }

    /// Whether another process bound the port between its reservation and the component's start.
    pub(crate) fn is_port_conflict(&self) -> bool {
        matches!(self, Self::Exited { log_tail, .. } if log_tail.contains("address already in use"))
    }
}
