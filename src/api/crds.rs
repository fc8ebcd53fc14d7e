//! Generation of the final CRDs: the output of the derive, with the corrections it cannot express.
//!
//! Three corrections per schema. `nullable` is removed: without it the API server prunes an explicit `null`, so a field
//! of a stored object is either set or absent. Empty defaults are removed: a default of `[]` would add a field that the
//! user did not set. And `status` gets the default `{observedGeneration: -1}`, so that an object does not look ready
//! before the operator has observed it.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};

/// Annotation of a CRD with the version that it is from. An admission policy compares it, so that an older CRD does not
/// replace a newer one (config/admission/definitions.yaml).
pub const CRD_VERSION: &str = "busbar.dev/crd-version";

/// Annotation of a CRD with a hash of its `spec.versions`. With server-side apply a field manager that forces its conflicts
/// replaces these and leaves the annotations of another manager; the admission policy finds that by this hash.
pub const CRD_DIGEST: &str = "busbar.dev/crd-digest";

/// Error while CRDs are generated.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// A CRD could not be serialized to YAML.
    #[error("CRD {name} could not be serialized to YAML")]
    Print {
        /// Name of the CRD.
        name: String,
        /// Error of the serializer.
        source: serde_yaml::Error,
    },
    /// A file could not be written.
    #[error("{path} could not be written; choose a directory that exists and is writable")]
    Write {
        /// Path of the file.
        path: String,
        /// Error of the file system.
        source: std::io::Error,
    },
}

/// The four CRDs as installed, sorted by name.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [BankRoute::crd(), BreakerPolicy::crd(), ProviderConnection::crd(), SyncJob::crd()].map(finalize).into()
}

/// File name and content of each CRD.
pub fn crd_files() -> Result<Vec<(String, String)>, CrdError> {
    crds()
        .into_iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let text = yaml(&crd).map_err(|source| CrdError::Print { name: name.clone(), source })?;
            Ok((format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural), text))
        })
        .collect()
}

/// Writes one file per CRD into `directory`, which must exist. Returns the names of the files.
pub fn write_crds(directory: &Path) -> Result<Vec<String>, CrdError> {
    let mut written = Vec::new();
    for (name, text) in crd_files()? {
        let path = directory.join(&name);
        std::fs::write(&path, text).map_err(|source| CrdError::Write { path: path.display().to_string(), source })?;
        written.push(name);
    }
    Ok(written)
}

/// The YAML of one CRD. Converted through JSON text: with `arbitrary_precision`, a number inside a `Value` is a private
/// map for every serializer except that of `serde_json`.
fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    let json = serde_json::to_string(crd).map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    let value: serde_yaml::Value = serde_yaml::from_str(&json)?;
    let text = serde_yaml::to_string(&value)?;
    let mut quoted = String::from("# Generated from src/api by `make crds`. Do not edit.\n");
    for line in text.lines() {
        quoted.push_str(&quote_old_booleans(line));
        quoted.push('\n');
    }
    Ok(quoted)
}

/// Quotes an unquoted `Off`, `No` and so on at the end of a line: `kubectl` reads YAML 1.1, where they are booleans.
fn quote_old_booleans(line: &str) -> String {
    const WORDS: [&str; 6] = ["on", "off", "yes", "no", "y", "n"];
    line.rsplit_once(' ')
        .filter(|(before, word)| {
            let starts_value = before.ends_with(':') || before.trim_start() == "-";
            starts_value && WORDS.iter().any(|old| old.eq_ignore_ascii_case(word))
        })
        .map_or_else(|| line.to_owned(), |(before, word)| format!("{before} \"{word}\""))
}

fn finalize(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let annotations = crd.metadata.annotations.get_or_insert_default();
    annotations.insert(CRD_VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    for version in &mut crd.spec.versions {
        let Some(validation) = version.schema.as_mut() else { continue };
        let Some(schema) = validation.open_api_v3_schema.take() else { continue };
        // Converted to JSON and back, because the typed schema has no visitor. If that fails, the derived schema is
        // kept, and the generated-file test shows the difference.
        let rewritten = serde_json::to_value(&schema).ok().and_then(|mut value| {
            clean_schema(&mut value);
            if let Some(Value::String(text)) = value.get_mut("description") {
                *text = format!("{text} {}", rule::OBJECT_NAME);
            }
            if let Some(Value::Object(status)) = value.pointer_mut("/properties/status") {
                status.insert("default".to_owned(), json!({ "observedGeneration": -1 }));
            }
            serde_json::from_value(value).ok()
        });
        validation.open_api_v3_schema = Some(rewritten.unwrap_or(schema));
    }
    let digest = digest(&crd.spec.versions);
    crd.metadata.annotations.get_or_insert_default().insert(CRD_DIGEST.to_owned(), digest);
    crd
}

/// The first half of the SHA-256 of their JSON.
fn digest(versions: &[CustomResourceDefinitionVersion]) -> String {
    let json = serde_json::to_vec(versions).unwrap_or_default();
    hex::encode(&Sha256::digest(json)[..16])
}

/// Corrects one schema and its children.
fn clean_schema(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    object.remove("nullable");
    object.remove("title");
    if object.get("default").is_some_and(is_empty) {
        object.remove("default");
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = one_paragraph(text);
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    set_max_length(object);
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(children)) = object.get_mut(key) {
            children.values_mut().for_each(clean_schema);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            clean_schema(child);
        }
    }
}

/// Every string has a `maxLength`: for enums and instants it is derived here.
fn set_max_length(object: &mut Map<String, Value>) {
    if object.get("type") != Some(&json!("string")) || object.contains_key("maxLength") {
        return;
    }
    let longest = match object.get("enum") {
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).map(str::len).max(),
        _ if object.get("format") == Some(&json!("date-time")) => Some(64),
        _ => None,
    };
    if let Some(longest) = longest {
        object.insert("maxLength".to_owned(), json!(longest));
    }
}

/// Joins the lines of a doc comment into one paragraph.
fn one_paragraph(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
