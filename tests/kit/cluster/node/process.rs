//! The process of a container, as its node and a test see it.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use busbar::testbed::control_plane::process::{Process, Signal};

/// Interval at which a wait looks: an exit is noticed at once, compared with anything that is measured.
const POLL: Duration = Duration::from_millis(20);

/// A container's process. Clones are the same process; it is killed when the Pod's node ends.
#[derive(Clone)]
pub(crate) struct ContainerProcess(Arc<Mutex<Process>>);

impl ContainerProcess {
    pub(super) fn new(process: Process) -> Self {
        Self(Arc::new(Mutex::new(process)))
    }

    fn locked(&self) -> MutexGuard<'_, Process> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process ID on this machine.
    pub(crate) fn pid(&self) -> u32 {
        self.locked().pid()
    }

    /// Its exit status, if it has exited.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        self.locked().exited()
    }

    /// Sends a signal; panics if the process has exited.
    pub(crate) fn signal(&self, signal: Signal) {
        self.try_signal(signal).unwrap_or_else(|error| panic!("SIG{}: {error}", signal.as_str()));
    }

    /// Sends a signal to a process that may have exited.
    pub(super) fn try_signal(&self, signal: Signal) -> Result<(), String> {
        self.locked().signal(signal).map_err(|error| error.to_string())
    }

    /// SIGKILL; the process is gone when this returns.
    pub(crate) fn kill(&self) {
        self.locked().kill();
    }

    /// Waits for its exit.
    pub(crate) async fn wait(&self, deadline: Duration) -> Option<ExitStatus> {
        let exit = async {
            loop {
                if let Some(status) = self.exited() {
                    return status;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(deadline, exit).await.ok()
    }

    /// SIGTERM, after the grace period SIGKILL.
    pub(super) async fn stop(&self, grace: Duration) {
        if self.try_signal(Signal::Term).is_err() || self.wait(grace).await.is_none() {
            self.kill();
        }
    }
}
