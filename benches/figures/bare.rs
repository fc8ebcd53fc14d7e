//! A bare kube-rs controller, the operator's yardstick: it watches `ProviderConnection`s and patches one status per object
//! (`Ready=True`, server-side apply, as kube-rs's examples do), with neither Secrets, calls nor events.
//!
//! It is a process of its own (this program again, with [`FLAG`]), so that its CPU time and the load generator's are
//! told apart. It runs against the API server of the operator's measurement, in a namespace of its own.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use busbar::api::v1alpha1::ProviderConnection;
use busbar::clock::Clock;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use busbar::testbed::control_plane::{OperatorIdentity, OperatorScope};
use futures::StreamExt as _;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;

use crate::env::BenchEnv;

/// Marks a run of this program as the bare loop; the kubeconfig and the namespace follow.
pub(crate) const FLAG: &str = "--bare-loop";

/// Starts the bare loop on the environment's API server, in a namespace that is new. It ends when the process is dropped.
pub(crate) async fn start(env: &BenchEnv, namespace: &str) -> Process {
    env.create_namespace(namespace).await;
    let identity: OperatorIdentity =
        env.plane.grant_operator(namespace, OperatorScope::Namespace).await.expect("the bare loop's rights");
    let user = format!("--user={}", identity.user);
    let resource = "--resource=providerconnections.busbar.dev/status";
    for args in [
        ["role", "patch-status", "--verb=patch", resource],
        ["rolebinding", "patch-status", "--role=patch-status", &user],
    ] {
        let output =
            env.plane.run_kubectl(&[&["-n", namespace, "create"], &args[..]].concat(), "").await.expect("kubectl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let spec = ProcessSpec {
        name: "bare-loop".to_owned(),
        program: std::env::current_exe().expect("the path of this program"),
        args: vec![FLAG.into(), identity.kubeconfig.clone().into(), namespace.into()],
        env: Vec::new(),
        log: env.plane.run_dir().path().join("bare-loop.log"),
    };
    Process::spawn(env.plane.run_dir(), &spec).expect("the bare loop starts")
}

/// The bare loop itself; runs until it is killed.
pub(crate) fn run(kubeconfig: &Path, namespace: &str) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a config");
        let client = Client::try_from(config).expect("a client");
        let api: Api<ProviderConnection> = Api::namespaced(client, namespace);
        Controller::new(api.clone(), watcher::Config::default())
            .run(reconcile, |_, error, _| panic!("bare loop: {error}"), Arc::new(api))
            .for_each(|_| std::future::ready(()))
            .await;
    });
    ExitCode::SUCCESS
}

async fn reconcile(object: Arc<ProviderConnection>, api: Arc<Api<ProviderConnection>>) -> Result<Action, kube::Error> {
    if crate::env::condition(&object, "Ready", "True") {
        return Ok(Action::await_change());
    }
    let now = Clock::system().now().wall.to_string();
    let status = json!({
        "apiVersion": "busbar.dev/v1alpha1",
        "kind": "ProviderConnection",
        "status": {
            "observedGeneration": object.metadata.generation,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Accepted", "message": "bare loop",
                "lastTransitionTime": now, "observedGeneration": object.metadata.generation,
            }],
        },
    });
    api.patch_status(&object.name_any(), &PatchParams::apply("bare").force(), &Patch::Apply(status)).await?;
    Ok(Action::await_change())
}
