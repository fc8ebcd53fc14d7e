//! The environment of the scenario: a control plane, three simulated banks and the operator; starting, observing and
//! stopping them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::canaries::Canaries;
use busbar::testbed::control_plane::process::Process;
use busbar::testbed::control_plane::{ControlPlane, OperatorIdentity, Options};
use busbar::testbed::sim::process::Announcement;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::endpoints::{Endpoints, OperatorAnnouncement};
use crate::error::Error;
use crate::install::{built_program, install, ledger_url, operator_process, prepare, simulator_process};
use crate::leaks::{self, Scope};
use crate::screen::Screen;

/// Interval between two checks of a condition; the printed times are exact to a tenth of a second.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time limit for the operator and the simulator to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit of a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit for the operator to exit after SIGTERM: exceeding its own grace period would be a bug.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of the operator's log that are printed after a failure.
const LOG_TAIL: usize = 15;

/// The running processes and the files of a run.
pub(crate) struct Environment {
    // First, so that they are dropped before the control plane.
    operator: Mutex<Process>,
    simulator: Mutex<Process>,
    client: kube::Client,
    pub(crate) plane: ControlPlane,
    identity: OperatorIdentity,
    pub(crate) canaries: Canaries,
    pub(crate) http: reqwest::Client,
    /// Files of this run; removed with it.
    pub(crate) directory: PathBuf,
    stop: CancellationToken,
    clock: Clock,
}

impl Environment {
    /// Starts the control plane, installs what is shipped, and starts the banks and the operator.
    pub(crate) async fn start(screen: &mut Screen, stop: &CancellationToken) -> Result<Self, Error> {
        let interrupted = async || {
            stop.cancelled().await;
            Error::Interrupted
        };
        let (busbar, simulator) = (built_program("busbar")?, built_program("busbar-sim")?);
        screen.step("Start a Kubernetes control plane");
        screen.waiting("etcd and kube-apiserver start");
        let plane = tokio::select! {
            plane = ControlPlane::start(Options { controllers: false, ..Options::default() }) => plane?,
            error = interrupted() => return Err(error),
        };
        let timings: Vec<_> =
            plane.startup_times().iter().map(|(part, took)| format!("{part} {:.1} s", took.as_secs_f64())).collect();
        screen.done(&timings.join(", "));

        screen.waiting("the custom resources are installed");
        let identity = tokio::select! {
            identity = install(&plane) => identity?,
            error = interrupted() => return Err(error),
        };
        screen.done("crds/, config/rbac/ and config/samples/ are applied");

        screen.step("Start the banks and the operator");
        let directory = plane.run_dir().path().join("demo");
        prepare(&directory, &plane, &busbar)?;
        let operator = Process::spawn(plane.run_dir(), &operator_process(&busbar, &directory, &identity))?;
        let simulator = Process::spawn(plane.run_dir(), &simulator_process(&simulator, &directory))?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build();
        Ok(Self {
            operator: Mutex::new(operator),
            simulator: Mutex::new(simulator),
            client: plane.client()?,
            plane,
            identity,
            canaries: Canaries::new(),
            http: http.map_err(|error| Error::Http { what: "an HTTP client".into(), detail: error.to_string() })?,
            directory,
            stop: stop.clone(),
            clock: Clock::system(),
        })
    }

    /// Waits until the banks listen and the operator is ready.
    pub(crate) async fn endpoints(&self, screen: &Screen) -> Result<Endpoints, Error> {
        let simulator = self.until(screen, "the simulated banks listen", START_TIMEOUT, async || {
            read_announcement::<Announcement>(&self.directory.join("banks.json"))
        });
        let simulator = simulator.await?;
        let ready = self.until(screen, "the operator is ready", START_TIMEOUT, async || {
            let OperatorAnnouncement { admin, gateway } = read_announcement(&self.directory.join("operator.json"))?;
            let (status, text) =
                self.get(&format!("http://{admin}/readyz")).await.map_err(|error| error.to_string())?;
            if status == 200 { Ok((admin, gateway)) } else { Err(text) }
        });
        let (admin, gateway) = ready.await?;
        Ok(Endpoints { admin, gateway, simulator })
    }

