//! What the story happens in: a control plane, three simulated banks, the operator; and how it is looked at and ended.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::canaries::Canaries;
use busbar::testbed::control_plane::process::{Process, Spec};
use busbar::testbed::control_plane::{ControlPlane, Identity, Options, Reach};
use busbar::testbed::sim::announce::Announcement;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::check;
use crate::failure::Failure;
use crate::screen::Screen;

/// The namespace of the story's objects.
pub(crate) const NAMESPACE: &str = "demo";

/// The namespace of `config/samples/`.
pub(crate) const SAMPLES: &str = "samples";

/// The operator's own namespace, as `config/rbac/` ships it.
const SYSTEM: &str = "busbar-system";

/// How often a condition is looked at: what is told is right to a tenth of a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the operator and the simulator may take to listen.
const START: Duration = Duration::from_secs(20);

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(20);

/// How long the operator may take to end on SIGTERM: longer than its own grace would be a bug.
const END: Duration = Duration::from_secs(10);

/// Lines of the operator's log that a failure shows.
const LOG_TAIL: usize = 15;

/// Everything that runs.
pub(crate) struct World {
    // First, so that they end before the control plane does.
    operator: Mutex<Process>,
    simulator: Mutex<Process>,
    client: kube::Client,
    pub(crate) plane: ControlPlane,
    pub(crate) identity: Identity,
    pub(crate) canaries: Canaries,
    pub(crate) http: reqwest::Client,
    /// Files of this run; removed with it.
    pub(crate) directory: PathBuf,
    stop: CancellationToken,
    clock: Clock,
}

/// Where the other two listen, known once they do.
pub(crate) struct Places {
    /// The operator's admin port, `127.0.0.1:<port>`.
    pub(crate) admin: String,
    /// The gateway, `http://127.0.0.1:<port>`.
    pub(crate) gateway: String,
    /// The simulator.
    pub(crate) banks: Announcement,
}

/// What the operator writes when its port is bound.
#[derive(serde::Deserialize)]
struct Admin {
    admin: String,
    gateway: String,
}

impl World {
    /// Starts the control plane, installs what is shipped, and starts the banks and the operator.
    pub(crate) async fn start(screen: &mut Screen, stop: &CancellationToken) -> Result<Self, Failure> {
        let interrupted = async || {
            stop.cancelled().await;
            Failure::Interrupted
        };
        let (busbar, simulator) = (beside("busbar")?, beside("busbar-sim")?);
        screen.step("A Kubernetes control plane");
        screen.waiting("etcd, kube-apiserver and kube-controller-manager start");
        let plane = tokio::select! {
            plane = ControlPlane::start(Options::default()) => plane?,
            failure = interrupted() => return Err(failure),
        };
        let parts: Vec<_> =
            plane.timings().iter().map(|(part, took)| format!("{part} {:.1} s", took.as_secs_f64())).collect();
        screen.tick(&parts.join(", "));

        screen.waiting("the custom resources are installed");
        let identity = tokio::select! {
            identity = install(&plane) => identity?,
            failure = interrupted() => return Err(failure),
        };
        screen.tick("crds/, config/rbac/ and config/samples/ are applied");

        screen.step("Three simulated banks, and the operator");
        let directory = plane.run_dir().path().join("demo");
        prepare(&directory, &plane, &busbar)?;
        let operator = Process::spawn(plane.run_dir(), &operator(&busbar, &directory, &identity))?;
        let simulator = Process::spawn(plane.run_dir(), &bank_town(&simulator, &directory))?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build();
        Ok(Self {
            operator: Mutex::new(operator),
            simulator: Mutex::new(simulator),
            client: plane.client()?,
            plane,
            identity,
            canaries: Canaries::plant(),
            http: http.map_err(|error| Failure::Http { what: "an HTTP client".into(), detail: error.to_string() })?,
            directory,
            stop: stop.clone(),
            clock: Clock::system(),
        })
    }

    /// Waits until the operator is ready and the banks listen.
    pub(crate) async fn places(&self, screen: &Screen) -> Result<Places, Failure> {
        let banks = self.until(screen, "the simulated banks listen", START, async || {
            announced::<Announcement>(&self.directory.join("banks.json"))
        });
        let banks = banks.await?;
        let ready = self.until(screen, "the operator is ready", START, async || {
            let Admin { admin, gateway } = announced(&self.directory.join("operator.json"))?;
            let answer = self.get(&format!("http://{admin}/readyz")).await.map_err(|failure| failure.to_string())?;
            if answer.0 == 200 { Ok((admin, gateway)) } else { Err(answer.1) }
        });
        let (admin, gateway) = ready.await?;
        Ok(Places { admin, gateway, banks })
    }

