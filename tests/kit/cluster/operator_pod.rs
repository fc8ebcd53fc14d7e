//! The Pod of an operator from its first start to the end of the test: the API server's controller creates it, and again
//! after each deletion; the node agent of the namespace runs it.

use std::sync::Arc;

use busbar::testbed::control_plane::OperatorScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use super::namespace::{TestNs, workload_name};
use super::node::agent::NodeAgent;
use super::node::control::StartedContainer;
use super::node::process::ContainerProcess;
use super::{chart_pod, chart_release};
use crate::kit::wait::eventually;

/// The name of the chart's container.
const CONTAINER: &str = "busbar";

/// One replica's Pod, by its name: a deleted one is followed by another with another UID.
pub(super) struct OperatorPod {
    node: Arc<NodeAgent>,
    namespace: String,
    name: String,
    /// What creates the Pod.
    workload: Value,
    workloads: Api<StatefulSet>,
    pods: Api<Pod>,
    /// The UIDs of all of them, oldest first.
    uids: Vec<String>,
    /// The container of the newest.
    container: Option<StartedContainer>,
}

impl OperatorPod {
    /// One that does not exist yet. Installs the release if the namespace has none.
    pub(super) async fn prepare(ns: &TestNs, scope: OperatorScope, replica: &str, flags: &[&str]) -> Self {
        let release = chart_release::installed(ns, scope).await;
        let (node, name) = (Arc::clone(ns.node().await), format!("{}-0", workload_name(replica)));
        let before = node.newest(ns.name(), &name);
        let runs = before.as_ref().is_some_and(|container| container.process.exited().is_none());
        assert!(!runs, "replica {replica} runs already: restart it");
        Self {
            node,
            namespace: ns.name().to_owned(),
            name,
            workload: chart_pod::workload(ns, release, replica, flags).await,
            workloads: ns.api(),
            pods: ns.api(),
            uids: Vec::new(),
            container: before,
        }
    }

    /// Has a new Pod created, in place of the present one if there is any, and waits until its container has started. No
    /// process of the present one may run.
    pub(super) async fn start_new(&mut self) {
        if self.uids.is_empty() {
            let name = self.workload["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            // Not with Helm's field manager: an administrator has edited it.
            let edit = json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet",
                "metadata": {"name": name, "labels": self.workload["metadata"]["labels"]},
                "spec": self.workload["spec"],
            });
            let parameters = PatchParams::apply("e2e").force();
            self.workloads.patch(&name, &parameters, &Patch::Apply(&edit)).await.expect("the workload is accepted");
        }
        let present = self.container.take().map(|container| container.uid);
        if let Some(uid) = &present {
            let now = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
                ..DeleteParams::default()
            };
            eventually("the old Pod is deleted", async || match self.pods.delete(&self.name, &now).await {
                // 404 and 409: it is gone, and perhaps followed by another one.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
                Err(error) => Err(error.to_string()),
                Ok(_) => Ok(()),
            })
            .await;
        }
        let started = eventually("the new Pod's container has started", async || {
            let newest = self.node.newest(&self.namespace, &self.name);
            match newest.filter(|container| present.as_ref() != Some(&container.uid)) {
                Some(container) => Ok(container),
                None => Err(json!(self.pods.get(&self.name).await.ok().and_then(|pod| pod.status))),
            }
        })
        .await;
        self.uids.push(started.uid.clone());
        self.container = Some(started);
    }

    /// Starts the container again in its Pod, as a kubelet does it, and waits until it has started. It must have ended.
    pub(super) async fn restart_container(&mut self) {
        let before = self.container.as_ref().expect("it was started");
        let (uid, pid) = (before.uid.clone(), before.process.pid());
        self.node.restart(&uid);
        let started = eventually("the container has started again", async || {
            let newest = self.node.newest(&self.namespace, &self.name);
            newest.filter(|container| container.uid == uid && container.process.pid() != pid)
        })
        .await;
        self.container = Some(started);
    }

    /// The process of its container, also after its end.
    pub(super) fn process(&self) -> Option<ContainerProcess> {
        self.container.as_ref().map(|container| container.process.clone())
    }

    /// The address of the Pod.
    pub(super) fn ip(&self) -> Option<&str> {
        self.container.as_ref().map(|container| container.ip.as_str())
    }

    /// The output of its containers so far, of all Pods.
    pub(super) fn logs(&self) -> String {
        self.uids.iter().map(|uid| self.node.log(uid, CONTAINER)).collect()
    }
}