    /// Polls `check` until it succeeds; its error says what was observed instead.
    pub(crate) async fn until<T>(
        &self,
        screen: &Screen,
        condition: &str,
        deadline: Duration,
        mut check: impl AsyncFnMut() -> Result<T, String>,
    ) -> Result<T, Error> {
        let began = self.clock.mono();
        let mut last_seen = "nothing".to_owned();
        loop {
            screen.waiting(condition);
            self.check_processes()?;
            let left = deadline.saturating_sub(self.clock.mono().since(began));
            tokio::select! {
                () = self.stop.cancelled() => return Err(Error::Interrupted),
                checked = tokio::time::timeout(left.max(POLL_INTERVAL), check()) => match checked {
                    Ok(Ok(found)) => return Ok(found),
                    Ok(Err(instead)) => last_seen = instead,
                    Err(_) => {}
                },
            }
            if self.clock.mono().since(began) >= deadline {
                return Err(Error::Timeout { condition: condition.to_owned(), deadline, last_seen });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns on Ctrl-C, or with an error when a process exits by itself.
    pub(crate) async fn run_until_stopped(&self) -> Result<(), Error> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(Duration::from_secs(1)) => self.check_processes()?,
            }
        }
    }

    fn check_processes(&self) -> Result<(), Error> {
        for (name, process) in [("the operator", &self.operator), ("busbar-sim", &self.simulator)] {
            if let Some(status) = process.lock().unwrap_or_else(PoisonError::into_inner).exited() {
                return Err(Error::Exited { name, status });
            }
        }
        Ok(())
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, url: &str) -> Result<(u16, String), Error> {
        let failed = |error: reqwest::Error| Error::Http { what: format!("GET {url}"), detail: error.to_string() };
        let response = self.http.get(url).send().await.map_err(failed)?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.map_err(failed)?))
    }

    /// GET at the API server as admin. The error is a text for [`Self::until`]: the next check may succeed.
    pub(crate) async fn get_object(&self, path: &str) -> Result<Value, String> {
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        self.client.request(request).await.map_err(|error| error.to_string())
    }

    /// Runs a command with the variables of the run's `env` file; returns its stdout.
    pub(crate) async fn run(&self, program: &str, args: &[&str]) -> Result<String, Error> {
        let command = format!("{program} {}", args.join(" "));
        let failed = |detail: String| Error::Command { command: command.clone(), detail };
        let output = tokio::process::Command::new(self.directory.join("bin").join(program))
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.directory.join("kubectl-cache"))
            .env("BUSBAR_LEDGER", self.ledger())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_TIMEOUT, output)
            .await
            .map_err(|_| failed(format!("timed out after {COMMAND_TIMEOUT:?}")))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A kubeconfig whose namespace is the scenario's.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// The ledger, as `--ledger` takes it.
    pub(crate) fn ledger(&self) -> String {
        ledger_url(&self.directory)
    }

    /// The operator's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("operator.log")
    }

    /// What a scan of this run covers.
    pub(crate) fn scan_scope(&self) -> Scope<'_> {
        Scope { canaries: &self.canaries, plane: &self.plane, user: &self.identity.user, directory: &self.directory }
    }

    /// Prints the end of the operator's log and keeps the files for the diagnosis of a failure.
    pub(crate) fn keep_and_show_logs(&self, screen: &Screen) {
        screen.heading("The end of the operator's log");
        let tail = self.operator.lock().unwrap_or_else(PoisonError::into_inner).log_tail(LOG_TAIL);
        screen.command(&format!("tail -n {LOG_TAIL} {}", self.log().display()), &tail);
        self.plane.run_dir().keep();
    }

    /// Stops everything in order, the operator first, then scans the logs again for what was written meanwhile.
    /// `failed`: the demo has failed already, and its error has been printed.
    pub(crate) async fn stop(self, screen: &Screen, failed: bool) -> Result<(), Error> {
        screen.heading("Stopping");
        let mut operator = self.operator.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut simulator = self.simulator.into_inner().unwrap_or_else(PoisonError::into_inner);
        let pids = format!("operator (pid {}), banks (pid {})", operator.pid(), simulator.pid());
        let status = operator.stop(STOP_TIMEOUT).await;
        simulator.stop(STOP_TIMEOUT).await;
        let scanned = leaks::check_logs_and_audit(&Scope {
            canaries: &self.canaries,
            plane: &self.plane,
            user: &self.identity.user,
            directory: &self.directory,
        });
        let exited = match status {
            _ if failed => Ok(()),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Error::Exited { name: "the operator", status }),
            None => Err(Error::Killed(STOP_TIMEOUT)),
        };
        let result = scanned.and(exited);
        if result.is_err() {
            self.plane.run_dir().keep();
        }
        self.plane.stop().await;
        let files = if failed || result.is_err() { "The logs are kept." } else { "All files of the run are removed." };
        screen.text(&format!("Stopped: {pids}, and the control plane. {files}"));
        result
    }
}

/// Reads an announce file. It is written by rename, so it is complete or absent.
fn read_announcement<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read(path).map_err(|_| "no announce file yet".to_owned())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}
