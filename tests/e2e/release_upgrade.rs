//! The first release is upgraded to this version and rolled back to: its own chart and its own binary, in Pods, with the
//! objects and the rows that it has written.
//!
//! `hack/releases` builds an earlier version once, into the user's cache; `make test` and `make soak` do so beforehand, and
//! `BUSBAR_RELEASES=build` has this test do so. Without it the test says that it shows nothing, and fails with `CI=true`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use busbar::api::CRD_VERSION;
use busbar::api::v1alpha1::SyncJob;
use busbar::testbed::sim::AccountConfig;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::chart_install::{POD, Release};
use crate::cluster::bank_env::{bank_connection, quick_policy};
use crate::cluster::control_planes::{report, repository};
use crate::cluster::sync_jobs::{FEED, steady_job};
use crate::kit::binary::run_async;
use crate::kit::objects::{candidates, route};
use crate::kit::wait::eventually;

/// The earliest version that a user may have.
const FIRST: &str = "0.1.0";

/// The objects of the story.
const OBJECTS: [(&str, &str); 5] = [
    ("breakerpolicy", "quick"),
    ("providerconnection", "a"),
    ("providerconnection", "mono"),
    ("syncjob", FEED),
    ("bankroute", "payouts"),
];

/// An earlier version as `hack/releases` has it: its binary, and its files.
struct Earlier {
    binary: PathBuf,
    chart: String,
}

/// The earlier version, if it was built.
#[expect(clippy::disallowed_methods, reason = "whether it may be left out is decided by the environment")]
async fn earlier(version: &str) -> Option<Earlier> {
    let mut command = Command::new(repository("hack/releases"));
    if std::env::var_os("BUSBAR_RELEASES").is_none_or(|wanted| wanted != "build") {
        command.arg("--print-only");
    }
    command.arg(version);
    let printed = run_async(command).await;
    if !printed.success() {
        let required = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!required, "hack/releases {version}: {}", printed.stderr);
        report(&format!(
            "SKIPPED: version {version} is not built: run hack/releases {version} ({})",
            printed.stderr.trim()
        ));
        return None;
    }
    let value = |name: &str| {
        let line = printed.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        PathBuf::from(line.unwrap_or_else(|| panic!("no {name} in {}", printed.stdout)))
    };
    let chart = value("source").join("charts/busbar").to_string_lossy().into_owned();
    Some(Earlier { binary: value("binary"), chart })
}

/// What users have written: the UID and the spec of each object.
async fn specs(release: &Release) -> BTreeMap<String, Value> {
    let mut specs = BTreeMap::new();
    for (kind, name) in OBJECTS {
        let object = release.env.ns.json(kind, name).await.unwrap_or_else(|| panic!("{kind}/{name} is gone"));
        specs.insert(format!("{kind}/{name}"), json!([object["metadata"]["uid"], object["spec"]]));
    }
    specs
}

/// The transactions in the ledger, whatever the version of its schema: what identifies each, and what it says.
fn rows(ledger: &Path) -> Vec<Vec<String>> {
    let ledger = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let columns = "record_key, account_token, booked_on, amount, currency, status, narration, revision";
    let query = format!("SELECT {columns} FROM transactions ORDER BY record_key, account_token");
    let mut statement = ledger.prepare(&query).unwrap();
    let text = |row: &rusqlite::Row<'_>| {
        (0..columns.split(',').count())
            .map(|column| row.get_ref(column).map(|value| format!("{value:?}")))
            .collect::<Result<Vec<String>, _>>()
    };
    statement.query_map([], text).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Waits until the running version has observed every object and accepted it, and the job has run when asked to.
