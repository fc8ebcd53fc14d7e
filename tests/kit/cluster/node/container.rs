//! Starts the process of a container: its command, environment, mounts and user, as the Pod declares them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use busbar::testbed::control_plane::RunDir;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Client;

use super::environment::{Place, environment, expand};
use super::process::ContainerProcess;
use super::volumes::Volumes;
use crate::cluster::memory_limit::MemoryLimit;

/// Makes the container's root and starts its process in it.
const SCRIPT: &str = include_str!("container.sh");

/// The programs that stand for images: the image's name without tag and digest → a program of this machine, the image's
/// entry point.
pub(crate) type Images = BTreeMap<String, PathBuf>;

/// Why a container cannot start: the reason of its state, and the cause.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StartError {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl StartError {
    pub(super) fn config(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into() }
    }
}

/// The user of a container's process.
#[derive(Clone, Debug)]
struct User {
    uid: i64,
    gid: i64,
    /// Further groups.
    groups: Vec<i64>,
    read_only_root: bool,
}

impl User {
    fn of(pod: &Pod, container: &Container) -> Result<Self, StartError> {
        let pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
        let own = container.security_context.clone().unwrap_or_default();
        let uid = own.run_as_user.or(pod.run_as_user).unwrap_or(0);
        if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) && uid == 0 {
            return Err(StartError::config("container has runAsNonRoot and image will run as root"));
        }
        Ok(Self {
            uid,
            gid: own.run_as_group.or(pod.run_as_group).unwrap_or(0),
            groups: pod.fs_group.into_iter().chain(pod.supplemental_groups.unwrap_or_default()).collect(),
            read_only_root: own.read_only_root_filesystem == Some(true),
        })
    }

    /// The flag of `setpriv` for the further groups.
    fn groups_flag(&self) -> String {
        let groups: Vec<_> = self.groups.iter().map(ToString::to_string).collect();
        if groups.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={}", groups.join(",")) }
    }
}

/// What is needed to start the containers of one Pod.
pub(super) struct Runtime {
    pub(super) client: Client,
    pub(super) run: Arc<RunDir>,
    pub(super) images: Images,
    pub(super) place: Place,
    /// The directory of the Pod.
    pub(super) directory: PathBuf,
}

impl Runtime {
    /// The file with a container's output.
    pub(super) fn log(&self, container: &str) -> PathBuf {
        self.directory.join(format!("{container}.log"))
    }

    /// Starts a container.
    pub(super) async fn start(
        &self,
        pod: &Pod,
        container: &Container,
        volumes: &Volumes,
        limit: Option<MemoryLimit>,
    ) -> Result<ContainerProcess, StartError> {
        let image = self.image(container)?;
        let user = User::of(pod, container)?;
        let variables = environment(&self.client, pod, container, &self.place).await.map_err(StartError::config)?;
        let root = self.directory.join(format!("{}.root", container.name));
        fs::create_dir_all(&root).map_err(|error| StartError::config(error.to_string()))?;
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let source = volumes.path(&mount.name);
            let source = source.ok_or_else(|| StartError::config(format!("volume {} not found", mount.name)))?;
            let source = source.join(mount.sub_path.as_deref().unwrap_or_default());
            let access = if mount.read_only == Some(true) { "ro" } else { "rw" };
            mounts.push([source.into_os_string(), mount.mount_path.clone().into(), access.into()]);
        }
        let name = format!("/image/{}", image.file_name().unwrap_or_default().to_string_lossy());
        let command = container.command.clone().filter(|command| !command.is_empty()).unwrap_or_else(|| vec![name]);
        let words = command.iter().chain(container.args.iter().flatten());
        let words = words.map(|word| self.on_own_address(&expand(word, &variables)).into());

        let mut args: Vec<OsString> = vec!["-i".into()];
        args.extend(variables.iter().map(|(name, value)| format!("{name}={value}").into()));
        args.extend(["unshare", "--mount", "--propagation=private", "sh", "-c", SCRIPT, "container"].map(Into::into));
        args.extend([root.into_os_string(), image.clone().into_os_string()]);
        args.push(container.working_dir.clone().unwrap_or_else(|| "/".to_owned()).into());
        args.push(if user.read_only_root { "ro" } else { "rw" }.into());
        args.extend(
            [user.uid.to_string(), user.gid.to_string(), user.groups_flag(), mounts.len().to_string()].map(Into::into),
        );
        args.extend(mounts.into_iter().flatten());
        args.extend(words);
        let spec = ProcessSpec {
            name: container.name.clone(),
            program: "env".into(),
            args,
            env: Vec::new(),
            log: self.log(&container.name),
        };
        let spec = match limit {
            Some(limit) => limit.applied_to(spec),
            None => spec,
        };
        Process::spawn(&self.run, &spec)
            .map(ContainerProcess::new)
            .map_err(|error| StartError { reason: "StartError", message: error.to_string() })
    }

    fn image(&self, container: &Container) -> Result<&PathBuf, StartError> {
        let image = container.image.as_deref().unwrap_or_default();
        let name = image.split('@').next().unwrap_or_default();
        // A colon before a slash is that of a registry's port.
        let name = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name);
        let unknown =
            || StartError { reason: "ErrImagePull", message: format!("image {image} not known to the node agent") };
        self.images.get(name).ok_or_else(unknown)
    }

    /// All Pods share the network of this machine, so "every address" in a flag becomes the address of the Pod.
    fn on_own_address(&self, word: &str) -> String {
        let word = word.replace("0.0.0.0:", &format!("{}:", self.place.ip));
        match word.rsplit_once("=:") {
            Some((flag, port)) if port.parse::<u16>().is_ok() => format!("{flag}={}:{port}", self.place.ip),
            _ => word,
        }
    }
}

/// A command that runs in a running container, as its user, with its environment.
pub(super) fn exec(
    process: &ContainerProcess,
    pod: &Pod,
    container: &Container,
    command: &[String],
) -> tokio::process::Command {
    exec_in(process.pid(), pod, container, command)
}

/// The same for the container of the process with this id.
pub(super) fn exec_in(pid: u32, pod: &Pod, container: &Container, command: &[String]) -> tokio::process::Command {
    let mut enter = tokio::process::Command::new("nsenter");
    enter.arg("--target").arg(pid.to_string()).args(["--mount", "--root", "--wd", "--", "setpriv"]);
    if let Ok(user) = User::of(pod, container) {
        enter.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid), user.groups_flag()]);
    }
    enter.args(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]).args(command);
    enter.env_clear().envs(process_environment(pid)).kill_on_drop(true);
    enter
}

/// The environment with which a process was started.
fn process_environment(pid: u32) -> Vec<(String, String)> {
    let text = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split('\0').filter_map(|entry| entry.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
