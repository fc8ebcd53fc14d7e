//! Memory of a `busbar sync` process that reads a million rows.

use std::path::Path;
use std::time::Duration;

use busbar::testbed::control_plane::RunDir;
use serde_json::json;

use super::workload::{KEY, Workload};
use crate::Figures;
use crate::machine;

const ROWS: u64 = 1_000_000;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn run(figures: &mut Figures, directory: &std::sync::Arc<RunDir>) {
    // A bank of its own in a folder of its own: its name and its files are taken.
    let work = Workload::start(directory, ROWS).await;
    let folder = directory.path();
    let objects = folder.join("objects.yaml");
    std::fs::write(&objects, manifests(&work.base_url)).expect("the objects");
    let profiles = work.profile_file.parent().map(Path::to_path_buf).expect("a folder");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_busbar"))
        .args(["sync", "bench/books", "-f"])
        .arg(&objects)
        .arg(format!("--ledger=sqlite:{}", folder.join("million.db").display()))
        .arg(format!("--profiles-dir={}", profiles.display()))
        .args(["--identity=bench", "--allow-provider-addresses=127.0.0.0/8"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(folder.join("sync.log")).expect("a log"))
        .spawn()
        .expect("busbar sync starts");
    let mut samples = Vec::new();
    let status = loop {
        if let Some(status) = child.try_wait().expect("its state") {
            break status;
        }
        samples.push(machine::memory_mib(child.id(), "VmRSS"));
        tokio::time::sleep(LOOK).await;
    };
    let log = std::fs::read_to_string(folder.join("sync.log")).unwrap_or_default();
    assert!(status.success(), "{status}: {log}");
    samples.retain(|sample| sample.is_finite());
    let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let (first, second) = samples.split_at(samples.len() / 2);
    println!(
        "resident memory of {ROWS} rows, MiB at most: {:.1} in the first half, {:.1} in the second",
        most(first),
        most(second)
    );
    figures.figure("sync.rss_1m_rows_mib", format_args!("{:.1}", most(&samples)), "MiB");
    figures.figure("sync.rss_1m_growth", format_args!("{:.2}", most(second) / most(first).max(1.0)), "ratio");
}

fn manifests(base_url: &str) -> String {
    let metadata = |name: &str| json!({"name": name, "namespace": "bench"});
    let objects = [
        json!({
            "apiVersion": "busbar.dev/v1alpha1", "kind": "ProviderConnection", "metadata": metadata("bank"),
            "spec": {
                "provider": "profile:mono-large", "environment": "Sandbox",
                "endpoint": {"baseURL": format!("{base_url}/v2"), "insecure": true},
                "auth": {"profile": {"secretRef": {"name": "bank-key"}}},
            },
        }),
        json!({
            "apiVersion": "busbar.dev/v1alpha1", "kind": "SyncJob", "metadata": metadata("books"),
            "spec": {
                "connectionRef": {"name": "bank"}, "stream": "transactions", "parameters": {"accountId": "acc-1"},
                "interval": "1h", "retention": {"mode": "Off"},
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata("bank-key"), "stringData": {"api-key": KEY},
        }),
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}
