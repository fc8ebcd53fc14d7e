//! The chart's monitors and rules, validated by the API server against the definitions of Prometheus Operator.

use std::path::PathBuf;

use serde::Deserialize as _;
use serde_json::Value;
use tokio::process::Command;

use crate::chart::{Cluster, NAMESPACE};
use crate::cluster::control_planes::repository;
use crate::cluster::namespace::KubectlOutput;
use crate::kit::wait::eventually;

/// The kinds that the chart has, and their definitions.
const KINDS: [(&str, &str); 3] =
    [("ServiceMonitor", "servicemonitors"), ("PodMonitor", "podmonitors"), ("PrometheusRule", "prometheusrules")];

/// The folder with the definitions; Go downloads their module on the first use.
async fn definitions() -> PathBuf {
    let output = Command::new(repository("hack/prometheus/operator-crds/folder")).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Installs the definitions that the chart's monitors and rules require.
pub(crate) async fn install_definitions(cluster: &Cluster) {
    let folder = definitions().await;
    for (_, plural) in KINDS {
        let file = folder.join(format!("monitoring.coreos.com_{plural}.yaml"));
        cluster.plane.apply_path(&file).await.unwrap();
        let served = ["get", "--raw", &format!("/apis/monitoring.coreos.com/v1/namespaces/{NAMESPACE}/{plural}")];
        eventually(format!("{plural} are served"), async || cluster.kubectl(&served, "").await.success).await;
    }
}

/// The rendered objects of Prometheus Operator.
async fn rendered(cluster: &Cluster, values: &[&str]) -> Vec<Value> {
    let args = [&["template", "busbar", "charts/busbar"][..], values].concat();
    let text = cluster.helm(&args).await.ok();
    serde_yaml::Deserializer::from_str(&text)
        .filter_map(|document| serde_yaml::Value::deserialize(document).ok())
        .filter(|object| {
            object["apiVersion"].as_str().is_some_and(|version| version.starts_with("monitoring.coreos.com/"))
        })
        .map(|object| serde_json::to_value(object).unwrap())
        .collect()
}

/// What the API server makes of an object, without storing it; unknown fields are errors.
async fn validated(cluster: &Cluster, object: &Value) -> KubectlOutput {
    let args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
    cluster.kubectl(&args, &object.to_string()).await
}

#[tokio::test]
async fn prometheus_operator_accepts_the_monitors_and_rules_of_the_chart() {
    let cluster = Cluster::new().await;
    cluster.restricted_namespace(NAMESPACE).await;
    install_definitions(&cluster).await;

    let all = "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true";
    let token = format!("{all},metrics.requireToken=true,metrics.tokenSecret.name=token");
    let labels = format!("{all},metrics.serviceMonitor.labels.release=prometheus,commonLabels.team=payments");
    let mut valid = None;
    for values in [
        &["--set", all][..],
        &["--set", &token],
        &["--set", &labels],
        &["--values", "charts/busbar/ci/full-values.yaml"],
    ] {
        let objects = rendered(&cluster, values).await;
        let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        for (kind, _) in KINDS {
            assert!(kinds.contains(&kind), "{values:?}: {kinds:?}");
        }
        for object in &objects {
            let output = validated(&cluster, object).await;
            assert!(output.success && output.stderr.is_empty(), "{values:?}: {}: {object}", output.stderr);
        }
        valid = Some(objects);
    }

    // The validation is a real one.
    for mut object in valid.unwrap() {
        match object["kind"].as_str() {
            Some("ServiceMonitor") => object["spec"]["endpoints"][0]["interval"] = "soon".into(),
            Some("PodMonitor") => object["spec"]["podMetricsEndpoints"][0]["honourLabels"] = true.into(),
            _ => object["spec"]["groups"][0]["rules"][0]["expr"] = Value::Null,
        }
        assert!(!validated(&cluster, &object).await.success, "{object}");
    }

    // And Helm installs them.
    cluster.helm(&["install", "busbar", "charts/busbar", "--set", all]).await.ok();
    for (kind, plural) in KINDS {
        assert!(cluster.get(plural, "busbar").await.is_some(), "{kind}");
    }
}