    /// Waits until `look` finds what it looks for; until then it says what it sees instead.
    pub(crate) async fn until<T>(
        &self,
        screen: &Screen,
        what: &str,
        deadline: Duration,
        mut look: impl AsyncFnMut() -> Result<T, String>,
    ) -> Result<T, Failure> {
        let began = self.clock.mono();
        let mut seen = "nothing".to_owned();
        loop {
            screen.waiting(what);
            self.all_run()?;
            let left = deadline.saturating_sub(self.clock.mono().since(began));
            tokio::select! {
                () = self.stop.cancelled() => return Err(Failure::Interrupted),
                looked = tokio::time::timeout(left.max(LOOK_EVERY), look()) => match looked {
                    Ok(Ok(found)) => return Ok(found),
                    Ok(Err(instead)) => seen = instead,
                    Err(_) => {}
                },
            }
            if self.clock.mono().since(began) >= deadline {
                return Err(Failure::Late { what: what.to_owned(), deadline, seen });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Goes on until Ctrl-C, or until something ends by itself.
    pub(crate) async fn until_stopped(&self) -> Result<(), Failure> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(Duration::from_secs(1)) => self.all_run()?,
            }
        }
    }

    fn all_run(&self) -> Result<(), Failure> {
        for (name, process) in [("the operator", &self.operator), ("busbar-sim", &self.simulator)] {
            if let Some(status) = process.lock().unwrap_or_else(PoisonError::into_inner).exited() {
                return Err(Failure::Ended { name, status: status.to_string() });
            }
        }
        Ok(())
    }

    /// Status and body of an answer.
    pub(crate) async fn get(&self, url: &str) -> Result<(u16, String), Failure> {
        let failed = |error: reqwest::Error| Failure::Http { what: format!("GET {url}"), detail: error.to_string() };
        let answer = self.http.get(url).send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(failed)?))
    }

    /// An answer of the API server, as admin; what went wrong as text, for it may be there at the next look.
    pub(crate) async fn ask(&self, path: &str) -> Result<Value, String> {
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        self.client.request(request).await.map_err(|error| error.to_string())
    }

    /// Runs a command as the person at the terminal would after `source env`; its stdout.
    pub(crate) async fn run(&self, program: &str, args: &[&str]) -> Result<String, Failure> {
        let command = format!("{program} {}", args.join(" "));
        let failed = |detail: String| Failure::Command { command: command.clone(), detail };
        let output = tokio::process::Command::new(self.directory.join("bin").join(program))
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.directory.join("kubectl-cache"))
            .env("BUSBAR_LEDGER", self.ledger())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output =
            tokio::time::timeout(COMMAND, output).await.map_err(|_| failed(format!("no end after {COMMAND:?}")))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A kubeconfig whose namespace is the story's.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// The ledger, as `--ledger` takes it.
    pub(crate) fn ledger(&self) -> String {
        ledger(&self.directory)
    }

    /// The operator's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("operator.log")
    }

    /// Shows the end of the operator's log and keeps the files for whoever looks into a failure.
    pub(crate) fn keep_and_show_logs(&self, screen: &Screen) {
        screen.heading("The end of the operator's log");
        let tail = self.operator.lock().unwrap_or_else(PoisonError::into_inner).log_tail(LOG_TAIL);
        screen.command(&format!("tail -n {LOG_TAIL} {}", self.log().display()), &tail);
        self.plane.run_dir().keep();
    }

    /// Ends everything in order, the operator first; then looks once more at what it said while it ended. `failed`: the
    /// demo has failed already, and what went wrong has been told.
    pub(crate) async fn end(self, screen: &Screen, failed: bool) -> Result<(), Failure> {
        screen.heading("Stopping");
        let mut operator = self.operator.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut simulator = self.simulator.into_inner().unwrap_or_else(PoisonError::into_inner);
        let pids = format!("operator {}, banks {}", operator.pid(), simulator.pid());
        let status = operator.stop(END).await;
        simulator.stop(END).await;
        let found = check::logs_and_audit(&self.canaries, &self.plane, &self.identity.user, &self.directory);
        let ended = match status {
            _ if failed => Ok(()),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::Ended { name: "the operator", status: status.to_string() }),
            None => Err(Failure::Ended { name: "the operator", status: format!("killed {END:?} after SIGTERM") }),
        };
        let result = found.and(ended);
        if result.is_err() {
            self.plane.run_dir().keep();
        }
        self.plane.stop().await;
        let left = if failed || result.is_err() { "Only the logs are left." } else { "Nothing is left behind." };
        screen.say(&format!("Ended: {pids}, and the control plane. {left}"));
        result
    }
}

