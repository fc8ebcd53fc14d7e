//! Explanations as text for people, and as JSON or YAML for programs: always a list, one entry an object.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::explain::{Explanation, Setting};

/// Stands in the table where nothing holds.
const NOTHING: &str = "-";

/// A table per object.
pub fn text(explanations: &[Explanation]) -> String {
    let tables: Vec<String> = explanations.iter().map(table).collect();
    tables.join("\n")
}

fn table(explanation: &Explanation) -> String {
    let rows: Vec<[String; 3]> = explanation.settings.iter().map(cells).collect();
    let heads = ["FIELD", "VALUE", "FROM"].map(str::to_owned);
    let width =
        |column: usize| rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    let mut out = format!("{} {}\n", explanation.kind, explanation.key);
    for [field, value, from] in [&heads].into_iter().chain(&rows) {
        let _ = writeln!(out, "  {field:<first$}  {value:<second$}  {from}");
    }
    for problem in &explanation.problems {
        let _ = writeln!(out, "  problem: {problem}");
    }
    out
}

fn cells(setting: &Setting) -> [String; 3] {
    let from = if setting.unused {
        format!("{}, not used by this version", setting.source)
    } else {
        setting.source.to_string()
    };
    [setting.field.clone(), plain(&setting.value), from]
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => NOTHING.to_owned(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Each object as a JSON value.
fn values(explanations: &[Explanation]) -> Value {
    let setting = |s: &Setting| {
        let mut row = json!({ "field": s.field, "value": s.value, "source": s.source.to_string() });
        if s.unused {
            row["unused"] = Value::Bool(true);
        }
        row
    };
    let object = |e: &Explanation| {
        json!({
            "kind": e.kind.as_str(),
            "namespace": &*e.key.namespace,
            "name": &*e.key.name,
            "settings": e.settings.iter().map(setting).collect::<Vec<_>>(),
            "problems": e.problems,
        })
    };
    explanations.iter().map(object).collect()
}

/// A JSON list.
pub fn json(explanations: &[Explanation]) -> String {
    format!("{:#}\n", values(explanations))
}

/// The same as YAML. Scalars are written as JSON has them, which is YAML too: so that `"Off"` and `"0.30"` stay texts
/// for readers of YAML 1.1 as well, to whom they would be a truth and a number without the quotes.
pub fn yaml(explanations: &[Explanation]) -> String {
    let mut out = String::new();
    for object in values(explanations).as_array().into_iter().flatten() {
        let mut dash = "- ";
        for (key, value) in object.as_object().into_iter().flatten() {
            match value {
                Value::Array(list) if !list.is_empty() => {
                    let _ = writeln!(out, "{dash}{key}:");
                    for item in list {
                        block(&mut out, item);
                    }
                }
                scalar => {
                    let _ = writeln!(out, "{dash}{key}: {scalar}");
                }
            }
            dash = "  ";
        }
    }
    if out.is_empty() { "[]\n".to_owned() } else { out }
}

fn block(out: &mut String, item: &Value) {
    let Some(map) = item.as_object() else {
        let _ = writeln!(out, "    - {item}");
        return;
    };
    let mut dash = "- ";
    for (key, value) in map {
        let _ = writeln!(out, "    {dash}{key}: {value}");
        dash = "  ";
    }
}
