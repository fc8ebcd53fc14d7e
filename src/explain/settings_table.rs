//! Collects the rows of one explanation, and formats their values.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::domain::duration::parse_duration;
use crate::explain::setting::{Setting, Source};
use crate::profile::StatusPattern;

/// The rows of one object, and the spec that determines their source.
pub(super) struct SettingsTable {
    /// The spec as written.
    spec: Value,
    /// Source of the fields set in the spec.
    owner: Source,
    /// Prefix of each field.
    prefix: &'static str,
    rows: Vec<Setting>,
    covered: BTreeSet<String>,
}

impl SettingsTable {
    /// An empty table for `spec`, whose set fields have the source `owner`.
    pub(super) fn new(spec: &impl Serialize, owner: Source, prefix: &'static str) -> Self {
        // Serializing a spec cannot fail; on failure no field would count as set.
        let spec = serde_json::to_value(spec).unwrap_or_default();
        Self { spec, owner, prefix, rows: Vec::new(), covered: BTreeSet::new() }
    }

    /// Value of the spec at a path.
    fn spec_value(&self, field: &str) -> Option<&Value> {
        field.split('.').try_fold(&self.spec, |at, key| at.get(key)).filter(|value| !value.is_null())
    }

    /// Whether the spec sets a path.
    pub(super) fn is_set(&self, field: &str) -> bool {
        self.spec_value(field).is_some()
    }

    /// `owner` if the spec sets the path, else `otherwise`.
    fn source(&self, field: &str, otherwise: Source) -> Source {
        if self.is_set(field) { self.owner.clone() } else { otherwise }
    }

    /// Adds a row with a known source.
    pub(super) fn add(&mut self, field: &str, value: impl Into<Value>, source: Source) {
        self.covered.insert(field.to_owned());
        let field = format!("{}{field}", self.prefix);
        self.rows.push(Setting { field, value: value.into(), source, unused: false });
    }

    /// Adds a row with the spec as source if it sets the field, else `otherwise`.
    pub(super) fn add_or(&mut self, field: &str, value: impl Into<Value>, otherwise: Source) {
        let source = self.source(field, otherwise);
        self.add(field, value, source);
    }

    /// Adds a row of a field with a schema default: the object does not show whether its author set it.
    pub(super) fn add_defaulted(&mut self, field: &str, value: impl Into<Value>, default: impl Into<Value>) {
        let value = value.into();
        let source = if value == default.into() { Source::Default } else { self.owner.clone() };
        self.add(field, value, source);
    }

    /// Adds a duration; one set in the spec is shown as written.
    pub(super) fn add_duration(&mut self, field: &str, value: Duration, otherwise: Source) {
        let written = self.spec_value(field).and_then(Value::as_str).filter(|text| parse_duration(text) == Ok(value));
        let text = written.map_or_else(|| format_duration(value), str::to_owned);
        self.add_or(field, text, otherwise);
    }

    /// Marks `field` and everything below it as covered: `finish` adds no rows for it.
    pub(super) fn mark_covered(&mut self, field: &str) {
        self.covered.insert(field.to_owned());
    }

    /// Adds rows for all set fields not covered yet, marks the unused ones, and returns the rows.
    pub(super) fn finish(mut self, unused: &[&str]) -> Vec<Setting> {
        let spec = std::mem::take(&mut self.spec);
        self.add_remaining("", &spec);
        for row in &mut self.rows {
            let field = without_names(&row.field);
            let below = |name: &str| field == name || field.starts_with(&format!("{name}."));
            row.unused = row.source == self.owner && unused.iter().any(|name| below(name));
        }
        self.rows
    }

    /// Returns the rows without adding the remaining fields.
    pub(super) fn into_rows(self) -> Vec<Setting> {
        self.rows
    }

    fn add_remaining(&mut self, path: &str, value: &Value) {
        if self.covered.contains(path) {
            return;
        }
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    self.add_remaining(&below(key), value);
                }
            }
            // Entries of object lists are identified by name.
            Value::Array(list) if list.iter().any(Value::is_object) => {
                for (index, item) in list.iter().enumerate() {
                    let name = item.get("name").and_then(Value::as_str).map_or(index.to_string(), str::to_owned);
                    self.mark_covered(&format!("{path}[{name}].name"));
                    self.add_remaining(&format!("{path}[{name}]"), item);
                }
            }
            Value::Null => {}
            value => {
                let owner = self.owner.clone();
                self.add(path, value.clone(), owner);
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

/// Formats a duration as specs write it.
pub(super) fn format_duration(value: Duration) -> String {
    let millis = value.as_millis();
    let (seconds, ms) = (millis / 1000, millis % 1000);
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (ms, "ms")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

/// Formats status patterns as specs write them.
pub(super) fn statuses(list: &[StatusPattern]) -> Vec<String> {
    let text = |pattern: &StatusPattern| match pattern {
        StatusPattern::Class(hundred) => format!("{hundred}xx"),
        StatusPattern::Exact(status) => status.to_string(),
    };
    list.iter().map(text).collect()
}
