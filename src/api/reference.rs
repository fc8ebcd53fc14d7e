//! Generation of the reference pages from the types, so that they match what the API server enforces.
//!
//! Pure text. A test compares the committed pages with the generated ones.

use std::fmt::Write as _;

use serde_json::Value;

use crate::api::crds::crds;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};

/// A table of `docs/reference/reasons.md`: a closed list that another layer owns.
#[derive(Clone, Debug)]
pub struct ReasonTable {
    /// Heading of the table.
    pub title: &'static str,
    /// Where the names occur.
    pub intro: &'static str,
    /// The names, in the order of the documentation.
    pub rows: Vec<ReasonRow>,
}

/// One name of a [`ReasonTable`].
#[derive(Clone, Debug)]
pub struct ReasonRow {
    /// The name.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// What the user can do.
    pub remedy: &'static str,
}

/// `docs/reference/reasons.md`: every condition type, reason of a condition and event reason, and the `tables` of the
/// other layers.
pub fn reasons_markdown(tables: &[ReasonTable]) -> String {
    let mut page = String::from(
        "# Conditions, reasons and events\n\n\
         Generated from the closed lists in the code by `make docs`. Do not edit.\n\n\
         The names are safe to alert on: names are added or deprecated, never renamed.\n\n\
         ## Condition types\n\n| type | meaning |\n|---|---|\n",
    );
    for condition in ConditionType::ALL {
        row(&mut page, &[&code(condition.as_str()), condition.doc()]);
    }
    page.push_str(
        "\n## Reasons of conditions\n\n`status.conditions[].reason` of every kind.\n\n\
         | reason | conditions | meaning | remedy |\n|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let conditions: Vec<_> = reason.conditions().iter().map(|condition| code(condition.as_str())).collect();
        row(&mut page, &[&code(reason.as_str()), &conditions.join(", "), reason.doc(), reason.remedy()]);
    }
    for table in tables {
        let _ =
            write!(page, "\n## {}\n\n{}\n\n| reason | meaning | remedy |\n|---|---|---|\n", table.title, table.intro);
        for ReasonRow { name, meaning, remedy } in &table.rows {
            row(&mut page, &[&code(name), meaning, remedy]);
        }
    }
    page.push_str("\n## Events\n\n| reason | meaning |\n|---|---|\n");
    for event in EventReason::ALL {
        row(&mut page, &[&code(event.as_str()), event.doc()]);
    }
    page
}

/// `docs/reference/crds.md`: every field of every kind.
pub fn crds_markdown() -> String {
    let mut page = String::from(
        "# Custom resources\n\nGenerated from `src/api/v1alpha1` by `make docs`. Do not edit. The same text is shown by \
         `kubectl explain`.\n",
    );
    for crd in crds() {
        let names = &crd.spec.names;
        let short = names.short_names.iter().flatten().next().map_or("", String::as_str);
        let value = serde_json::to_value(&crd).unwrap_or_default();
        let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n`{}.{}`, short name `{short}`.\n",
            names.kind,
            text(schema, "description"),
            names.plural,
            crd.spec.group
        );
        for part in ["spec", "status"] {
            let _ = write!(page, "\n### {} {part}\n\n| field | type | meaning |\n|---|---|---|\n", names.kind);
            let root = &schema["properties"][part];
            rules(&mut page, part, root);
            fields(&mut page, "", root);
        }
    }
    page
}

/// A row per property, depth first, in the order of the schema.
fn fields(page: &mut String, prefix: &str, schema: &Value) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let required = schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let mut kind = type_of(field);
        if required {
            kind.push_str(", required");
        }
        if let Some(default) = field.get("default") {
            let _ = write!(kind, ", default `{}`", default.to_string().trim_matches('"'));
        }
        row(page, &[&code(&path), &kind, text(field, "description")]);
        rules(page, &path, field);
        let (below, mark) =
            if field["items"]["properties"].is_object() { (&field["items"], "[]") } else { (field, "") };
        if !mark.is_empty() {
            rules(page, &format!("{path}[]"), below);
        }
        fields(page, &format!("{path}{mark}."), below);
    }
}

/// A row per CEL rule.
fn rules(page: &mut String, path: &str, schema: &Value) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        row(page, &[&code(path), "rule", text(rule, "message")]);
    }
}

fn type_of(field: &Value) -> String {
    let items = &field["items"];
    match text(field, "type") {
        "array" => format!("list of {}", plain_type(items)),
        "object" if field.get("additionalProperties").is_some() => {
            format!("map of {}", plain_type(&field["additionalProperties"]))
        }
        _ => plain_type(field),
    }
}

fn plain_type(field: &Value) -> String {
    if let Some(words) = field["enum"].as_array() {
        return words.iter().filter_map(Value::as_str).map(code).collect::<Vec<_>>().join(", ");
    }
    if text(field, "format") == "date-time" {
        return "instant".to_owned();
    }
    match text(field, "type") {
        "" => "string or integer".to_owned(),
        kind => kind.to_owned(),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Text in the font of code.
pub(crate) fn code(text: &str) -> String {
    format!("`{text}`")
}

/// One table row; a bar inside a cell would end it.
pub(crate) fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(page, "| {} ", cell.replace('|', "\\|"));
    }
    page.push_str("|\n");
}
