//! The reference pages are what the code prints, and every description carries what a reader needs.

use std::fs;
use std::path::{Path, PathBuf};

use busbar::api::reference;
use serde_json::Value;

use crate::crds::{schemas, walk};

/// Compares a committed page with its text; the current text is left in the target directory.
fn same(name: &str, should: &str) {
    let fresh = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("reference");
    fs::create_dir_all(&fresh).unwrap();
    fs::write(fresh.join(name), should).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    let is = fs::read_to_string(path).unwrap_or_default();
    assert!(is == should, "docs/reference/{name} is not what the code prints: run `make docs`");
}

#[test]
fn the_page_of_the_kinds_is_what_the_code_prints() {
    same("crds.md", &reference::crds_markdown());
}

#[test]
fn the_page_of_the_reasons_is_what_the_code_prints() {
    same("reasons.md", &busbar::app::reasons::markdown());
}

#[test]
fn the_pages_of_the_profiles_are_what_the_code_prints() {
    same("profiles.md", &busbar::profile::reference::markdown());
    same("profile.schema.json", &busbar::profile::reference::json_schema());
}

/// Required fields and such with a schema default have no "Unset".
#[test]
fn every_spec_field_says_what_happens_when_it_is_unset() {
    for (kind, schema) in schemas() {
        walk(&kind, &schema["properties"]["spec"], &mut |path, node| {
            for (name, field) in node["properties"].as_object().into_iter().flatten() {
                let text = field["description"].as_str().unwrap_or_default();
                let says = ["Unset:", "Default:", "required"].iter().any(|word| text.contains(word));
                assert!(says, "{path}.{name}: {text}");
            }
        });
    }
}

/// An example is YAML that works: it parses, has the field's name, and its value has the field's type also for a reader
/// of YAML 1.1.
#[test]
fn every_spec_field_has_an_example_that_fits_its_type() {
    for (kind, schema) in schemas() {
        walk(&kind, &schema["properties"]["spec"], &mut |path, node| {
            for (name, field) in node["properties"].as_object().into_iter().flatten() {
                let text = field["description"].as_str().unwrap_or_default();
                let (_, rest) = text.split_once("Example: `").unwrap_or_else(|| panic!("{path}.{name}: no example"));
                let example = rest.trim_end_matches('.').trim_end_matches('`');
                let value: Value =
                    serde_yaml::from_str(example).unwrap_or_else(|error| panic!("{path}.{name}: {error}"));
                let value = value.get(name).unwrap_or_else(|| panic!("{path}.{name}: the example is of another field"));
                fits(&format!("{path}.{name}"), field, value);
            }
        });
    }
}

fn fits(path: &str, schema: &Value, value: &Value) {
    let kind = schema["type"].as_str().unwrap_or("any");
    let right = match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    assert!(right, "{path}: {value} is not a {kind}");
    if let (Some(words), Value::String(word)) = (schema["enum"].as_array(), value) {
        assert!(words.iter().any(|known| known == word), "{path}: {word}");
    }
    match value {
        Value::Object(members) => {
            for (name, child) in members {
                let below = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                let below = below.unwrap_or_else(|| panic!("{path}: {name} is no field"));
                fits(&format!("{path}.{name}"), below, child);
            }
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(members.contains_key(name), "{path}: the example lacks {name}");
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fits(&format!("{path}[]"), &schema["items"], item)),
        _ => {}
    }
}
