//! The shell in which a reader types the commands of the guide: variables and functions stay from block to block.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Printed after the output of each block.
const END: &str = "--- end of the block ---";

/// Longest time for the commands of one block. Each waits with a limit of its own, the longest being Helm's five minutes.
const LONGEST: Duration = Duration::from_mins(10);

/// A shell that ends with the first command that fails. Dropping it ends the commands that it runs.
pub(super) struct Session {
    shell: Child,
    commands: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// The folder with the file of the block, and what the commands print to stderr.
    folder: PathBuf,
}

impl Session {
    /// A shell in `folder` with this environment and no other; `own` is a folder for its files.
    pub(super) async fn start(folder: &Path, own: &Path, environment: &[(&str, OsString)]) -> Self {
        let errors = fs::File::create(own.join("stderr")).unwrap();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(folder).env_clear().envs(environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let mut shell = command.spawn().expect("bash starts");
        let (commands, output) = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()).lines());
        let mut session = Self { shell, commands, output, folder: own.to_owned() };
        session.run("set -euo pipefail").await.expect("the shell starts");
        session
    }

    /// Runs a block; returns what it printed to stdout.
    ///
    /// # Errors
    /// If a command fails: what the block printed to both streams.
    pub(super) async fn run(&mut self, commands: &str) -> Result<String, String> {
        self.run_within(LONGEST, commands).await
    }

    /// The same with another limit.
    pub(super) async fn run_within(&mut self, longest: Duration, commands: &str) -> Result<String, String> {
        let (block, errors) = (self.folder.join("block"), self.folder.join("stderr"));
        fs::write(&block, commands).unwrap();
        let before = fs::read(&errors).unwrap().len();
        // Without stdin, so that no command reads what is typed next.
        let line = format!("source '{}' </dev/null; echo; echo '{END}'\n", block.display());
        let mut printed = String::new();
        let read = async {
            self.commands.write_all(line.as_bytes()).await.is_ok()
                && loop {
                    match self.output.next_line().await {
                        Ok(Some(line)) if line == END => break true,
                        Ok(Some(line)) => printed.extend([&*line, "\n"]),
                        Ok(None) | Err(_) => break false,
                    }
                }
        };
        let finished = tokio::time::timeout(longest, read).await;
        if finished == Ok(true) {
            return Ok(printed);
        }
        let why = if finished.is_err() { "did not end in time" } else { "failed" };
        let stderr = String::from_utf8_lossy(&fs::read(errors).unwrap()[before..]).into_owned();
        Err(format!("{why}:\n{commands}\nstdout:\n{printed}\nstderr:\n{stderr}"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The shell leads a process group of its own. No id once it has ended and was waited for.
        if let Some(id) = self.shell.id() {
            let group = format!("-{id}");
            drop(std::process::Command::new("kill").args(["-KILL", "--", &group]).output());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::wait::eventually;

    #[tokio::test]
    async fn a_session_keeps_variables_and_ends_with_the_first_failure() {
        let folder = tempfile::tempdir().unwrap();
        let environment = [("PATH", "/usr/bin:/bin".into())];
        let mut session = Session::start(folder.path(), folder.path(), &environment).await;
        session.run("a=1\nprint() { printf '%s' \"$a\"; cat; }").await.unwrap();
        assert_eq!(session.run("print; echo 2").await.unwrap(), "12\n\n");
        let failed = session.run("echo 3\necho why >&2\nfalse | cat\necho 4").await.unwrap_err();
        assert!(failed.contains("stdout:\n3\n") && failed.contains("why") && !failed.contains("4\n\n"), "{failed}");
        assert!(session.run("true").await.is_err());
    }

    #[tokio::test]
    async fn the_end_of_a_session_ends_its_commands() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = Session::start(folder.path(), folder.path(), &[("PATH", "/usr/bin:/bin".into())]).await;
        let id = session.run("sleep 1000 >/dev/null 2>&1 & echo $!").await.unwrap();
        let words = format!("/proc/{}/cmdline", id.trim());
        let read = || fs::read_to_string(&words).unwrap_or_default();
        eventually("sleep runs", async || read().starts_with("sleep")).await;
        drop(session);
        // Absent, or empty while no process has waited for it.
        eventually("sleep has ended", async || read().is_empty()).await;
    }
}
