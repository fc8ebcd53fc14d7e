//! Why the demo failed.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use busbar::testbed::control_plane;

/// One variant per kind of failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Ctrl-C before the end of the scenario.
    #[error("interrupted before the end of the scenario")]
    Interrupted,
    /// The signal handlers could not be installed.
    #[error("cannot listen for Ctrl-C: {0}")]
    Signals(std::io::Error),
    /// A step's condition was not met in time.
    #[error("timed out after {deadline:?} waiting for: {condition}; last seen: {last_seen}")]
    Timeout {
        /// What was waited for.
        condition: String,
        /// The time limit.
        deadline: Duration,
        /// What was observed instead.
        last_seen: String,
    },
    /// A process that must run has exited.
    #[error("{name} exited ({status})")]
    Exited {
        /// The process.
        name: &'static str,
        /// Its exit status.
        status: ExitStatus,
    },
    /// The operator had to be killed.
    #[error("the operator did not exit within {0:?} of SIGTERM and was killed")]
    Killed(Duration),
    /// The control plane.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::ControlPlaneError),
    /// A program of the same build is missing.
    #[error("{} not found: run `make demo`, which builds it", .0.display())]
    NotBuilt(PathBuf),
    /// A file operation failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A command failed.
    #[error("`{command}` failed: {detail}")]
    Command {
        /// The command line.
        command: String,
        /// Its stderr, or why it did not run.
        detail: String,
    },
    /// The simulator or the operator returned an unexpected response.
    #[error("{what}: {detail}")]
    Http {
        /// The request.
        what: String,
        /// The response or the error.
        detail: String,
    },
    /// A secret leaked, or a right is missing.
    #[error("{}", .0.join("; "))]
    Findings(Vec<String>),
}

impl Error {
    /// For `map_err` of file operations.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
