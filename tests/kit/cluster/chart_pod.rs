//! The Pod of one operator: what the chart renders, with the flags of the test in place of the chart's.
//!
//! A flag that names the ledger of another replica mounts that replica's claim. Any other file or folder of this machine that a
//! flag names is mounted at its path: from a Secret with its content, or, if a server's socket is in it, as it is, with the
//! folder's group. Besides, a panic is logged with its backtrace. Nothing else of the Pod is changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::namespace::{TestNs, workload_name};

/// The label that tells the Pods of one replica from those of another.
const REPLICA: &str = "busbar.dev/test-replica";

/// Files of Secrets are readable by the Pod's group only, as those of the chart.
const MODE: i32 = 0o440;

/// The workload of a replica: the release's own for the first one, and one like it for the others. One replica; `flags` in
/// place of the chart's of the same name.
pub(super) async fn workload(ns: &TestNs, of_the_release: &Value, replica: &str, flags: &[&str]) -> Value {
    let mut set = of_the_release.clone();
    set["spec"]["replicas"] = json!(1);
    if replica != "a" {
        let (labels, name) = (set["metadata"]["labels"].clone(), workload_name(replica));
        set["metadata"] = json!({"name": name, "namespace": ns.name(), "labels": labels});
        set["spec"]["selector"]["matchLabels"][REPLICA] = json!(replica);
        set["spec"]["template"]["metadata"]["labels"][REPLICA] = json!(replica);
    }
    let mut mounts = Mounts::default();
    let mut own = Vec::new();
    for flag in flags {
        match claim(ns, flag) {
            Some(claim) if claim == TestNs::ledger_claim(replica) => {}
            Some(claim) => {
                set["spec"]["volumeClaimTemplates"] = json!([]);
                mounts.volumes.push(json!({"name": "ledger", "persistentVolumeClaim": {"claimName": claim}}));
            }
            None => {
                mounts.add(flag);
                own.push(*flag);
            }
        }
    }
    mounts.create_secrets(ns, replica).await;
    let pod = &mut set["spec"]["template"]["spec"];
    let args = &mut pod["containers"][0]["args"];
    let of_the_chart = args.as_array().expect("the chart's flags").clone();
    let is_replaced = |flag: &Value| own.iter().any(|other| name(other) == name(flag.as_str().unwrap_or_default()));
    let kept = of_the_chart.into_iter().filter(|flag| !is_replaced(flag));
    *args = kept.chain(own.iter().map(|flag| json!(flag))).collect();
    extend(&mut pod["containers"][0]["env"], [json!({"name": "RUST_BACKTRACE", "value": "1"})]);
    extend(&mut pod["containers"][0]["volumeMounts"], mounts.paths);
    extend(&mut pod["volumes"], mounts.volumes);
    extend(&mut pod["securityContext"]["supplementalGroups"], mounts.groups.into_iter().map(|group| json!(group)));
    set
}

fn name(flag: &str) -> &str {
    flag.split('=').next().unwrap_or_default()
}

/// Appends to a list that may be absent.
fn extend(list: &mut Value, more: impl IntoIterator<Item = Value>) {
    let mut all = list.as_array().cloned().unwrap_or_default();
    all.extend(more);
    *list = Value::Array(all);
}

/// The claim whose file a flag names as the ledger.
fn claim(ns: &TestNs, flag: &str) -> Option<String> {
    let file = Path::new(flag.strip_prefix("--ledger=sqlite:")?);
    let folder = file.parent()?.file_name()?.to_string_lossy().into_owned();
    let known = ns.ledger_file("a").parent()?.parent() == file.parent()?.parent();
    known.then_some(folder)
}

/// The files and folders of this machine that flags name.
#[derive(Default)]
struct Mounts {
    /// By folder: the files that a Secret holds.
    files: BTreeMap<PathBuf, Vec<PathBuf>>,
    volumes: Vec<Value>,
    /// Where the container has them.
    paths: Vec<Value>,
    /// Groups that may enter a folder.
    groups: Vec<u32>,
}

impl Mounts {
    fn add(&mut self, flag: &str) {
        let parts = flag.split(['=', '&', '?']).skip(1);
        for path in parts.map(Path::new).filter(|path| path.is_absolute() && path.exists()) {
            let entries = |folder: &Path| -> Vec<PathBuf> {
                let all = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
                all.collect()
            };
            if path.is_file() {
                self.files.entry(path.parent().expect("a folder").to_owned()).or_default().push(path.to_owned());
                continue;
            }
            let all = entries(path);
            if all.iter().any(|entry| entry.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())) {
                // A server's socket cannot be copied.
                self.groups.push(fs::metadata(path).expect("the folder").gid());
                let volume = format!("folder-{}", self.volumes.len());
                self.volumes.push(json!({"name": volume, "hostPath": {"path": path}}));
                self.paths.push(json!({"name": volume, "mountPath": path}));
            } else {
                let files = all.into_iter().filter(|entry| entry.is_file());
                self.files.entry(path.to_owned()).or_default().extend(files);
            }
        }
    }

    async fn create_secrets(&mut self, ns: &TestNs, replica: &str) {
        for (number, (folder, files)) in std::mem::take(&mut self.files).into_iter().enumerate() {
            let volume = format!("files-{number}");
            let secret = format!("{}-{volume}", workload_name(replica));
            let content = files.iter().map(|file| {
                let name = file.file_name().expect("a file").to_string_lossy().into_owned();
                (name, fs::read(file).expect("the file can be read"))
            });
            let content: Vec<(String, Vec<u8>)> = content.collect();
            let entries: Vec<(&str, &[u8])> = content.iter().map(|(name, text)| (&**name, &**text)).collect();
            ns.secret(&secret, &entries).await;
            self.volumes.push(json!({"name": volume, "secret": {"secretName": secret, "defaultMode": MODE}}));
            self.paths.push(json!({"name": volume, "mountPath": folder, "readOnly": true}));
        }
    }
}
