//! Prepares a run: installs what Busbar ships into the control plane, and describes the processes to start.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use busbar::testbed::control_plane::process::ProcessSpec;
use busbar::testbed::control_plane::{ControlPlane, OperatorIdentity, OperatorScope};

use crate::error::Error;

/// The namespace of the scenario's objects.
pub(crate) const NAMESPACE: &str = "demo";

/// The namespace of `config/samples/`.
pub(crate) const SAMPLES: &str = "samples";

/// The operator's own namespace, as in `config/rbac/`.
const SYSTEM: &str = "busbar-system";

/// The path of a program of the same build: this example is one folder below it.
pub(crate) fn built_program(name: &str) -> Result<PathBuf, Error> {
    let this = std::env::current_exe().map_err(Error::file("find", "this program"))?;
    let program = this.ancestors().nth(2).unwrap_or(Path::new("")).join(name);
    if program.is_file() { Ok(program) } else { Err(Error::NotBuilt(program)) }
}

/// Installs CRDs, roles, namespaces and samples as an administrator, and creates the operator's identity.
pub(crate) async fn install(plane: &ControlPlane) -> Result<OperatorIdentity, Error> {
    plane.install().await?;
    for namespace in [SYSTEM, NAMESPACE, SAMPLES] {
        plane.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n")).await?;
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    kubectl(plane, &["-n", SAMPLES, "apply", "--server-side", "-f", &samples.to_string_lossy()], "").await?;
    // The samples name public addresses, which a demo on this machine must not call.
    let connections = kubectl(plane, &["-n", SAMPLES, "get", "pconn", "-o", "name"], "").await?;
    let suspend = ["-n", SAMPLES, "patch", "--type=merge", r#"--patch={"spec":{"suspend":true}}"#];
    kubectl(plane, &suspend.into_iter().chain(connections.split_whitespace()).collect::<Vec<_>>(), "").await?;
    let identity = plane.grant_operator(SYSTEM, OperatorScope::Cluster).await?;
    for namespace in [NAMESPACE, SAMPLES] {
        plane.grant_secrets(namespace, SYSTEM).await?;
    }
    Ok(identity)
}

/// Runs kubectl as admin with `input` on its stdin; a warning of the API server is an error.
pub(crate) async fn kubectl(plane: &ControlPlane, args: &[&str], input: &str) -> Result<String, Error> {
    let output = plane.run_kubectl(args, input).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && stderr.is_empty() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Command { command: format!("kubectl {}", args.join(" ")), detail: stderr.trim().to_owned() })
}

/// Creates the run's folder: a kubeconfig, the programs by their short names, and a file to source.
pub(crate) fn prepare(directory: &Path, plane: &ControlPlane, busbar: &Path) -> Result<(), Error> {
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin).map_err(Error::file("create", &bin))?;
    for (name, program) in [("kubectl", plane.kubectl_path()), ("busbar", busbar)] {
        symlink(program, bin.join(name)).map_err(Error::file("link", bin.join(name)))?;
    }
    let admin = plane.admin_kubeconfig();
    let text = std::fs::read_to_string(admin).map_err(Error::file("read", admin))?;
    let kubeconfig = directory.join("kubeconfig");
    let text = text.replace("namespace: default", &format!("namespace: {NAMESPACE}"));
    std::fs::write(&kubeconfig, text).map_err(Error::file("write", &kubeconfig))?;
    let env = directory.join("env");
    let lines = format!(
        "export KUBECONFIG={}\nexport BUSBAR_LEDGER={}\nexport PATH={}:\"$PATH\"\n",
        kubeconfig.display(),
        ledger_url(directory),
        bin.display(),
    );
    std::fs::write(&env, lines).map_err(Error::file("write", &env))
}

/// The ledger of a run, as `--ledger` takes it.
pub(crate) fn ledger_url(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("busbar.db").display())
}

/// The operator's process.
pub(crate) fn operator_process(program: &Path, directory: &Path, identity: &OperatorIdentity) -> ProcessSpec {
    let flags = [
        "run".to_owned(),
        format!("--kubeconfig={}", identity.kubeconfig.display()),
        "--admin-address=127.0.0.1:0".to_owned(),
        "--gateway-address=loopback".to_owned(),
        "--gateway-auth=off".to_owned(),
        format!("--ledger={}", ledger_url(directory)),
        format!("--announce-file={}", directory.join("operator.json").display()),
        format!("--profiles-dir={}", Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/demo/profiles").display()),
        // The simulated banks listen on loopback.
        "--allow-provider-addresses=127.0.0.0/8".to_owned(),
    ];
    ProcessSpec {
        name: "the operator".to_owned(),
        program: program.to_owned(),
        args: flags.into_iter().map(OsString::from).collect(),
        env: Vec::new(),
        log: directory.join("operator.log"),
    }
}

/// The simulator's process: the three banks of the route, and two that take payouts.
pub(crate) fn simulator_process(program: &Path, directory: &Path) -> ProcessSpec {
    let announce = format!("--announce-file={}", directory.join("banks.json").display());
    ProcessSpec {
        name: "busbar-sim".to_owned(),
        program: program.to_owned(),
        args: ["--banks=5".to_owned(), announce].into_iter().map(OsString::from).collect(),
        env: Vec::new(),
        log: directory.join("banks.log"),
    }
}
