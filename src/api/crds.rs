//! The finished CRDs: what the derive prints, with what it cannot say.
//!
//! Three things are done to each schema. `nullable` goes: without it the API server prunes an explicit `null`, so a
//! stored object has a field or has not. Empty defaults go: a default of `[]` would print a field that nobody set. And
//! `status` gets the default `{observedGeneration: -1}`, so that nothing looks ready before the operator has seen it.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};

/// What can go wrong while CRDs are written out.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// A CRD could not be turned into YAML.
    #[error("the CRD {name} cannot be printed as YAML")]
    Print {
        /// Name of the CRD.
        name: String,
        /// What the printer said.
        source: serde_yaml::Error,
    },
    /// A file could not be written.
    #[error("{path} cannot be written: choose a directory that exists and is writable")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The four CRDs as they are installed, sorted by name.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [BankRoute::crd(), BreakerPolicy::crd(), ProviderConnection::crd(), SyncJob::crd()].map(finished).into()
}

/// The four CRDs as one stream of YAML documents.
pub fn crds_yaml() -> Result<String, CrdError> {
    let documents: Result<Vec<String>, CrdError> = crd_files()?.into_iter().map(|(_, text)| Ok(text)).collect();
    Ok(documents?.join("---\n"))
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

/// The YAML of one CRD. By way of JSON text: with `arbitrary_precision`, a number inside a `Value` is a private map to
/// any serializer but `serde_json`'s own.
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

/// Quotes a bare `Off` and its like at the end of a line: `kubectl` reads YAML 1.1, where they are booleans.
fn quote_old_booleans(line: &str) -> String {
    const WORDS: [&str; 6] = ["on", "off", "yes", "no", "y", "n"];
    line.rsplit_once(' ')
        .filter(|(before, word)| {
            let starts_value = before.ends_with(':') || before.trim_start() == "-";
            starts_value && WORDS.iter().any(|old| old.eq_ignore_ascii_case(word))
        })
        .map_or_else(|| line.to_owned(), |(before, word)| format!("{before} \"{word}\""))
}

fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(validation) = version.schema.as_mut() else { continue };
        let Some(schema) = validation.open_api_v3_schema.take() else { continue };
        // Through JSON and back: the typed schema has no walk of its own. Should it ever fail, the schema stays as it
        // was derived, and the generated-file test shows the difference.
        let rewritten = serde_json::to_value(&schema).ok().and_then(|mut value| {
            tidy(&mut value);
            if let Some(Value::Object(status)) = value.pointer_mut("/properties/status") {
                status.insert("default".to_owned(), json!({ "observedGeneration": -1 }));
            }
            serde_json::from_value(value).ok()
        });
        validation.open_api_v3_schema = Some(rewritten.unwrap_or(schema));
    }
    crd
}

/// Cleans one schema and everything below it.
fn tidy(schema: &mut Value) {
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
    bound(object);
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(children)) = object.get_mut(key) {
            children.values_mut().for_each(tidy);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            tidy(child);
        }
    }
}

/// Every string has a `maxLength`: for closed words and instants it follows from what they are.
fn bound(object: &mut Map<String, Value>) {
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

/// Doc comments break lines where the source does; a description is one paragraph.
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
