//! Runs the `busbar` binary to its end.

use std::process::{Command, ExitStatus, Output, Stdio};

use tokio::process;

/// What a process printed, and how it ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Whether the exit status is 0.
    pub(crate) fn success(&self) -> bool {
        self.status.success()
    }

    /// Its stdout; panics with its stderr if it failed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.success(), "{}: {}", self.status, self.stderr);
        self.stdout
    }
}

/// The binary, with an empty environment: what this process has set decides nothing.
pub(crate) fn busbar(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busbar"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Finished {
    Finished::of(command.output().expect("the binary runs"))
}

/// The same beside servers of this process, which must go on.
pub(crate) async fn run_async(command: Command) -> Finished {
    let mut command = process::Command::from(command);
    Finished::of(command.kill_on_drop(true).output().await.expect("the binary runs"))
}
