//! `busbar explain kind/name`, as somebody who may read our kinds and no Secret.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use crate::support::plane::{PATIENCE, repository};
use crate::support::{TestNs, eventually};

async fn explain(ns: &TestNs, kubeconfig: &std::path::Path, target: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_busbar"))
        .args(["explain", target, "-o", "json", "-n", ns.name()])
        .env("BUSBAR_KUBECONFIG", kubeconfig)
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn an_object_in_the_cluster_is_explained_like_its_file_and_no_secret_is_asked_for() {
    let ns = TestNs::new("effective").await;
    let samples = repository("config/samples");
    ns.kubectl(&["apply", "--server-side", "-f", &samples.to_string_lossy()]).await.ok().unwrap();
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
    eventually(PATIENCE, "the reader's rights", async || {
        ns.plane().is_allowed(&user, ns.name(), "list", "busbar.dev", "breakerpolicies").await.unwrap().then_some(())
    })
    .await;
    let kubeconfig = ns.plane().service_account_kubeconfig(ns.name(), "reader").await.unwrap();
    let from_files = explain(&ns, &kubeconfig, &samples.to_string_lossy()).await;
    let from_files: Value = serde_json::from_slice(&from_files.stdout).unwrap();
    for target in ["pconn/mono", "providerconnection/bank-a", "brkp/banks", "sjob/mono-transactions", "broute/payouts"]
    {
        let output = explain(&ns, &kubeconfig, target).await;
        assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
        let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
        let name = target.split_once('/').unwrap().1;
        let file = from_files.as_array().unwrap().iter().find(|e| e["name"] == name).unwrap();
        assert_eq!(explained[0].to_string(), file.to_string(), "{target}");
    }
    let absent = explain(&ns, &kubeconfig, "pconn/nobody").await;
    let told = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert!(!absent.status.success() && told.contains("nobody does not exist"), "{told}");
}
