//! Why the demo did not come to its end.

use std::path::PathBuf;
use std::time::Duration;

use busbar::testbed::control_plane;

/// One variant per kind of disappointment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Ctrl-C before the end of the story.
    #[error("stopped before the end of the story")]
    Interrupted,
    /// Ctrl-C could not be heard.
    #[error("cannot listen for Ctrl-C: {0}")]
    Signals(std::io::Error),
    /// What a step waits for did not come.
    #[error("not within {deadline:?}: {what}; last seen: {seen}")]
    Late {
        /// What was awaited.
        what: String,
        /// For how long.
        deadline: Duration,
        /// What was there instead.
        seen: String,
    },
    /// A process ended that should run.
    #[error("{name} ended ({status})")]
    Ended {
        /// Which.
        name: &'static str,
        /// How.
        status: String,
    },
    /// The control plane.
    #[error(transparent)]
    Plane(#[from] control_plane::Error),
    /// A program that is part of the build is missing.
    #[error("{} is missing: run `make demo`, which builds it", .0.display())]
    NotBuilt(PathBuf),
    /// A file could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A command that is shown failed.
    #[error("`{command}` failed: {detail}")]
    Command {
        /// As one would type it.
        command: String,
        /// What it said.
        detail: String,
    },
    /// The simulator or the operator did not answer as it should.
    #[error("{what}: {detail}")]
    Http {
        /// What was asked.
        what: String,
        /// What came.
        detail: String,
    },
    /// A secret was seen, or a right is missing.
    #[error("{}", .0.join("; "))]
    Findings(Vec<String>),
}

impl Failure {
    /// For `map_err`.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
