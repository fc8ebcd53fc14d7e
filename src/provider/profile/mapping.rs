//! How an answer's body becomes canonical records. Pure.
//!
//! A field that must be there and is not is an error that names the field, never the value: the provider changed, and a
//! record with a hole would be worse than none.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::canonical::{CanonicalRecord, FieldKind, TimeForm};
use super::errors::scalar;
use crate::provider::json;

/// One mapping.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mapping {
    /// What the answer becomes.
    pub record: CanonicalRecord,
    /// Whether there is one record or a list of them.
    #[serde(default)]
    pub shape: Shape,
    /// Pointers to the record or the list, tried in order. Where one record is wanted and a list is there, its first is
    /// taken.
    #[serde(default = "root")]
    pub records: Vec<String>,
    /// Where each field comes from; the record's other fields are null.
    pub fields: BTreeMap<String, FieldSource>,
    /// Only records in which one number is greater than another are kept.
    #[serde(default)]
    pub keep: Option<Keep>,
    /// Pointers to something that is only there when the list goes on elsewhere: the answer then says that it is not
    /// complete.
    #[serde(default)]
    pub more: Vec<String>,
}

/// One record or a list.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Shape {
    /// `{field: value, …}`.
    One,
    /// `{records: [{…}, …], complete: true}`.
    #[default]
    List,
}

/// Where a field comes from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldSource {
    /// Pointers into the provider's record, tried in order; null and missing are the same.
    pub at: Vec<String>,
    /// How a time is written.
    #[serde(default, rename = "as")]
    pub form: TimeForm,
    /// Values that mean "none", such as `.`.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What the field holds; only for `record: custom`.
    #[serde(default)]
    pub kind: Option<FieldKind>,
    /// Whether a record without it is none; only for `record: custom`.
    #[serde(default)]
    pub required: bool,
}

/// A condition on the records that are kept.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keep {
    /// A number of the canonical record; a record without it is not kept.
    pub field: String,
    /// Another that it must be greater than; where that is null, it counts as 0.
    pub above: String,
}

/// An answer that does not fit its mapping.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MappingError {
    /// The body is not JSON.
    #[error("the answer is not JSON")]
    NotJson,
    /// The records are not where they were.
    #[error("the answer has no records where they are expected")]
    NoRecords,
    /// One record was asked for and there is none.
    #[error("there is no such record")]
    Nothing,
    /// A field is missing or not of its kind.
    #[error("the field {field} {problem}")]
    Field {
        /// The canonical field.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn root() -> Vec<String> {
    vec![String::new()]
}

impl Mapping {
    /// The canonical form of a body: an object for one record, else `{records, complete}`.
    pub fn read(&self, body: &[u8]) -> Result<Value, MappingError> {
        let body = json::parse(body).map_err(|_| MappingError::NotJson)?;
        let found = self.records.iter().filter_map(|pointer| body.pointer(pointer));
        let mut found = found.filter(|value| value.is_object() || value.is_array());
        match (self.shape, found.next()) {
            (Shape::One, Some(Value::Array(list))) => self.record(list.first().ok_or(MappingError::Nothing)?),
            (Shape::One, Some(record)) => self.record(record),
            (Shape::List, Some(Value::Array(list))) => {
                let records = list.iter().map(|record| self.record(record)).collect::<Result<Vec<_>, _>>()?;
                let kept: Vec<_> = records.into_iter().filter(|record| self.kept(record)).collect();
                let more = self.more.iter().filter_map(|pointer| body.pointer(pointer));
                let complete = !more.into_iter().any(|value| !value.is_null() && value.as_str() != Some(""));
                let mut answer = Map::new();
                answer.insert("records".to_owned(), Value::Array(kept));
                answer.insert("complete".to_owned(), Value::Bool(complete));
                Ok(Value::Object(answer))
            }
            (_, None) | (Shape::List, Some(_)) => Err(MappingError::NoRecords),
        }
    }

    fn record(&self, record: &Value) -> Result<Value, MappingError> {
        let mut out = Map::new();
        for field in self.record.fields() {
            let source = self.fields.get(field.name);
            out.insert(
                field.name.to_owned(),
                source.map_or(Ok(Value::Null), |source| source.read(record, field.name, field.kind, field.required))?,
            );
        }
        if self.record == CanonicalRecord::Custom {
            for (name, source) in &self.fields {
                let value = source.read(record, name, source.kind.unwrap_or(FieldKind::Json), source.required)?;
                out.insert(name.clone(), value);
            }
        }
        Ok(Value::Object(out))
    }

    fn kept(&self, record: &Value) -> bool {
        let Some(keep) = &self.keep else { return true };
        let number = |field: &str| record.get(field)?.as_str()?.parse::<rust_decimal::Decimal>().ok();
        number(&keep.field).is_some_and(|value| value > number(&keep.above).unwrap_or_default())
    }

    /// What serde cannot see.
    pub(super) fn check(&self) -> Result<(), String> {
        let fields = self.record.fields();
        let custom = self.record == CanonicalRecord::Custom;
        for (name, source) in &self.fields {
            if !custom && !fields.iter().any(|field| field.name == name) {
                let known = fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
                return Err(format!("the record has no field {name}: it has {known}"));
            }
            if !custom && (source.kind.is_some() || source.required) {
                return Err(format!("{name}: kind and required are for record: custom, remove them"));
            }
            if source.at.is_empty() {
                return Err(format!("{name}: at must name at least one JSON pointer"));
            }
        }
        if let Some(field) = fields.iter().find(|field| field.required && !self.fields.contains_key(field.name)) {
            return Err(format!("the field {} must be mapped: every such record has it", field.name));
        }
        let pointers = self.records.iter().chain(&self.more).chain(self.fields.values().flat_map(|field| &field.at));
        if let Some(bad) = pointers.into_iter().find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            return Err(format!("{bad:?} is no JSON pointer: it must be empty or start with /"));
        }
        let kept = self.keep.iter().flat_map(|keep| [&keep.field, &keep.above]);
        match kept.into_iter().find(|name| !self.fields.contains_key(*name)) {
            Some(unknown) => Err(format!("keep names {unknown}, which is not mapped")),
            None => Ok(()),
        }
    }
}

impl FieldSource {
    fn read(&self, record: &Value, field: &str, kind: FieldKind, required: bool) -> Result<Value, MappingError> {
        let problem = |problem| MappingError::Field { field: field.to_owned(), problem };
        let mut found = self
            .at
            .iter()
            .filter_map(|pointer| record.pointer(pointer))
            .filter(|value| !value.is_null() && scalar(value).is_none_or(|text| !self.missing.contains(&text)));
        match found.next() {
            Some(value) => kind.read(value, self.form).ok_or_else(|| problem("is not of its kind")),
            None if required => Err(problem("is missing")),
            None => Ok(Value::Null),
        }
    }
}
