//! Child processes that die with us.
//!
//! Three nets, the widest last: dropping a [`Process`] kills it; the kernel kills it when we die (`setpriv --pdeathsig`,
//! where util-linux has it); the janitor of the run directory kills it by its id (`rundir`).

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::testbed::control_plane::{Error, RunDir};

/// How often a wait looks again: far below anything that is measured, far above a busy loop.
const GLANCE: Duration = Duration::from_millis(20);

/// Signals that the test bench sends. SIGKILL goes through [`Process::kill`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Signal {
    /// Please end.
    Term,
    /// As Ctrl-C does.
    Int,
    /// Freeze.
    Stop,
    /// Thaw.
    Cont,
}

impl Signal {
    /// Its name without `SIG`, as `kill` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// For messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to our own environment.
    pub env: Vec<(String, OsString)>,
    /// Its stdout and stderr are appended here.
    pub log: PathBuf,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    run: Arc<RunDir>,
    ended: bool,
}

impl Process {
    /// Starts it in a process group of its own, so that a Ctrl-C at the terminal reaches us alone and the order of
    /// shutdown stays ours.
    pub fn spawn(run: &Arc<RunDir>, spec: &Spec) -> Result<Self, Error> {
        let out =
            OpenOptions::new().create(true).append(true).open(&spec.log).map_err(Error::file("open", &spec.log))?;
        let err = out.try_clone().map_err(Error::file("open", &spec.log))?;
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
        let child = spawn_on_keeper(command).map_err(|source| Error::Spawn { name: spec.name.clone(), source })?;
        run.watch(child.id());
        Ok(Self { name: spec.name.clone(), log: spec.log.clone(), child, run: Arc::clone(run), ended: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its stdout and stderr go.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() && !self.ended {
            self.ended = true;
            self.run.forget(self.child.id());
        }
        status
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let failed = |detail: String| Error::Signal {
            signal: signal.as_str(),
            name: self.name.clone(),
            pid: self.pid(),
            detail,
        };
        // The safe way to kill(2) without another dependency; 20 ms that no test counts.
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

    /// Waits for its end for at most `patience`.
    pub async fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = async {
            loop {
                if let Some(status) = self.exited() {
                    return status;
                }
                tokio::time::sleep(GLANCE).await;
            }
        };
        tokio::time::timeout(patience, end).await.ok()
    }

    /// SIGTERM, then after `patience` SIGKILL. Returns its exit status if SIGTERM was enough.
    pub async fn stop(&mut self, patience: Duration) -> Option<ExitStatus> {
        let asked = self.signal(Signal::Term).is_ok();
        let status = if asked { self.wait(patience).await } else { self.exited() };
        if status.is_none() {
            self.kill();
        }
        status
    }

    /// SIGKILL, and waits for the end, which no process can refuse.
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

/// True if `setpriv` is here and knows `--pdeathsig` (`BusyBox` has one that does not).
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

/// A command to start, and where the answer goes.
type Order = (Command, Sender<io::Result<Child>>);

/// Starts a child on a thread that lives as long as we do.
///
/// The kernel's "parent" of the death signal is the *thread* that forked. A test's runtime takes its threads with it,
/// and a shared control plane started there would die with the first test.
fn spawn_on_keeper(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<Sender<Order>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is gone");
    let keeper = KEEPER.get_or_init(|| {
        let (orders, inbox): (Sender<Order>, Receiver<Order>) = channel();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, result) = channel();
    keeper.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}
