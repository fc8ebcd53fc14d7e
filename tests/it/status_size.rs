//! The largest status that the schema of each kind allows. Every text in it is limited by the bytes that it takes in JSON
//! (`domain::json_prefix`), or is a name or a word of ours, so a character is a byte.

use busbar::api::v1alpha1::reasons::ConditionType;
use serde_json::{Map, Value, json};

use crate::crds::schemas;

/// Requirement K3: a status of at most 32 KiB.
const LIMIT: usize = 32 * 1024;

/// The longest value that `schema` allows.
fn largest(path: &str, schema: &Value) -> Value {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().max_by_key(|word| word.to_string().len()).unwrap().clone();
    }
    let limit = |name: &str| {
        let limit = schema.get(name).and_then(Value::as_u64);
        usize::try_from(limit.unwrap_or_else(|| panic!("{path} has no {name}"))).unwrap()
    };
    match schema["type"].as_str().unwrap() {
        "string" => json!("x".repeat(limit("maxLength"))),
        "boolean" => json!(false),
        "integer" if schema["format"] == "int32" => json!(i32::MIN),
        "integer" => json!(i64::MIN),
        "array" => json!(vec![largest(&format!("{path}[]"), &schema["items"]); limit("maxItems")]),
        "object" => {
            let fields = schema["properties"].as_object().unwrap_or_else(|| panic!("{path} is a map"));
            let fields = fields.iter().map(|(name, field)| (name.clone(), largest(&format!("{path}.{name}"), field)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        other => panic!("{path} has type {other}"),
    }
}

#[test]
fn the_largest_legal_status_of_each_kind_has_at_most_32_kib() {
    let mut measured = Vec::new();
    for (kind, schema) in schemas() {
        let status = largest("status", &schema["properties"]["status"]);
        assert!(status["conditions"].as_array().is_some_and(|all| !all.is_empty()), "{kind}");
        measured.push((kind, status.to_string().len()));
    }
    assert_eq!(measured.len(), 4);
    println!("largest legal status, in bytes: {measured:?}");
    let too_large: Vec<_> = measured.iter().filter(|(_, size)| *size > LIMIT).collect();
    assert!(too_large.is_empty(), "more than {LIMIT} bytes: {too_large:?}");
}

#[test]
fn every_condition_of_a_kind_has_a_place_in_its_status() {
    for (kind, schema) in schemas() {
        let places = schema.pointer("/properties/status/properties/conditions/maxItems").and_then(Value::as_u64);
        // A description that names no kind is one of all kinds.
        let of_kind = |doc: &str| doc.starts_with(&format!("`{kind}`:")) || !doc.contains("`: ");
        let types = ConditionType::ALL.iter().filter(|condition| of_kind(condition.doc())).count();
        // Reconciling and Stalled exclude each other.
        let most = u64::try_from(types - 1).unwrap();
        assert!(
            places.is_some_and(|places| most > 2 && most <= places),
            "{kind}: {most} conditions, {places:?} places"
        );
    }
}
