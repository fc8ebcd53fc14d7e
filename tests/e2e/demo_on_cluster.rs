//! `make demo ARGS=--context=NAME`: the demo's story on an existing cluster, which is afterwards as it was.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use busbar::testbed::control_plane::process::{Process, ProcessSpec, Signal};

use crate::chart::Cluster;
use crate::cluster::control_planes::repository;
use crate::kit::binary::{Finished, run_async};
use crate::kit::wait::eventually;

/// The context of the control plane's kubeconfig.
const CONTEXT: &str = "--context=local";

/// Time for the script to end after a signal: it deletes a namespace.
const CLEAN_UP: Duration = Duration::from_mins(2);

/// Links kubectl into a folder of the test, and returns the script's environment.
fn environment(cluster: &Cluster) -> Vec<(String, std::ffi::OsString)> {
    let bin = cluster.home.path().join("bin");
    if !bin.exists() {
        std::fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink(cluster.plane.kubectl_path(), bin.join("kubectl")).unwrap();
    }
    let target = Path::new(env!("CARGO_BIN_EXE_busbar")).ancestors().nth(2).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    vec![
        ("PATH".to_owned(), path.into()),
        ("HOME".to_owned(), cluster.home.path().into()),
        ("TMPDIR".to_owned(), cluster.home.path().into()),
        ("CARGO_TARGET_DIR".to_owned(), target.into()),
        ("KUBECONFIG".to_owned(), cluster.plane.admin_kubeconfig().into()),
    ]
}

async fn demo(cluster: &Cluster, context: &str) -> Finished {
    let mut command = Command::new(repository("hack/demo/on-cluster"));
    command.args([context, "--once"]).env_clear().envs(environment(cluster));
    run_async(command).await
}

/// What the cluster has of ours, and files of a run.
async fn left(cluster: &Cluster) -> Vec<String> {
    let objects = cluster.kubectl(&["get", "crd,ns", "-o", "name"], "").await.ok();
    let ours = objects.lines().filter(|name| name.contains("busbar")).map(str::to_owned);
    let files = std::fs::read_dir(cluster.home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let files = files.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with("busbar-demo"));
    ours.chain(files).collect()
}

#[tokio::test]
async fn the_demo_on_a_cluster_plays_its_story_and_leaves_nothing_behind() {
    let cluster = Cluster::new().await;
    let output = demo(&cluster, CONTEXT).await.ok();
    for line in
        ["4 custom resource definitions installed", "failed over to the next cheapest bank", "failed back to bank-a"]
    {
        assert!(output.contains(line), "{line:?} is not in:\n{output}");
    }
    assert_eq!(left(&cluster).await, [""; 0]);

    // What was there stays: the definitions, and the objects of other namespaces.
    cluster.plane.install().await.unwrap();
    let policy = "{apiVersion: busbar.dev/v1alpha1, kind: BreakerPolicy, metadata: {name: kept}, spec: {}}";
    cluster.kubectl(&["-n", "default", "apply", "-f", "-"], policy).await.ok();
    let before = cluster.definitions().await;

    // Interrupted in the middle.
    let spec = ProcessSpec {
        name: "the demo".to_owned(),
        program: repository("hack/demo/on-cluster"),
        args: vec![CONTEXT.into()],
        env: environment(&cluster),
        log: cluster.home.path().join("demo.log"),
    };
    let mut process = Process::spawn(cluster.plane.run_dir(), &spec).unwrap();
    eventually("the banks are healthy", async || {
        std::fs::read_to_string(process.log()).is_ok_and(|text| text.contains("bank-c is Healthy"))
    })
    .await;
    process.signal(Signal::Term).unwrap();
    let status = process.wait(CLEAN_UP).await;
    assert_eq!(status.and_then(|status| status.code()), Some(143), "{:?}", std::fs::read_to_string(process.log()));
    let text = std::fs::read_to_string(process.log()).unwrap();
    assert!(text.contains("Removed: namespace busbar-demo-"), "{text}");
    assert_eq!(cluster.definitions().await, before);
    let namespaces = left(&cluster).await;
    assert!(namespaces.iter().all(|name| name.contains("customresourcedefinition")), "{namespaces:?}");
    cluster.kubectl(&["-n", "default", "get", "brkp", "kept"], "").await.ok();

    // It refuses a context that does not answer, and a cluster with an operator.
    let unknown = demo(&cluster, "--context=nowhere").await;
    assert!(!unknown.success() && unknown.stderr.contains("context nowhere does not answer"), "{}", unknown.stderr);
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: busbar-0, labels: {app.kubernetes.io/name: busbar}}, \
               spec: {containers: [{name: busbar, image: busbar}]}}";
    cluster.kubectl(&["-n", "default", "create", "--validate=strict", "-f", "-"], pod).await.ok();
    let second = demo(&cluster, CONTEXT).await;
    assert!(!second.success() && second.stderr.contains("an operator is installed"), "{}", second.stderr);
}
