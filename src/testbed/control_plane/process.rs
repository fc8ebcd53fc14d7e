//! Child processes that do not outlive this process.
//!
//! Three mechanisms: dropping a [`Process`] kills it; the kernel kills it when this process exits (`setpriv
//! --pdeathsig`, where util-linux supports it); the reaper of the run directory kills it by its id (`run_dir`).

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::testbed::control_plane::error::ControlPlaneError;
use crate::testbed::control_plane::run_dir::RunDir;

/// Interval at which waits poll: short compared to anything that is measured, long compared to a busy loop.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Signals that the testbed sends. For SIGKILL, see [`Process::kill`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Signal {
    /// Terminate.
    Term,
    /// Interrupt, as Ctrl-C does.
    Int,
    /// Suspend.
    Stop,
    /// Resume.
    Cont,
}

impl Signal {
    /// The name without `SIG`, as `kill` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// The command, environment and log file of a child process.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Name in messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to this process's environment.
    pub env: Vec<(String, OsString)>,
    /// The file to which stdout and stderr are appended.
    pub log: PathBuf,
}

/// A running child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    run: Arc<RunDir>,
    exited: bool,
}

impl Process {
    /// Starts a process in a process group of its own, so that Ctrl-C at the terminal reaches only this process, which
    /// controls the order of shutdown.
    pub fn spawn(run: &Arc<RunDir>, spec: &ProcessSpec) -> Result<Self, ControlPlaneError> {
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(ControlPlaneError::file("open", &spec.log))?;
        let err = out.try_clone().map_err(ControlPlaneError::file("open", &spec.log))?;
        let mut command = if has_setpriv() {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(&spec.program);
            command
        } else {
            Command::new(&spec.program)
        };
        command
            .args(&spec.args)
            .envs(spec.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        let child = spawn_on_lasting_thread(command)
            .map_err(|source| ControlPlaneError::Spawn { name: spec.name.clone(), source })?;
        run.track(child.id());
        Ok(Self { name: spec.name.clone(), log: spec.log.clone(), child, run: Arc::clone(run), exited: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that receives stdout and stderr.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has exited.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() && !self.exited {
            self.exited = true;
            self.run.untrack(self.child.id());
        }
        status
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), ControlPlaneError> {
        let failed = |detail: String| ControlPlaneError::Signal {
            signal: signal.as_str(),
            name: self.name.clone(),
            pid: self.pid(),
            detail,
        };
        // kill(2) without unsafe code or another dependency; no test measures its 20 ms.
        let output = Command::new("kill")
            .args(["-s", signal.as_str()])
            .arg(self.pid().to_string())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        }
    }

    /// Waits for its exit for at most `timeout`.
    pub async fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let exit = async {
            loop {
                if let Some(status) = self.exited() {
                    return status;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(timeout, exit).await.ok()
    }

    /// Sends SIGTERM, then after `timeout` SIGKILL. Returns its exit status if SIGTERM was enough.
    pub async fn stop(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let signalled = self.signal(Signal::Term).is_ok();
        let status = if signalled { self.wait(timeout).await } else { self.exited() };
        if status.is_none() {
            self.kill();
        }
        status
    }

    /// Sends SIGKILL and waits for the exit.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
            self.exited();
        }
    }

    /// The last `lines` lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether `setpriv` is installed and supports `--pdeathsig` (`BusyBox`'s does not).
fn has_setpriv() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// A command to start, and the channel for the result.
type SpawnRequest = (Command, Sender<io::Result<Child>>);

/// Starts a child on a thread that lives as long as this process.
///
/// The kernel sends the death signal when the *thread* that forked ends. The threads of a test's runtime end with the
/// test, and a shared control plane started there would be killed with the first test.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<SpawnRequest>> = OnceLock::new();
    let closed = || io::Error::other("the thread that starts processes has ended");
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox): (Sender<SpawnRequest>, Receiver<SpawnRequest>) = channel();
        std::thread::spawn(move || {
            for (mut command, result) in inbox {
                drop(result.send(command.spawn()));
            }
        });
        requests
    });
    let (sender, receiver) = channel();
    spawner.send((command, sender)).map_err(|_| closed())?;
    receiver.recv().map_err(|_| closed())?
}