/// A program of the same build, beside the folder of this example.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let me = std::env::current_exe().map_err(Failure::file("find", "this program"))?;
    let program = me.ancestors().nth(2).unwrap_or(Path::new("")).join(name);
    if program.is_file() { Ok(program) } else { Err(Failure::NotBuilt(program)) }
}

/// CRDs, roles, namespaces and the operator's identity, as an administrator would.
async fn install(plane: &ControlPlane) -> Result<Identity, Failure> {
    plane.install().await?;
    for namespace in [SYSTEM, NAMESPACE, SAMPLES] {
        plane.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n")).await?;
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    kubectl(plane, &["-n", SAMPLES, "apply", "--server-side", "-f", &samples.to_string_lossy()], "").await?;
    // They name addresses in the world outside, which a demo on this machine leaves in peace.
    let connections = kubectl(plane, &["-n", SAMPLES, "get", "pconn", "-o", "name"], "").await?;
    let quiet = ["-n", SAMPLES, "patch", "--type=merge", r#"--patch={"spec":{"suspend":true}}"#];
    kubectl(plane, &quiet.into_iter().chain(connections.split_whitespace()).collect::<Vec<_>>(), "").await?;
    Ok(plane.grant_operator(SYSTEM, Reach::Cluster).await?)
}

/// Runs kubectl as admin with `input` on its stdin; a warning of the API server is a failure.
pub(crate) async fn kubectl(plane: &ControlPlane, args: &[&str], input: &str) -> Result<String, Failure> {
    let output = plane.run_kubectl(args, input).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.is_empty() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::Command { command: format!("kubectl {}", args.join(" ")), detail: said.trim().to_owned() })
}

/// Makes the run's folder: a kubeconfig, the programs by their short names, and a file to source.
fn prepare(directory: &Path, plane: &ControlPlane, busbar: &Path) -> Result<(), Failure> {
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin).map_err(Failure::file("create", &bin))?;
    for (name, program) in [("kubectl", plane.kubectl_path()), ("busbar", busbar)] {
        symlink(program, bin.join(name)).map_err(Failure::file("link", bin.join(name)))?;
    }
    let admin = plane.admin_kubeconfig();
    let text = std::fs::read_to_string(admin).map_err(Failure::file("read", admin))?;
    let kubeconfig = directory.join("kubeconfig");
    let text = text.replace("namespace: default", &format!("namespace: {NAMESPACE}"));
    std::fs::write(&kubeconfig, text).map_err(Failure::file("write", &kubeconfig))?;
    let env = directory.join("env");
    let lines = format!(
        "export KUBECONFIG={}\nexport BUSBAR_LEDGER={}\nexport PATH={}:\"$PATH\"\n",
        kubeconfig.display(),
        ledger(directory),
        bin.display(),
    );
    std::fs::write(&env, lines).map_err(Failure::file("write", &env))
}

fn ledger(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("busbar.db").display())
}

fn operator(program: &Path, directory: &Path, identity: &Identity) -> Spec {
    let flags = [
        "run".to_owned(),
        format!("--kubeconfig={}", identity.kubeconfig.display()),
        "--admin-address=127.0.0.1:0".to_owned(),
        "--gateway-address=loopback".to_owned(),
        "--gateway-auth=off".to_owned(),
        format!("--ledger={}", ledger(directory)),
        format!("--announce-file={}", directory.join("operator.json").display()),
        // The demo's banks are on this machine.
        "--allow-provider-addresses=127.0.0.0/8".to_owned(),
    ];
    Spec {
        name: "the operator".to_owned(),
        program: program.to_owned(),
        args: flags.into_iter().map(OsString::from).collect(),
        env: Vec::new(),
        log: directory.join("operator.log"),
    }
}

fn bank_town(program: &Path, directory: &Path) -> Spec {
    let announce = format!("--announce-file={}", directory.join("banks.json").display());
    Spec {
        name: "busbar-sim".to_owned(),
        program: program.to_owned(),
        args: ["--banks=3".to_owned(), announce].into_iter().map(OsString::from).collect(),
        env: Vec::new(),
        log: directory.join("banks.log"),
    }
}

/// Reads a file that is whole or absent.
fn announced<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read(path).map_err(|_| "it has not said yet where it listens".to_owned())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}
