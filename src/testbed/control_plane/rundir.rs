//! The directory of one run, and the janitor that outlives us.
//!
//! A test binary ends with `exit`, a developer presses Ctrl-C twice, a runner sends SIGKILL: none of these runs a
//! destructor. So a small shell waits at the end of a pipe that only we hold. When we are gone, however we went, it
//! kills what we had started and had not seen end, and removes the directory, unless told to keep it.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::testbed::control_plane::Error;

/// Reads `watch <pid>`, `forget <pid>` and `keep` until the pipe ends. The second `rm` is for a file that a process wrote
/// while it was dying.
const JANITOR: &str = r#"
trap '' INT TERM HUP
keep=no
pids=' '
while read -r verb pid; do
  case $verb in
    watch) pids="$pids$pid " ;;
    forget) pids="${pids%% $pid *} ${pids#* $pid }" ;;
    keep) keep=yes ;;
  esac
done
for pid in $pids; do kill -KILL "$pid"; done
[ "$keep" = yes ] || rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// A private directory that is removed when this value, or the whole process, is gone.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    janitor: Mutex<Option<(Child, ChildStdin)>>,
    kept: AtomicBool,
}

impl RunDir {
    /// Makes the directory under the system's place for temporary files, and starts its janitor.
    pub fn create(prefix: &str) -> Result<Self, Error> {
        let temp = std::env::temp_dir();
        let path = tempfile::Builder::new().prefix(prefix).tempdir().map_err(Error::file("create", &temp))?.keep();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(Error::file("protect", &path))?;
        // A process group of its own, or Ctrl-C would take the janitor too.
        let mut janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { name: "sh".into(), source })?;
        let pipe = janitor
            .stdin
            .take()
            .ok_or_else(|| Error::Spawn { name: "sh".into(), source: io::Error::other("it has no standard input") })?;
        Ok(Self { path, janitor: Mutex::new(Some((janitor, pipe))), kept: AtomicBool::new(false) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The janitor kills this process when we are gone.
    pub(crate) fn watch(&self, pid: u32) {
        self.tell(&format!("watch {pid}"));
    }

    /// The process has ended; its id may belong to somebody else from now on.
    pub(crate) fn forget(&self, pid: u32) {
        self.tell(&format!("forget {pid}"));
    }

    /// Keeps the directory for whoever looks into a failure, and prints its path (once).
    pub fn keep(&self) {
        if !self.kept.swap(true, Ordering::Relaxed) {
            self.tell("keep");
            // Not a log line: it must reach the person, whatever the subscriber does. A closed stderr is no reason to fail.
            drop(writeln!(io::stderr(), "control plane: logs are kept in {}", self.path.display()));
        }
    }

    fn tell(&self, line: &str) {
        if let Some((_, pipe)) = self.janitor.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // The janitor can only be gone if somebody killed it; then nobody is left to tell.
            drop(writeln!(pipe, "{line}").and_then(|()| pipe.flush()));
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
        if let Some((mut janitor, pipe)) = self.janitor.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(pipe);
            drop(janitor.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_removed_with_its_value_unless_kept() {
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
    fn the_janitor_kills_what_is_watched_and_spares_what_is_forgotten() {
        let sleeper = || Command::new("sleep").arg("60").spawn().unwrap();
        let (mut first, mut spared, mut last) = (sleeper(), sleeper(), sleeper());
        let run = RunDir::create("busbar-test-").unwrap();
        for child in [&first, &spared, &last] {
            run.watch(child.id());
        }
        run.forget(spared.id());
        drop(run);
        assert!(!first.wait().unwrap().success());
        assert!(!last.wait().unwrap().success());
        assert!(spared.try_wait().unwrap().is_none(), "a forgotten process was killed");
        spared.kill().unwrap();
        spared.wait().unwrap();
    }
}
