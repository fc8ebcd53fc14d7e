//! Every CEL rule has a document that it refuses and one that it lets pass, both evaluated here without a cluster.
//!
//! The refused ones are the files in `config/examples/invalid/` (which the end-to-end tests replay against a real API
//! server): the first line is the message, the second the field. The passing ones are the other samples.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::crds::{schemas, walk};
use crate::manifests::{manifests, text, validate};

/// A rule as people meet it: kind, field, message.
type RuleId = (String, String, String);

/// Every rule of every schema.
fn rules() -> BTreeSet<RuleId> {
    let mut found = BTreeSet::new();
    for (kind, schema) in schemas() {
        walk("", &schema, &mut |path, node| {
            for rule in node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                let field = if path.is_empty() { "metadata.name" } else { path.trim_start_matches('.') };
                let known = found.insert((kind.clone(), field.to_owned(), text(rule, "/message").to_owned()));
                assert!(known, "{kind} {field}: two rules with one message");
            }
        });
    }
    found
}

/// The same rule for every entry of a list: `candidates[0]` is `candidates[]`.
fn without_indices(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|character| {
            match character {
                '[' => inside = true,
                ']' => inside = false,
                _ => return !inside,
            }
            true
        })
        .collect()
}

/// Whether a document has something at a rule's field.
fn reaches(value: &Value, field: &str) -> bool {
    match field.split_once('.').map_or((field, ""), |(head, tail)| (head, tail)) {
        ("", _) => true,
        (head, tail) => match head.strip_suffix("[]") {
            Some(list) => value
                .get(list)
                .and_then(Value::as_array)
                .is_some_and(|items| items.iter().any(|item| reaches(item, tail))),
            None => value.get(head).is_some_and(|child| reaches(child, tail)),
        },
    }
}

#[test]
fn every_message_of_a_rule_begins_with_must() {
    for (kind, field, message) in rules() {
        assert!(message.starts_with("must "), "{kind} {field}: {message}");
    }
}

#[test]
fn every_invalid_sample_is_refused_by_its_rule_alone() {
    let mut open = rules();
    for manifest in manifests("invalid") {
        let Some(field) = manifest.header("field") else { continue };
        let name = manifest.path.display();
        let documents: Vec<&Value> = manifest.ours().collect();
        let failures = match documents[..] {
            [document] => validate(document, None),
            [old, new] => {
                validate(old, None).unwrap_or_else(|errors| panic!("{name}: the first document is refused: {errors}"));
                validate(new, Some(old))
            }
            _ => panic!("{name}: one document, or an old one and a new one"),
        };
        let failures = failures.expect_err(&format!("{name}: nothing refuses it")).into_vec();
        let [failure] = &failures[..] else { panic!("{name}: more than one rule refuses it: {failures:?}") };
        assert_eq!(failure.message, manifest.want(), "{name}");
        let path = match without_indices(&failure.field_path) {
            empty if empty.is_empty() => "metadata.name".to_owned(),
            path => path,
        };
        assert_eq!(path, field, "{name}");
        let kind = text(documents[0], "/kind").to_owned();
        open.remove(&(kind, path, failure.message.clone()));
    }
    assert!(open.is_empty(), "no file in config/examples/invalid/ for {open:#?}");
}

#[test]
fn every_rule_accepts_a_sample_with_its_field() {
    let mut open = rules();
    for manifest in manifests("").iter().chain(&manifests("full")).chain(&manifests("broken")) {
        for document in manifest.ours() {
            validate(document, None).unwrap_or_else(|errors| panic!("{}: {errors}", manifest.path.display()));
            // The same object again: what the transition rules must let pass.
            validate(document, Some(document)).unwrap_or_else(|errors| panic!("{}: {errors}", manifest.path.display()));
            open.retain(|(kind, field, _)| text(document, "/kind") != kind || !reaches(document, field));
        }
    }
    assert!(open.is_empty(), "no sample has the field of {open:#?}");
}

#[test]
fn bounds_are_inclusive_on_both_sides() {
    let job = |interval: &str| {
        serde_json::json!({
            "apiVersion": "busbar.dev/v1alpha1", "kind": "SyncJob", "metadata": { "name": "bounds" },
            "spec": { "connectionRef": { "name": "mono" }, "stream": "transactions", "interval": interval }
        })
    };
    for (interval, passes) in
        [("10s", true), ("9s", false), ("9999ms", false), ("168h", true), ("168h1ms", false), ("2m30s", true)]
    {
        assert_eq!(validate(&job(interval), None).is_ok(), passes, "{interval}");
    }
}

#[test]
fn a_resync_may_be_replaced_under_a_new_id_or_removed() {
    let job = |resync: Value| {
        let mut job = serde_json::json!({
            "apiVersion": "busbar.dev/v1alpha1", "kind": "SyncJob", "metadata": { "name": "resync" },
            "spec": { "connectionRef": { "name": "mono" }, "stream": "transactions", "interval": "5m" }
        });
        if !resync.is_null() {
            job["spec"]["resync"] = resync;
        }
        job
    };
    let may = serde_json::json!({ "id": "may", "fromTime": "2029-05-01T00:00:00Z", "toTime": "2029-06-01T00:00:00Z" });
    let june =
        serde_json::json!({ "id": "june", "fromTime": "2029-06-01T00:00:00Z", "toTime": "2029-07-01T00:00:00Z" });
    validate(&job(june), Some(&job(may.clone()))).unwrap();
    validate(&job(Value::Null), Some(&job(may.clone()))).unwrap();
    validate(&job(may), Some(&job(Value::Null))).unwrap();
}
