//! The directory of one run, and the reaper process that cleans up after this process.
//!
//! A test binary calls `exit`, a developer presses Ctrl-C twice, a runner sends SIGKILL: none of these runs a
//! destructor. So a small shell reads from a pipe that only this process holds. When this process exits for any reason,
//! the shell kills the remaining child processes and removes the directory, unless it is to be kept.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::testbed::control_plane::error::ControlPlaneError;

/// Reads `track <pid>`, `untrack <pid>` and `keep` until the pipe ends. The second `rm` is for a file that a process
/// wrote while it was being killed.
const REAPER: &str = r#"
trap '' INT TERM HUP
keep=no
pids=' '
while read -r verb pid; do
  case $verb in
    track) pids="$pids$pid " ;;
    untrack) pids="${pids%% $pid *} ${pids#* $pid }" ;;
    keep) keep=yes ;;
  esac
done
for pid in $pids; do kill -KILL "$pid"; done
[ "$keep" = yes ] || rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// A private directory that is removed when this value is dropped or the process exits.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    reaper: Mutex<Option<(Child, ChildStdin)>>,
    kept: AtomicBool,
}

impl RunDir {
    /// Creates the directory in the system's directory for temporary files, and starts its reaper.
    pub fn create(prefix: &str) -> Result<Self, ControlPlaneError> {
        let temp = std::env::temp_dir();
        let path =
            tempfile::Builder::new().prefix(prefix).tempdir().map_err(ControlPlaneError::file("create", &temp))?.keep();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(ControlPlaneError::file("protect", &path))?;
        // A process group of its own, or Ctrl-C would end the reaper too.
        let mut reaper = Command::new("sh")
            .args(["-c", REAPER, "reaper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| ControlPlaneError::Spawn { name: "sh".into(), source })?;
        let pipe = reaper.stdin.take().ok_or_else(|| ControlPlaneError::Spawn {
            name: "sh".into(),
            source: io::Error::other("stdin is not available"),
        })?;
        Ok(Self { path, reaper: Mutex::new(Some((reaper, pipe))), kept: AtomicBool::new(false) })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the reaper kill this process when the current process exits.
    pub(crate) fn track(&self, pid: u32) {
        self.send(&format!("track {pid}"));
    }

    /// Excludes a process that has exited: its id may be reused.
    pub(crate) fn untrack(&self, pid: u32) {
        self.send(&format!("untrack {pid}"));
    }

    /// Keeps the directory for diagnosing a failure, and prints its path (once).
    pub fn keep(&self) {
        if !self.kept.swap(true, Ordering::Relaxed) {
            self.send("keep");
            // Not a log line: it must be visible with any subscriber. A closed stderr is ignored.
            drop(writeln!(io::stderr(), "control plane: logs kept in {}", self.path.display()));
        }
    }

    fn send(&self, line: &str) {
        if let Some((_, pipe)) = self.reaper.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // The pipe is closed only if the reaper was killed; nothing can clean up then.
            drop(writeln!(pipe, "{line}").and_then(|()| pipe.flush()));
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
        if let Some((mut reaper, pipe)) = self.reaper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(pipe);
            drop(reaper.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_removed_on_drop_unless_kept() {
        let run = RunDir::create("busbar-test-").unwrap();
        let path = run.path().to_path_buf();
        fs::write(path.join("log"), "x").unwrap();
        drop(run);
        assert!(!path.exists());

        let run = RunDir::create("busbar-test-").unwrap();
        let path = run.path().to_path_buf();
        run.keep();
        drop(run);
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_reaper_kills_tracked_processes_and_spares_untracked_ones() {
        let sleeper = || Command::new("sleep").arg("60").spawn().unwrap();
        let (mut first, mut spared, mut last) = (sleeper(), sleeper(), sleeper());
        let run = RunDir::create("busbar-test-").unwrap();
        for child in [&first, &spared, &last] {
            run.track(child.id());
        }
        run.untrack(spared.id());
        drop(run);
        assert!(!first.wait().unwrap().success());
        assert!(!last.wait().unwrap().success());
        assert!(spared.try_wait().unwrap().is_none(), "an untracked process was killed");
        spared.kill().unwrap();
        spared.wait().unwrap();
    }
}
