//! The format of profiles as a reference page and a JSON Schema, generated from the types that parse them.

use std::fmt::Write as _;

use serde_json::Value;

use super::canonical::{CanonicalRecord, FieldKind};
use super::definition::Profile;

/// `docs/reference/profile.schema.json`: for editors and for validation without Busbar.
pub fn json_schema() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// `docs/reference/profiles.md`: every field of the format.
pub fn markdown() -> String {
    let mut page = String::from(
        "# The format of profiles\n\nGenerated from `src/profile` by `make docs`. Do not edit. How to write a \
         profile: [profiles.md](../profiles.md). The same as a JSON Schema: \
         [profile.schema.json](profile.schema.json).\n",
    );
    let schema = schema();
    section(&mut page, "Profile", &schema);
    for (name, part) in schema["$defs"].as_object().into_iter().flatten() {
        section(&mut page, name, part);
    }
    page.push_str(
        "\n# Canonical records\n\nThe results of operations. A field that the provider does not report is null. Numbers \
         are decimals as text. A list is `{records: [\u{2026}], complete: true|false}`.\n",
    );
    for record in CanonicalRecord::NAMED {
        let _ = write!(page, "\n## `{}`\n\n| field | type |\n|---|---|\n", record.as_str());
        for field in record.fields() {
            let kind = match field.kind {
                FieldKind::Text => "text",
                FieldKind::Decimal => "number",
                FieldKind::Date => "day",
                FieldKind::Instant => "instant",
                FieldKind::Json => "any",
            };
            let required = if field.required { ", required" } else { "" };
            row(&mut page, &[&code(field.name), &format!("{kind}{required}")]);
        }
    }
    page
}

fn schema() -> Value {
    let mut schema = schemars::schema_for!(Profile);
    schema.insert("$id".to_owned(), "https://busbar.dev/profile.schema.json".into());
    schema.to_value()
}

/// One type: an object with its fields, or an enum with its members.
fn section(page: &mut String, name: &str, schema: &Value) {
    let _ = write!(page, "\n## {name}\n\n{}\n", sentence(schema));
    if schema["properties"].is_object() {
        fields(page, schema);
        return;
    }
    let members = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).map(code).collect();
        let _ = writeln!(page, "\nOne of {}.", values.join(", "));
    }
    let unit_only = members.is_some_and(|members| members.iter().all(|member| !member["properties"].is_object()));
    if unit_only {
        page.push_str("\n| value | meaning |\n|---|---|\n");
    }
    for member in members.into_iter().flatten() {
        if let Some(kind) = member["properties"]["kind"]["const"].as_str() {
            let _ = write!(page, "\n### kind: {kind}\n\n{}\n", sentence(member));
            fields(page, member);
        } else if let Some(value) = member["const"].as_str() {
            row(page, &[&code(value), &sentence(member)]);
        } else if let Some(values) = member["enum"].as_array() {
            for value in values.iter().filter_map(Value::as_str) {
                row(page, &[&code(value), &sentence(member)]);
            }
        }
    }
}

fn fields(page: &mut String, schema: &Value) {
    let all = schema["properties"].as_object();
    let fields: Vec<_> = all.into_iter().flatten().filter(|(_, field)| field.get("const").is_none()).collect();
    if fields.is_empty() {
        return;
    }
    page.push_str("\n| field | type | meaning |\n|---|---|---|\n");
    for (name, field) in fields {
        let required = schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let kind = kind(field) + if required { ", required" } else { "" };
        row(page, &[&code(name), &kind, &sentence(field)]);
    }
}

fn kind(field: &Value) -> String {
    if let Some(name) = field["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or(name);
        return format!("[{name}](#{})", name.to_ascii_lowercase());
    }
    let choices = field["anyOf"].as_array().or(field["allOf"].as_array());
    if let Some(choices) = choices {
        let kinds: Vec<_> = choices.iter().filter(|choice| choice["type"] != "null").map(kind).collect();
        return kinds.join(" or ");
    }
    let own = match &field["type"] {
        Value::String(own) => own.as_str(),
        // An optional field: its type and null.
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("any"),
        _ => "any",
    };
    match own {
        "array" => format!("list of {}", kind(&field["items"])),
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}", kind(&field["additionalProperties"]))
        }
        other => other.to_owned(),
    }
}

/// The description on one line.
fn sentence(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// One table row; a bar in a cell is escaped.
fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(page, "| {} ", cell.replace('|', "\\|"));
    }
    page.push_str("|\n");
}
