//! Prints explanations as a text table, JSON or YAML. JSON and YAML are always a list with one entry per object.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::domain::printable;
use crate::explain::{Explanation, Setting};

/// Placeholder in the table for an absent value.
const ABSENT: &str = "-";

/// One text table per object.
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
    let mut out = format!("{} {}\n", explanation.kind, printable::cell(&explanation.key.to_string()));
    for [field, value, from] in [&heads].into_iter().chain(&rows) {
        let _ = writeln!(out, "  {field:<first$}  {value:<second$}  {from}");
    }
    for problem in &explanation.problems {
        let _ = writeln!(out, "  problem: {}", printable::cell(problem));
    }
    out
}

fn cells(setting: &Setting) -> [String; 3] {
    let from = if setting.unused {
        format!("{}, not used by this version", setting.source)
    } else {
        setting.source.to_string()
    };
    // A manifest's text must neither control the terminal nor start a row.
    [&setting.field, &plain(&setting.value), &from].map(|cell| printable::cell(cell))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => ABSENT.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => ABSENT.to_owned(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The JSON list of the explanations.
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

/// Formats the explanations as JSON.
pub fn json(explanations: &[Explanation]) -> String {
    printable::data(&format!("{:#}\n", values(explanations)))
}

/// Formats the explanations as YAML. Scalars are quoted as in JSON, so that YAML 1.1 readers do not parse `"Off"` and
/// `"0.30"` as a boolean and a number.
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
    if out.is_empty() { "[]\n".to_owned() } else { printable::data(&out) }
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