async fn until_served(release: &Release, version: &str) {
    let requested = release.env.request::<SyncJob>(FEED).await;
    for (kind, name) in OBJECTS {
        eventually(format!("{version}: {kind}/{name} is Ready"), async || {
            let object = release.env.ns.json(kind, name).await.unwrap_or_default();
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            let observed = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            if ready && observed { Ok(()) } else { Err(object["status"].clone()) }
        })
        .await;
    }
    eventually(format!("{version}: the job ran"), async || {
        let status = release.env.ns.json("syncjob", FEED).await.unwrap_or_default()["status"].clone();
        let served = status["lastHandledReconcileAt"] == *requested
            && status["lastResult"] == "Succeeded"
            && status["history"][0]["requestedAt"] == *requested;
        if served { Ok(()) } else { Err(status) }
    })
    .await;
}

/// The version of the binary that runs in the Pod, as its node was told.
async fn image(release: &Release) -> String {
    let pod = release.cluster.get("pod", POD).await.unwrap();
    pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_first_release_is_upgraded_and_rolled_back_with_all_objects_and_rows() {
    let Some(first) = earlier(FIRST).await else { return };
    let images = [
        ("busbar-first".to_owned(), first.binary.clone()),
        ("busbar".to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_busbar"))),
    ];
    let release =
        Release::installed_from(&first.chart, images.into(), "upgrade", &["image.repository=busbar-first"]).await;
    let (cluster, env) = (&release.cluster, &release.env);
    env.put(&quick_policy("1s")).await;
    let bank = env.bank_with_secret("a").await;
    env.put(&bank_connection(&bank, json!({}))).await;
    env.mono("mono", |config| config.accounts([AccountConfig::new("acc-1", 250)])).await;
    env.put(&steady_job("24h")).await;
    env.put(&route("payouts", &candidates(&["a"]), json!({}))).await;
    until_served(&release, FIRST).await;
    assert!(image(&release).await.starts_with("busbar-first:"));
    let ledger = release.ledger();
    let (objects, stored) = (specs(&release).await, rows(&ledger));
    assert_eq!(stored.len(), 250);

    // Definitions first, then the operator, as docs/guide/operations.md says.
    let crds = ["upgrade", "--install", "busbar-crds", "charts/busbar-crds", "--take-ownership", "--force-conflicts"];
    cluster.helm(&crds).await.ok();
    let upgrade = ["upgrade", "busbar", "charts/busbar", "--reset-then-reuse-values", "--wait", "--timeout=3m"];
    cluster.helm(&[&upgrade[..], &["--set", "image.repository=busbar"]].concat()).await.ok();
    assert!(image(&release).await.starts_with("busbar:"));
    until_served(&release, "this version").await;
    assert_eq!(specs(&release).await, objects, "after the upgrade");
    assert_eq!(rows(&ledger), stored, "after the upgrade");

    // The operator is rolled back, the definitions are not.
    cluster.helm(&["rollback", "busbar", "1", "--wait", "--timeout=3m"]).await.ok();
    assert!(image(&release).await.starts_with("busbar-first:"));
    until_served(&release, "the first version again").await;
    assert_eq!(specs(&release).await, objects, "after the rollback");
    assert_eq!(rows(&ledger), stored, "after the rollback");
    let crd = cluster.get("crd", "syncjobs.busbar.dev").await.unwrap();
    assert_eq!(crd["metadata"]["annotations"][CRD_VERSION], env!("CARGO_PKG_VERSION"));
    let again = cluster.helm(&["rollback", "busbar", "2", "--wait", "--timeout=3m"]).await;
    assert!(again.success(), "to this version again: {}", again.stderr);
    until_served(&release, "this version again").await;
    assert_eq!((specs(&release).await, rows(&ledger)), (objects.clone(), stored.clone()));

    // Nothing of the user's is uninstalled.
    let definitions = cluster.definitions().await;
    for chart in ["busbar", "busbar-crds"] {
        cluster.helm(&["uninstall", chart, "--wait"]).await.ok();
    }
    assert_eq!(cluster.definitions().await, definitions);
    assert_eq!((specs(&release).await, rows(&ledger)), (objects, stored));
}
