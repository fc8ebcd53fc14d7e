//! The rows of one explanation as they are gathered, and how values are written in them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::domain::duration::parse_duration;
use crate::explain::{Setting, Source};
use crate::provider::classify::StatusPattern;

/// Rows, and the spec they are compared with.
pub(super) struct Sheet {
    /// The spec as written, for what is set in it.
    spec: Value,
    /// What a set field is said to come from.
    owner: Source,
    /// Stands before each field.
    prefix: &'static str,
    rows: Vec<Setting>,
    told: BTreeSet<String>,
}

impl Sheet {
    /// A sheet for `spec`, whose set fields come from `owner`.
    pub(super) fn new(spec: &impl Serialize, owner: Source, prefix: &'static str) -> Self {
        // A spec always serializes; if it did not, nothing would count as set.
        let spec = serde_json::to_value(spec).unwrap_or_default();
        Self { spec, owner, prefix, rows: Vec::new(), told: BTreeSet::new() }
    }

    /// What the spec says at a path.
    fn set(&self, field: &str) -> Option<&Value> {
        field.split('.').try_fold(&self.spec, |at, key| at.get(key)).filter(|value| !value.is_null())
    }

    /// Whether the spec says anything at a path.
    pub(super) fn is_set(&self, field: &str) -> bool {
        self.set(field).is_some()
    }

    /// Whether the spec says anything at a path, and if not, what it is then.
    fn source(&self, field: &str, otherwise: Source) -> Source {
        if self.is_set(field) { self.owner.clone() } else { otherwise }
    }

    /// A row whose source is known.
    pub(super) fn row(&mut self, field: &str, value: impl Into<Value>, source: Source) {
        self.told.insert(field.to_owned());
        let field = format!("{}{field}", self.prefix);
        self.rows.push(Setting { field, value: value.into(), source, unused: false });
    }

    /// A row from the spec, or from `otherwise` where the spec is silent.
    pub(super) fn put(&mut self, field: &str, value: impl Into<Value>, otherwise: Source) {
        let source = self.source(field, otherwise);
        self.row(field, value, source);
    }

    /// A row of a field to which the API server itself gives a default: the object does not tell whether it was typed.
    pub(super) fn filled(&mut self, field: &str, value: impl Into<Value>, default: impl Into<Value>) {
        let value = value.into();
        let source = if value == default.into() { Source::Default } else { self.owner.clone() };
        self.row(field, value, source);
    }

    /// A row with a length of time: as it was typed, if it was.
    pub(super) fn duration(&mut self, field: &str, value: Duration, otherwise: Source) {
        let typed = self.set(field).and_then(Value::as_str).filter(|text| parse_duration(text) == Ok(value));
        let text = typed.map_or_else(|| length(value), str::to_owned);
        self.put(field, text, otherwise);
    }

    /// Nothing below `field` needs a row of its own any more.
    pub(super) fn done(&mut self, field: &str) {
        self.told.insert(field.to_owned());
    }

    /// Rows for everything the spec sets that has none yet, and a mark on those that no code reads.
    pub(super) fn finish(mut self, unread: &[&str]) -> Vec<Setting> {
        let spec = std::mem::take(&mut self.spec);
        self.rest("", &spec);
        for row in &mut self.rows {
            let field = without_names(&row.field);
            let below = |name: &str| field == name || field.starts_with(&format!("{name}."));
            row.unused = row.source == self.owner && unread.iter().any(|name| below(name));
        }
        self.rows
    }

    /// The rows as they are.
    pub(super) fn rows(self) -> Vec<Setting> {
        self.rows
    }

    fn rest(&mut self, path: &str, value: &Value) {
        if self.told.contains(path) {
            return;
        }
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    self.rest(&below(key), value);
                }
            }
            // Lists of things are told apart by their names.
            Value::Array(list) if list.iter().any(Value::is_object) => {
                for (index, item) in list.iter().enumerate() {
                    let name = item.get("name").and_then(Value::as_str).map_or(index.to_string(), str::to_owned);
                    self.done(&format!("{path}[{name}].name"));
                    self.rest(&format!("{path}[{name}]"), item);
                }
            }
            Value::Null => {}
            value => {
                let owner = self.owner.clone();
                self.row(path, value.clone(), owner);
            }
        }
    }
}

/// `candidates[bank-a].fx` as `candidates[].fx`.
fn without_names(field: &str) -> String {
    let mut inside = false;
    field
        .chars()
        .filter(|c| {
            inside = (inside || *c == '[') && *c != ']';
            !inside || *c == '['
        })
        .collect()
}

/// A length of time in the form that specs use, for one that nobody typed.
pub(super) fn length(value: Duration) -> String {
    let millis = value.as_millis();
    let (seconds, ms) = (millis / 1000, millis % 1000);
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (ms, "ms")];
    let said: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if said.is_empty() { "0s".to_owned() } else { said.concat() }
}

/// Statuses as specs write them.
pub(super) fn statuses(list: &[StatusPattern]) -> Vec<String> {
    let text = |pattern: &StatusPattern| match pattern {
        StatusPattern::Class(hundred) => format!("{hundred}xx"),
        StatusPattern::Exact(status) => status.to_string(),
    };
    list.iter().map(text).collect()
}
