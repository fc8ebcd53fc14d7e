//! The samples: they parse without a field left over, cover the whole schema, and can be applied together.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use busbar::api::v1alpha1::SyncJobSpec;
use busbar::api::v1alpha1::reasons::Reason;
use busbar::resolve::{JobSupport, OperatorOptions, job_schedule};
use busbar::settings::addresses::AddressRules;
use jiff::Timestamp;
use serde_json::Value;

use crate::crds::{schemas, walk};
use crate::manifests::{Manifest, manifests, round_trip, text};

fn every_sample() -> Vec<Manifest> {
    ["", "full", "broken"].into_iter().flat_map(manifests).collect()
}

/// The paths that `before` has and `after` has not, or has otherwise.
fn lost(path: &str, before: &Value, after: Option<&Value>, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Some(Value::Object(after))) => {
            for (key, value) in before {
                lost(&format!("{path}.{key}"), value, after.get(key), found);
            }
        }
        (Value::Array(before), Some(Value::Array(after))) if before.len() == after.len() => {
            for (index, value) in before.iter().enumerate() {
                lost(&format!("{path}[{index}]"), value, after.get(index), found);
            }
        }
        // A resource quantity may be a bare number in YAML; it is a text in the type.
        (Value::Number(number), Some(Value::String(text))) if number.to_string() == *text => {}
        (before, Some(after)) if before == after => {}
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_field_of_every_sample_is_known_to_the_types() {
    for manifest in every_sample() {
        for document in manifest.ours() {
            let printed = round_trip(document).unwrap_or_else(|error| panic!("{}: {error}", manifest.path.display()));
            let mut found = Vec::new();
            lost("", document, Some(&printed), &mut found);
            assert!(found.is_empty(), "{}: unknown {found:?}", manifest.path.display());
        }
    }
}

#[test]
fn names_are_distinct_across_all_files() {
    let mut seen = BTreeSet::new();
    for manifest in every_sample() {
        for document in &manifest.documents {
            let name = (text(document, "/kind").to_owned(), text(document, "/metadata/name").to_owned());
            assert!(seen.insert(name.clone()), "{}: {name:?} is in another file too", manifest.path.display());
        }
    }
}

/// Takes a value and everything below it off the list.
fn strike(path: &str, value: &Value, open: &mut BTreeSet<String>) {
    open.remove(path);
    match value {
        Value::Object(members) => {
            for (key, child) in members {
                strike(&format!("{path}.{key}"), child, open);
                strike(&format!("{path}{{}}"), child, open);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strike(&format!("{path}[]"), item, open)),
        _ => {}
    }
}

#[test]
fn every_spec_field_is_in_some_full_sample() {
    let mut open = BTreeSet::new();
    for (kind, schema) in schemas() {
        walk(&kind, &schema["properties"]["spec"], &mut |path, _| {
            open.insert(path.to_owned());
        });
    }
    for manifest in manifests("full") {
        for document in manifest.ours() {
            strike(text(document, "/kind"), &document["spec"], &mut open);
        }
    }
    assert!(open.is_empty(), "no sample in config/samples/full/ sets {open:#?}");
}

#[test]
fn every_kind_has_a_minimal_sample_of_its_own() {
    let names: Vec<String> = manifests("")
        .iter()
        .map(|manifest| manifest.path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    for (kind, _) in schemas() {
        assert!(names.contains(&kind.to_lowercase()), "config/samples/{}.yaml is missing", kind.to_lowercase());
    }
}

#[test]
fn every_sample_is_listed_for_kustomize() {
    for folder in ["", "full"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples").join(folder).join("Kustomization");
        let list: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let listed: BTreeSet<String> =
            list["resources"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        let name = |manifest: &Manifest| manifest.path.file_name().unwrap().to_string_lossy().into_owned();
        let mut files: BTreeSet<String> = manifests(folder).iter().map(name).collect();
        if folder.is_empty() {
            files.insert("full".to_owned());
        }
        assert_eq!(listed, files, "config/samples/{folder}");
    }
}

#[test]
fn every_broken_sample_names_a_documented_reason() {
    for manifest in manifests("broken") {
        let want = manifest.want();
        assert!(Reason::ALL.iter().any(|reason| reason.as_str() == want), "{}: {want}", manifest.path.display());
    }
}

#[test]
fn every_invalid_sample_names_its_message() {
    for manifest in manifests("invalid") {
        assert!(!manifest.want().is_empty());
    }
}

/// kubectl reads YAML 1.1, where `Off`, `NO` and their like are booleans; our parser would not notice.
#[test]
fn no_sample_has_a_bare_word_that_kubectl_reads_as_a_boolean() {
    for manifest in every_sample() {
        for (number, line) in manifest.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'))
        {
            let bare = line
                .split([' ', ',', '[', ']', '{', '}'])
                .any(|word| ["on", "off", "yes", "no", "y", "n"].iter().any(|old| old.eq_ignore_ascii_case(word)));
            assert!(!bare, "{}:{}: quote the word", manifest.path.display(), number + 1);
        }
    }
}

#[test]
fn sample_sync_jobs_run_on_an_operator_without_an_encryption_key() {
    let addresses = AddressRules::default();
    let keyless = OperatorOptions { has_key: false, addresses: &addresses, jobs: JobSupport::default() };
    for document in manifests("").iter().flat_map(Manifest::ours) {
        if text(document, "/kind") == "SyncJob" {
            let spec: SyncJobSpec = serde_json::from_value(document["spec"].clone()).unwrap();
            assert_eq!(job_schedule(&spec, keyless, Timestamp::UNIX_EPOCH).map(|_| ()), Ok(()));
        }
    }
}

#[test]
fn secrets_in_samples_are_obviously_fake() {
    for manifest in every_sample() {
        for document in manifest.documents.iter().filter(|document| text(document, "/kind") == "Secret") {
            for (key, value) in document["stringData"].as_object().into_iter().flatten() {
                let value = value.as_str().unwrap_or_default();
                assert!(value.starts_with("obviously-fake-"), "{}: {key}", manifest.path.display());
            }
        }
    }
}
