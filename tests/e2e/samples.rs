//! The samples on a real API server: valid ones are accepted without a warning and stay as written, invalid ones are
//! refused with the message that they name, and `kubectl explain` describes every field.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, stream};
use kube::api::{DynamicObject, PostParams};
use kube::core::TypeMeta;
use kube::discovery::ApiResource;
use kube::{Api, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::Value;

use crate::cluster::control_planes::repository;
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::wait::eventually;

/// Runs of kubectl at a time: more would only wait for the CPUs.
const CONCURRENCY: usize = 4;

/// The files of a folder, without its subfolders, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(repository(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} holds no samples");
    files
}

/// The message or reason in the first line of a sample.
fn expected(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("# want: ").unwrap_or_else(|| panic!("{}: no `# want: `", path.display())).trim().to_owned()
}

/// Our objects in a sample; it may bring a Secret along, which is not one of them.
fn objects(path: &Path) -> Vec<DynamicObject> {
    let text = fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| serde_yaml::Value::deserialize(document).unwrap())
        .filter(|document| document["apiVersion"].as_str().is_some_and(|version| version.starts_with("busbar.dev/")))
        // By way of JSON text: `serde_json` keeps the digits of numbers in a form that only it can read.
        .map(|document| serde_json::from_str(&serde_json::to_string(&document).unwrap()).unwrap())
        .collect()
}

fn api_of(ns: &TestNs, object: &DynamicObject) -> Api<DynamicObject> {
    let TypeMeta { kind, .. } = object.types.clone().unwrap();
    let gvk = kube::core::GroupVersionKind::gvk("busbar.dev", "v1alpha1", &kind);
    Api::namespaced_with(ns.client(), ns.name(), &ApiResource::from_gvk(&gvk))
}

async fn apply_without_a_warning(ns: &TestNs, path: &str) {
    let output = ns.kubectl(&["apply", "--server-side", "-f", path]).await;
    assert!(output.success && output.stderr.is_empty(), "{path}: {}", output.stderr);
    let diff = ns.kubectl(&["diff", "--server-side", "-f", path]).await;
    assert!(
        diff.success && diff.stdout.is_empty(),
        "{path} differs after it was applied:\n{}{}",
        diff.stdout,
        diff.stderr
    );
}

#[tokio::test]
async fn the_samples_apply_as_one_set_without_a_warning() {
    for folder in ["config/samples", "config/samples/full"] {
        let ns = TestNs::new("samples").await;
        apply_without_a_warning(&ns, &repository(folder).to_string_lossy()).await;
    }
}

/// As Kustomize, Flux and Argo CD apply a folder: with everything below it.
#[tokio::test]
async fn the_samples_apply_as_a_whole_by_kustomize() {
    let ns = TestNs::new("kustomize").await;
    let folder = repository("config/samples");
    let folder = folder.to_string_lossy();
    let applied = ns.kubectl(&["apply", "--server-side", "-k", &folder]).await;
    assert!(applied.success && applied.stderr.is_empty(), "{}", applied.stderr);
    let names = |files: Vec<PathBuf>| files.iter().flat_map(|file| objects(file)).map(|o| o.name_any()).collect();
    let all: BTreeSet<String> = names([files("config/samples"), files("config/samples/full")].concat());
    let missing: Vec<_> = all.iter().filter(|name| !applied.stdout.contains(&format!("/{name} "))).collect();
    assert!(missing.is_empty(), "not applied: {missing:?}");
    // Of a folder that a tool reads with all folders below it, none holds an object that is refused or broken.
    let below: Vec<_> = fs::read_dir(repository("config/samples")).unwrap().map(|e| e.unwrap().path()).collect();
    let folders: Vec<_> = below.iter().filter(|path| path.is_dir()).map(|path| path.file_name().unwrap()).collect();
    assert_eq!(folders, ["full"]);
}

