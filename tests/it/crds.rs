//! The generated CRDs: the files in `crds/` are what the code prints, and every schema follows our rules.

use std::fs;
use std::path::{Path, PathBuf};

use busbar::api;
use serde_json::Value;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Name and root schema of each kind, as they are installed.
pub(crate) fn schemas() -> Vec<(String, Value)> {
    api::crds()
        .into_iter()
        .map(|crd| {
            let value = serde_json::to_value(&crd).unwrap();
            let schema = value.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone();
            (crd.spec.names.kind, schema)
        })
        .collect()
}

/// Calls `visit` with the path of every node of a schema.
pub(crate) fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, child) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(&format!("{path}.{name}"), child, visit);
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, visit);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        walk(&format!("{path}{{}}"), values, visit);
    }
}

/// The paths of all nodes for which `bad` holds.
fn offenders(bad: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, node| {
            if bad(node) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

fn is(node: &Value, kind: &str) -> bool {
    node.get("type").and_then(Value::as_str) == Some(kind)
}

/// The committed files equal what the code prints; the current text is left in the target directory.
#[test]
fn the_files_in_crds_are_what_the_code_generates() {
    let fresh = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crds");
    fs::create_dir_all(&fresh).unwrap();
    let mut written = api::write_crds(&fresh).unwrap();
    written.sort();
    let mut committed: Vec<String> = fs::read_dir(repository().join("crds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    committed.sort();
    assert_eq!(committed, written, "the files in crds/ are not those the code generates: run `make crds`");
    for name in written {
        let is = fs::read_to_string(repository().join("crds").join(&name)).unwrap();
        let should = fs::read_to_string(fresh.join(&name)).unwrap();
        assert!(is == should, "crds/{name} is not what the code generates: run `make crds`");
    }
}

#[test]
fn no_schema_has_unsigned_integers_or_floats() {
    let bad = offenders(|node| {
        let format = node.get("format").and_then(Value::as_str).unwrap_or_default();
        is(node, "number") || format.starts_with("uint") || matches!(format, "float" | "double")
    });
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_integer_but_the_observed_generation_has_a_minimum() {
    let bad: Vec<String> = offenders(|node| is(node, "integer") && node.get("minimum").is_none())
        .into_iter()
        .filter(|path| !path.ends_with(".status.observedGeneration"))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_field_has_a_description() {
    let mut bad = Vec::new();
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, node| {
            for (name, child) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let text = child.get("description").and_then(Value::as_str).unwrap_or_default();
                let root = path == kind && matches!(name.as_str(), "spec" | "status");
                if text.len() < 4 && !root {
                    bad.push(format!("{path}.{name}"));
                }
            }
        });
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_string_list_and_map_is_bounded() {
    let bad = offenders(|node| {
        let closed = node.get("properties").is_some();
        let text = is(node, "string") || node.get("x-kubernetes-int-or-string").is_some();
        (text && node.get("maxLength").is_none())
            || (is(node, "array") && node.get("maxItems").is_none())
            || (is(node, "object") && !closed && node.get("maxProperties").is_none())
    });
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn no_reference_of_a_spec_has_a_namespace() {
    let has_namespace = |node: &Value| node.pointer("/properties/namespace").is_some();
    let found = offenders(has_namespace);
    let in_spec: Vec<_> = found.iter().filter(|path| path.contains(".spec")).collect();
    assert!(in_spec.is_empty(), "{in_spec:#?}");
}

#[test]
fn the_schema_of_one_version_stays_below_100_kib() {
    for (kind, schema) in schemas() {
        let size = serde_json::to_string(&schema).unwrap().len();
        assert!(size <= 100 * 1024, "{kind}: {size} bytes");
    }
}
