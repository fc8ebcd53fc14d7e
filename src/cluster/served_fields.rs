//! Which fields of ours the served definitions lack. The API server drops such a field from every object that is written,
//! without a word: an operator of a newer version than its definitions does not get what users have set.
//!
//! Read from the API server's OpenAPI document, for which every ServiceAccount has the right.

use http::Request;
use kube::Client;
use serde_json::Value;

use super::discovery::GROUP_VERSION;
use super::{ApiError, call};
use crate::api::crds;

/// The fields of this version that the API server does not serve, as `ProviderConnection: spec.fallback`, sorted.
///
/// # Errors
/// If the document cannot be read.
pub async fn missing_fields(client: &Client) -> Result<Vec<String>, ApiError> {
    let request = Request::get(format!("/openapi/v3/apis/{GROUP_VERSION}")).body(Vec::new());
    let document: Value = call(async { client.request(request.map_err(kube::Error::HttpError)?).await }).await?;
    let mut missing = Vec::new();
    for crd in crds() {
        let kind = crd.spec.names.kind.clone();
        let ours = serde_json::to_value(&crd).unwrap_or_default();
        let ours = &ours["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        // A kind that the document does not describe yet is not told to lack anything: `missing_kinds` tells.
        let Some(served) = schema_of(&document, &kind) else { continue };
        for part in ["spec", "status"] {
            compare(part, &ours["properties"][part], &served["properties"][part], &mut |path| {
                missing.push(format!("{kind}: {path}"));
            });
        }
    }
    missing.sort();
    Ok(missing)
}

/// The schema of a kind in an OpenAPI document.
fn schema_of<'a>(document: &'a Value, kind: &str) -> Option<&'a Value> {
    let is_kind = |schema: &&Value| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|own| own["kind"] == kind))
    };
    document["components"]["schemas"].as_object()?.values().find(is_kind)
}

/// Calls `missing` with the path of each property that `ours` has and `served` has not; of those, not of their children.
fn compare(path: &str, ours: &Value, served: &Value, missing: &mut dyn FnMut(String)) {
    for (name, child) in ours["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match served["properties"].get(name) {
            Some(served) => compare(&path, child, served, missing),
            None => missing(path),
        }
    }
    for (part, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if ours[part].is_object() {
            compare(&format!("{path}{suffix}"), &ours[part], &served[part], missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn missing(ours: &Value, served: &Value) -> Vec<String> {
        let mut found = Vec::new();
        compare("spec", ours, served, &mut |path| found.push(path));
        found
    }

    #[test]
    fn a_field_that_an_older_definition_lacks_is_named_at_any_depth() {
        let leaf = json!({"type": "string"});
        let ours = json!({"properties": {
            "a": leaf,
            "new": {"properties": {"inner": leaf}},
            "list": {"items": {"properties": {"name": leaf, "added": leaf}}},
            "map": {"additionalProperties": {"properties": {"value": leaf, "later": leaf}}},
        }});
        let older = json!({"properties": {
            "a": leaf,
            "gone": leaf,
            "list": {"items": {"properties": {"name": leaf}}},
            "map": {"additionalProperties": {"properties": {"value": leaf}}},
        }});
        assert_eq!(missing(&ours, &older), ["spec.list[].added", "spec.map{}.later", "spec.new"]);
        assert_eq!(missing(&ours, &ours), [""; 0]);
        // A newer definition has more, and lacks nothing.
        assert_eq!(missing(&json!({"properties": {"a": leaf}}), &older), [""; 0]);
    }

    #[test]
    fn the_schema_of_a_kind_is_found_by_its_group_version_and_kind() {
        let schema = json!({"x-kubernetes-group-version-kind": [{"kind": "SyncJob"}], "type": "object"});
        let document = json!({"components": {"schemas": {"dev.busbar.v1alpha1.SyncJob": schema, "other": {}}}});
        assert_eq!(schema_of(&document, "SyncJob"), Some(&schema));
        assert_eq!(schema_of(&document, "BankRoute"), None);
    }
}