#[tokio::test]
async fn every_invalid_sample_is_refused_with_the_message_it_names() {
    let ns = TestNs::new("invalid").await;
    // As a user would, file by file: some mistakes are made by how kubectl reads YAML.
    let refusals = files("config/examples/invalid").into_iter().map(async |path| {
        let output = ns.kubectl(&["apply", "-f", &path.to_string_lossy()]).await;
        // A rule about changes needs an object to change: all but the last are good.
        let good = objects(&path).len() - 1;
        let expected_text = expected(&path);
        if output.success {
            Some(format!("{}: accepted", path.display()))
        } else if output.stdout.lines().count() != good || !output.stderr.contains(&expected_text) {
            Some(format!("{}: expected `{expected_text}`, but: {}{}", path.display(), output.stdout, output.stderr))
        } else {
            None
        }
    });
    let wrong: Vec<String> =
        stream::iter(refusals).buffered(CONCURRENCY).filter_map(async |wrong| wrong).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_broken_sample_is_accepted_without_a_warning() {
    let ns = TestNs::new("broken").await;
    apply_without_a_warning(&ns, &repository("config/examples/broken").to_string_lossy()).await;
}

#[tokio::test]
async fn every_broken_sample_has_the_reason_it_names() {
    let ns = TestNs::new("stalled").await;
    ns.kubectl(&["apply", "--server-side", "-f", &repository("config/examples/broken").to_string_lossy()]).await.ok();
    let operator = Operator::ready(&ns, &[]).await;
    for path in files("config/examples/broken") {
        let (reason, objects) = (expected(&path), objects(&path));
        // The broken object is the last one, after what it needs.
        let object = objects.last().unwrap_or_else(|| panic!("{}: no object of ours", path.display()));
        let api = api_of(&ns, object);
        eventually(format!("{reason} on {}", path.display()), async || {
            let seen = api.get(&object.name_any()).await.ok()?;
            let conditions = seen.data["status"]["conditions"].as_array()?.clone();
            let has_reason = conditions.iter().any(|condition| {
                ["Stalled", "Reconciling"].iter().any(|kind| condition["type"] == *kind)
                    && condition["status"] == "True"
                    && condition["reason"] == reason.as_str()
            });
            has_reason.then_some(())
        })
        .await;
    }
    operator.finish(&ns).await;
}

/// What the API server says is wrong with a spec field, one entry per cause.
async fn causes(ns: &TestNs, kind: &str, spec: Value) -> Vec<String> {
    let object = serde_json::from_value(serde_json::json!({"apiVersion": "busbar.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "malformed"}, "spec": spec}));
    let object: DynamicObject = object.unwrap();
    match api_of(ns, &object).create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) => {
            let causes = status.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        }
        other => panic!("{kind} {object:?} is not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_malformed_duration_or_amount_is_one_error() {
    let ns = TestNs::new("malformed").await;
    let connection = |fields: Value| {
        let mut spec = serde_json::json!({"provider": "generic", "environment": "Sandbox"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec
    };
    let job = |interval: &str| serde_json::json!({"connectionRef": {"name": "mono"}, "stream": "transactions", "interval": interval});
    let route = |candidate: Value| {
        let mut entry = serde_json::json!({"name": "a", "connectionRef": {"name": "a"}});
        entry.as_object_mut().unwrap().extend(candidate.as_object().unwrap().clone());
        serde_json::json!({"referenceCurrency": "EUR", "candidates": [entry]})
    };
    let timeouts = serde_json::json!({"timeout": {"connect": "5", "request": "30s", "total": "2m"}});
    let check = serde_json::json!({"healthCheck": {"interval": "30 s", "timeout": "5s"}});
    for (kind, spec, field) in [
        ("SyncJob", job("5x"), "spec.interval"),
        ("SyncJob", job(""), "spec.interval"),
        ("SyncJob", job("1h30"), "spec.interval"),
        ("SyncJob", job("123456h"), "spec.interval"),
        ("SyncJob", job("9s"), "spec.interval"),
        // Compared with another field too.
        ("ProviderConnection", connection(timeouts), "spec.timeout.connect"),
        ("ProviderConnection", connection(check), "spec.healthCheck.interval"),
        ("BankRoute", route(serde_json::json!({"score": "high"})), "spec.candidates[0].score"),
        ("BankRoute", route(serde_json::json!({"minAmount": "1,5", "maxAmount": "9"})), "spec.candidates[0].minAmount"),
    ] {
        let found = causes(&ns, kind, spec).await;
        assert!(found.len() == 1 && found[0].starts_with(field), "{field}: {found:#?}");
    }
}

#[tokio::test]
async fn kubectl_explain_tells_the_limit_of_names() {
    let ns = TestNs::new("names").await;
    for kind in ["providerconnection", "syncjob", "bankroute", "breakerpolicy"] {
        let explained = ns.kubectl(&["explain", kind]).await.ok();
        let text = explained.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("metadata.name has at most 52 characters and no dot"), "{explained}");
    }
}

/// Paths of properties without a description, below one schema.
fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        // A reference to another schema of the document (metadata) stands in `allOf`, with a description beside it.
        if child["description"].as_str().is_none_or(str::is_empty) {
            found.push(path.clone());
        }
        undescribed(&path, child, found);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            undescribed(&format!("{path}[]"), &schema[below], found);
        }
    }
}

#[tokio::test]
async fn kubectl_explain_describes_every_field() {
    let ns = TestNs::new("explain").await;
    // The document that `kubectl explain` prints from.
    let request = http::Request::get("/openapi/v3/apis/busbar.dev/v1alpha1").body(Vec::new()).unwrap();
    let document: Value = serde_json::from_str(&ns.client().request_text(request).await.unwrap()).unwrap();
    let mut found = Vec::new();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for kind in ["ProviderConnection", "SyncJob", "BankRoute", "BreakerPolicy"] {
        let schema = schemas.iter().find(|(name, _)| name.ends_with(&format!(".{kind}")));
        undescribed(kind, schema.unwrap_or_else(|| panic!("{kind} is not in the OpenAPI document")).1, &mut found);
    }
    assert!(found.is_empty(), "no description:\n{}", found.join("\n"));
}
