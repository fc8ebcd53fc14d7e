//! The reader of the guide: a folder with the repository's files, the programs, and a cluster whose Pods run.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::session::Session;
use super::surroundings::{PASSWORD, Surroundings};
use crate::chart::{Cluster, NAMESPACE};
use crate::cluster::chart_release::helm_path;
use crate::cluster::control_planes::repository;
use crate::cluster::node::agent::{NodeAgent, claim_dir};
use crate::kit::binary::run_async;
use crate::kit::http::client;
use crate::kit::wait::eventually;
use crate::prometheus_operator::install_definitions;

/// The definitions of snapshots, which a CSI driver with snapshots brings with it.
const SNAPSHOTS: [&str; 3] = ["volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots"];

/// A reader at a cluster.
pub(super) struct Reader {
    pub(super) cluster: Cluster,
    pub(super) surroundings: Surroundings,
    folder: PathBuf,
    session: Session,
    _node: NodeAgent,
}

impl Reader {
    pub(super) async fn new() -> Self {
        let (cluster, surroundings) = (Cluster::new().await, Surroundings::start().await);
        // As strict as a cluster may be.
        cluster.restricted_namespace(NAMESPACE).await;
        // The guide takes `sleep` and `tar` from `busybox`; every container has them here.
        let programs = [("busbar", env!("CARGO_BIN_EXE_busbar")), ("busybox", "/bin/sh")];
        let images = programs.map(|(image, program)| (image.to_owned(), PathBuf::from(program))).into();
        let node = NodeAgent::start(&cluster.plane, None, images).await;
        let home = cluster.home.path();
        let folder = home.join("reader");
        let bin = home.join("bin");
        for folder in [&folder, &bin] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink(repository("config"), folder.join("config")).unwrap();
        charts(&folder);
        fs::write(folder.join("database-ca.crt"), &surroundings.database_authority).unwrap();
        symlink(cluster.plane.kubectl_path(), bin.join("kubectl")).unwrap();
        symlink(helm_path().await, bin.join("helm")).unwrap();
        symlink(env!("CARGO_BIN_EXE_busbar"), bin.join("busbar")).unwrap();
        let mut environment: Vec<(&str, OsString)> =
            ["HOME", "CURL_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"]
                .map(|variable| (variable, home.into()))
                .into();
        environment.push(("KUBECONFIG", cluster.plane.admin_kubeconfig().into()));
        environment.push(("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()).into()));
        environment.push(("PASSWORD", PASSWORD.into()));
        let session = Session::start(&folder, home, &environment).await;
        Self { cluster, surroundings, folder, session, _node: node }
    }

    /// Writes a manifest of a page.
    pub(super) fn write(&self, name: &str, manifest: &str) {
        fs::write(self.folder.join(name), self.surroundings.localized(manifest)).unwrap();
    }

    /// Runs the commands of a block; returns what they print.
    pub(super) async fn run(&mut self, commands: &str) -> Result<String, String> {
        self.play_service().await;
        self.session.run(&self.surroundings.localized(commands)).await
    }

    /// Leads requests for the gateway's Service to a Pod that is ready: no Service has an effect here.
    async fn play_service(&self) {
        let selector = "app.kubernetes.io/name=busbar";
        let pods = ["-n", NAMESPACE, "get", "pods", "-l", selector, "-o", "json"];
        let pods: Value = serde_json::from_str(&self.cluster.kubectl(&pods, "").await.ok()).unwrap();
        let is_ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        };
        let mut settings = String::new();
        if let Some(ip) = pods["items"].as_array().unwrap().iter().find(is_ready).map(|pod| &pod["status"]["podIP"]) {
            let service = format!("busbar-gateway.{NAMESPACE}.svc:443");
            let _ = writeln!(settings, "connect-to = \"{service}:{}:8443\"", ip.as_str().unwrap());
        }
        fs::write(self.cluster.home.path().join(".curlrc"), settings).unwrap();
    }

    /// Brings about what a page says has happened; returns what there is to see of it.
    pub(super) async fn happens(&self, event: &str) -> String {
        match event {
            "Prometheus Operator is installed" => install_definitions(&self.cluster).await,
            "a CSI driver with snapshots is installed" => self.install_snapshots().await,
            "the volume of the ledger is lost" => return self.lose_ledger().await,
            _ => panic!("{event:?} is not known to the test of the guide"),
        }
        String::new()
    }

    async fn install_snapshots(&self) {
        let folder = run_async(Command::new(repository("hack/snapshot-crds/folder"))).await.ok();
        let folder = PathBuf::from(folder.trim());
        for plural in SNAPSHOTS {
            let file = folder.join(format!("snapshot.storage.k8s.io_{plural}.yaml"));
            self.cluster.plane.apply_path(&file).await.unwrap();
        }
        let served = ["get", "--raw", "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots"];
        eventually("snapshots are served", async || self.cluster.kubectl(&served, "").await.success).await;
    }

    /// Deletes the claim of the ledger, and the Pod, which comes back with an empty one. Returns what its gates say then.
    async fn lose_ledger(&self) -> String {
        let (claim, pod) = ("ledger-busbar-0", "busbar-0");
        let uid = async |kind: &str, name: &str| Some(self.cluster.get(kind, name).await?["metadata"]["uid"].clone());
        let (old_claim, old_pod) = (uid("pvc", claim).await, uid("pod", pod).await);
        let run = async |args: &[&str]| self.cluster.kubectl(&[&["-n", NAMESPACE], args].concat(), "").await.ok();
        // The old process keeps the directory under its other name; a new Pod finds none.
        let volume = claim_dir(&self.cluster.plane, NAMESPACE, claim);
        fs::rename(&volume, volume.with_extension("lost")).unwrap();
        run(&["delete", "pvc", claim, "--wait=false"]).await;
        // The claim may go while the Pod of the `StatefulSet`, which needs another one at once, is still there.
        run(&["patch", "pvc", claim, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;
        run(&["delete", "pod", pod]).await;
        for (kind, name, old) in [("pvc", claim, &old_claim), ("pod", pod, &old_pod)] {
            eventually(format!("another {kind}"), async || {
                let new = uid(kind, name).await;
                new.is_some() && new != *old
            })
            .await;
        }
        eventually("the operator waits for a decision about the ledger", async || {
            let pod = self.cluster.get("pod", pod).await.unwrap_or_default();
            let url = format!("http://{}:8081/readyz", pod["status"]["podIP"].as_str().ok_or("no address")?);
            let response = client().get(url).send().await.map_err(|error| error.to_string())?;
            let text = response.text().await.map_err(|error| error.to_string())?;
            if text.contains("ledger behind the leader lease") { Ok(text) } else { Err(text) }
        })
        .await
    }
}

/// The charts, for banks on this machine: the one value of a reader whose banks have private addresses.
fn charts(folder: &Path) {
    let copied = Command::new("cp").arg("-r").arg(repository("charts")).arg(folder).status().unwrap();
    assert!(copied.success());
    let values = folder.join("charts/busbar/values.yaml");
    let text = fs::read_to_string(&values).unwrap();
    let (before, after) = ("allowProviderAddresses: []", "allowProviderAddresses: [127.0.0.0/8]");
    assert_eq!(text.matches(before).count(), 1);
    fs::write(values, text.replace(before, after)).unwrap();
}
