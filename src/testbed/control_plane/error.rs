//! What can go wrong between asking for a control plane and having one; one variant per step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::testbed::control_plane::Component;

/// Why there is no control plane, or why it did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The build script could not be run at all.
    #[error("cannot run {}: {source}", script.display())]
    BuildScript {
        /// The script.
        script: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The build script ran and failed; it has told the reason on stderr.
    #[error("{} failed ({status}): see its messages above; Go 1.24 or newer must be on PATH", script.display())]
    Build {
        /// The script.
        script: PathBuf,
        /// Its exit status.
        status: String,
    },
    /// A binary that the control plane cannot do without is missing.
    #[error("no {0} among the binaries of the control plane")]
    MissingBinary(&'static str),
    /// A file or directory of the run could not be written or read.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Keys or certificates could not be made.
    #[error("cannot make certificates: {0}")]
    Pki(#[from] rcgen::Error),
    /// No free port could be had.
    #[error("cannot reserve a port on 127.0.0.1: {0}")]
    Port(io::Error),
    /// A process could not be started.
    #[error("cannot start {name}: {source}")]
    Spawn {
        /// Which process.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// A signal could not be sent.
    #[error("cannot send SIG{signal} to {name} (process {pid}): {detail}")]
    Signal {
        /// Which signal.
        signal: &'static str,
        /// Which process.
        name: String,
        /// Its id.
        pid: u32,
        /// What `kill` said.
        detail: String,
    },
    /// A component ended before it was ready.
    #[error("{component} ended ({status}) before it was ready; its log ends with:\n{log_tail}")]
    Exited {
        /// Which component.
        component: Component,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// A component did not become ready in time.
    #[error("{component} was not ready after {patience:?} ({last}); its log ends with:\n{log_tail}")]
    NotReady {
        /// Which component.
        component: Component,
        /// How long it was given.
        patience: Duration,
        /// What the last look showed.
        last: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// The component is not part of this control plane, or was stopped.
    #[error("{0} is not running")]
    NotRunning(Component),
    /// A kubeconfig that the launcher wrote could not be read back.
    #[error("the kubeconfig of the control plane is unusable: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A request to the API server failed.
    #[error("the API server refused to {what}: {source}")]
    Api {
        /// What was asked.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Manifests were refused, or accepted with a warning.
    #[error("cannot apply {what} without a complaint of the API server: {detail}")]
    Apply {
        /// File, folder, or `-`.
        what: String,
        /// What kubectl said.
        detail: String,
    },
    /// Something that takes moments took too long.
    #[error("the API server did not {what} within {patience:?}")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// How long it was given.
        patience: Duration,
    },
    /// etcd refused a compaction.
    #[error("etcd could not be compacted: {0}")]
    Compact(String),
    /// A line of the audit log is not an audit event.
    #[error("the audit log holds a line that is not an event: {0}")]
    Audit(serde_json::Error),
}

impl Error {
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

    /// True if somebody else took the port between our letting go of it and the component's binding it.
    pub(crate) fn is_port_clash(&self) -> bool {
        matches!(self, Self::Exited { log_tail, .. } if log_tail.contains("address already in use"))
    }
}
