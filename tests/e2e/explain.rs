//! `busbar explain kind/name`, run by a user who may read our kinds and no Secret.

use std::path::Path;

use serde_json::Value;

use crate::cluster::control_planes::repository;
use crate::cluster::namespace::TestNs;
use crate::kit::binary::{Finished, busbar, run_async};
use crate::kit::wait::eventually;

async fn explain(ns: &TestNs, kubeconfig: &Path, target: &str) -> Finished {
    let mut command = busbar(&["explain", target, "-o", "json", "-n", ns.name()]);
    command.env("BUSBAR_KUBECONFIG", kubeconfig);
    run_async(command).await
}

#[tokio::test]
async fn an_object_in_the_cluster_is_explained_like_its_file() {
    let ns = TestNs::new("effective").await;
    let samples = repository("config/samples");
    ns.kubectl(&["apply", "--server-side", "-f", &samples.to_string_lossy()]).await.ok();
    ns.apply(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: reader}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader}\nrules:\n\
         - {apiGroups: [busbar.dev], resources: [\"*\"], verbs: [get, list]}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: reader}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}\n\
         subjects: [{kind: ServiceAccount, name: reader}]\n",
    )
    .await;
    let user = format!("system:serviceaccount:{}:reader", ns.name());
    eventually("the reader's rights", async || {
        ns.plane().is_allowed(&user, ns.name(), "list", "busbar.dev", "breakerpolicies").await.unwrap()
    })
    .await;
    let kubeconfig = ns.plane().service_account_kubeconfig(ns.name(), "reader").await.unwrap();
    let from_files = explain(&ns, &kubeconfig, &samples.to_string_lossy()).await;
    let from_files: Value = serde_json::from_str(&from_files.stdout).unwrap();
    for target in ["pconn/mono", "providerconnection/bank-a", "brkp/banks", "sjob/mono-transactions", "broute/payouts"]
    {
        let output = explain(&ns, &kubeconfig, target).await;
        let explained: Value = serde_json::from_str(&output.ok()).unwrap();
        let name = target.split_once('/').unwrap().1;
        let file = from_files.as_array().unwrap().iter().find(|e| e["name"] == name).unwrap();
        assert_eq!(explained[0].to_string(), file.to_string(), "{target}");
    }
    let absent = explain(&ns, &kubeconfig, "pconn/unknown").await;
    assert!(!absent.success() && absent.stderr.contains("unknown does not exist"), "{}", absent.stderr);
}
