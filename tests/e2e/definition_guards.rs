//! `config/admission/definitions.yaml`: an older definition does not replace a newer one, whichever user applies it.

use busbar::api::{CRD_DIGEST, CRD_VERSION};
use busbar::testbed::control_plane::Options;
use serde_json::{Value, json};

use crate::cluster::control_planes::own_plane;
use crate::cluster::namespace::{KubectlOutput, TestNs};
use crate::cluster::policies::{User, assert_accepted, assert_denied, assert_type_checked, documents};
use crate::kit::wait::eventually;

const POLICY: &str = "busbar-crd-downgrade";
const JOBS: &str = "syncjobs.busbar.dev";
/// The version of the definitions at the begin of each test.
const INSTALLED: &str = "0.2.0";

/// The shipped definition of jobs as if it were from this version; `None` for the time before definitions had one.
fn definition(version: Option<&str>) -> Value {
    let (_, mut jobs) = documents("crds/busbar.dev_syncjobs.yaml").remove(0);
    match version {
        Some(version) => jobs["metadata"]["annotations"][CRD_VERSION] = json!(version),
        None => drop(jobs["metadata"].as_object_mut().unwrap().remove("annotations")),
    }
    jobs
}

/// The same with a further version of the kind; `storage` is the one that is stored.
fn with_beta(version: &str, storage: &str) -> Value {
    let mut jobs = definition(Some(version));
    let versions = jobs["spec"]["versions"].as_array_mut().unwrap();
    let mut beta = versions[0].clone();
    beta["name"] = json!("v1beta1");
    versions.push(beta);
    for version in versions {
        version["storage"] = json!(version["name"] == storage);
    }
    jobs["metadata"]["annotations"][CRD_DIGEST] = json!(format!("with {storage}"));
    jobs
}

async fn apply(user: &User<'_>, definition: &Value) -> KubectlOutput {
    apply_as(user, "kubectl", definition).await
}

async fn apply_as(user: &User<'_>, manager: &str, definition: &Value) -> KubectlOutput {
    let manager = format!("--field-manager={manager}");
    let arguments = ["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"];
    user.kubectl(&arguments, &definition.to_string()).await
}

/// The definition with another schema.
fn with_another_schema(mut definition: Value) -> Value {
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!("Another one.");
    definition
}

/// The policy in force, and a user who may do anything with definitions.
async fn administrator(ns: &TestNs) -> User<'_> {
    for (text, _) in documents("config/admission/definitions.yaml") {
        ns.plane().apply(&text).await.unwrap();
    }
    assert_type_checked(ns, &[POLICY.to_owned()]).await;
    ns.plane()
        .apply(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: definitions}\nrules:\n\
             - {apiGroups: [apiextensions.k8s.io], resources: [customresourcedefinitions], verbs: ['*']}\n",
        )
        .await
        .unwrap();
    ns.plane().apply(&definition(Some(INSTALLED)).to_string()).await.unwrap();
    let user = User::new(ns, "ann").await;
    let account = format!("--serviceaccount={}:ann", ns.name());
    ns.kubectl(&["create", "clusterrolebinding", "definitions", "--clusterrole=definitions", &account]).await.ok();
    user.until_allowed("patch", "customresourcedefinitions.apiextensions.k8s.io").await;
    eventually("the policy is in effect", async || {
        let dry = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
        let output = user.kubectl(&dry, &definition(Some("0.1.9")).to_string()).await;
        if output.stderr.contains("denied request") { Ok(()) } else { Err(output) }
    })
    .await;
    user
}

#[tokio::test]
async fn an_older_definition_never_replaces_a_newer_one() {
    let plane = own_plane(Options::default()).await;
    let ns = TestNs::on(&plane, "downgrade").await;
    let ann = administrator(&ns).await;
    // By number, not as text; the same version and newer ones are accepted.
    for accepted in [INSTALLED, "1.9.9", "1.9.9", "1.9.10", "1.9.10-rc.1", "1.10.0", "1.10.0+build.7", "2.0.0"] {
        assert_accepted(&apply(&ann, &definition(Some(accepted))).await);
    }
    for older in [Some("1.10.0"), Some("1.99.99"), Some(INSTALLED), Some(""), None] {
        let denied = apply(&ann, &definition(older)).await;
        let shown = older.unwrap_or_default();
        let text = format!("definition ({CRD_VERSION}: \"{shown}\" instead of \"2.0.0\"): keep the installed");
        assert_denied(&denied, &text);
        // Replaced, patched, and by the administrator: likewise.
        let replaced = ann.kubectl(&["replace", "-f", "-"], &definition(older).to_string()).await;
        assert!(!replaced.success, "{older:?}");
        let patch = json!({"metadata": {"annotations": {CRD_VERSION: older}}}).to_string();
        assert_denied(&ns.kubectl(&["patch", "crd", JOBS, "--type=merge", "-p", &patch]).await, &text);
    }
    let kept = ns.json("crd", JOBS).await.unwrap();
    assert_eq!(kept["metadata"]["annotations"][CRD_VERSION], "2.0.0");

    // Other annotations, and the definitions of others, are not concerned.
    let label = ["label", "crd", JOBS, "team=payments"];
    assert_accepted(&ns.kubectl(&label).await);
    let mut other = definition(Some("2.0.0"));
    other["metadata"]["name"] = json!("syncjobs.example.org");
    other["spec"]["group"] = json!("example.org");
    assert_accepted(&apply(&ann, &other).await);
    other["metadata"]["annotations"] = json!({CRD_VERSION: "1.0.0"});
    assert_accepted(&apply(&ann, &other).await);
}

#[tokio::test]
async fn an_old_definition_that_another_manager_forces_is_refused() {
    let plane = own_plane(Options::default()).await;
    let ns = TestNs::on(&plane, "forced").await;
    let ann = administrator(&ns).await;
    let older = with_another_schema(definition(None));
    for manager in ["kubectl", "helm", "argocd-controller"] {
        let denied = apply_as(&ann, manager, &older).await;
        assert!(!denied.success && denied.stderr.contains("denied request"), "{manager}: {}", denied.stderr);
    }
    assert_denied(&apply_as(&ann, "helm", &older).await, "must not change while busbar.dev/crd-digest stays");
    // Edited, likewise.
    let edit = json!([{
        "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "Edited.",
    }]);
    let edited = ns.kubectl(&["patch", "crd", JOBS, "--type=json", "-p", &edit.to_string()]).await;
    assert_denied(&edited, "must not change while busbar.dev/crd-digest stays");
    // Without the digest, which another manager may own: likewise.
    let mut bare = with_another_schema(definition(Some(INSTALLED)));
    drop(bare["metadata"]["annotations"].as_object_mut().unwrap().remove(CRD_DIGEST));
    assert_denied(&apply(&ann, &bare).await, "must not change while busbar.dev/crd-digest stays");
    // One that is wrong already is repaired in two steps.
    let digest = format!("{CRD_DIGEST}-");
    assert_accepted(&ns.kubectl(&["annotate", "crd", JOBS, &digest]).await);
    assert_accepted(&apply(&ann, &with_another_schema(definition(Some(INSTALLED)))).await);
    assert_denied(&apply(&ann, &definition(Some(INSTALLED))).await, "kubectl annotate crd syncjobs.busbar.dev");
    assert_accepted(&ns.kubectl(&["annotate", "crd", JOBS, &digest]).await);
    assert_accepted(&apply(&ann, &definition(Some(INSTALLED))).await);
    // The same one, and a whole one of a newer version, by another manager.
    assert_accepted(&apply_as(&ann, "helm", &definition(Some(INSTALLED))).await);
    let mut newer = with_another_schema(definition(Some("3.0.0")));
    newer["metadata"]["annotations"][CRD_DIGEST] = json!("another");
    assert_accepted(&apply_as(&ann, "argocd-controller", &newer).await);
}

#[tokio::test]
async fn a_stored_version_is_neither_removed_nor_replaced_without_a_newer_definition() {
    let plane = own_plane(Options::default()).await;
    let ns = TestNs::on(&plane, "stored").await;
    let ann = administrator(&ns).await;
    assert_accepted(&apply(&ann, &with_beta("2.0.0", "v1alpha1")).await);
    // Which version is stored changes with a newer definition only.
    let denied = apply(&ann, &with_beta("2.0.0", "v1beta1")).await;
    assert_denied(&denied, "must keep the storage version \"v1alpha1\": only a newer definition changes it");
    assert_accepted(&apply(&ann, &with_beta("3.0.0", "v1beta1")).await);
    assert_denied(&apply(&ann, &with_beta("3.0.0", "v1alpha1")).await, "must keep the storage version \"v1beta1\"");

    // Definitions without a version that is stored: the API server refuses them first, old and new ones alike.
    for without in ["1.0.0", "4.0.0"] {
        let removed = apply(&ann, &definition(Some(without))).await;
        assert!(!removed.success && removed.stderr.contains("status.storedVersions"), "{}", removed.stderr);
    }
    let kept = ns.json("crd", JOBS).await.unwrap();
    assert_eq!(kept["spec"]["versions"].as_array().unwrap().len(), 2);
}
