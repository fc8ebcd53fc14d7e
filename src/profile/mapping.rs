//! How a response body becomes canonical records. Pure.
//!
//! A required field that is missing is an error that names the field, never the value: the provider changed its format,
//! and an incomplete record would be worse than none.

use std::collections::BTreeMap;
use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::canonical::{CanonicalRecord, FieldKind};
use super::json::{self, JsonError, check_pointer, scalar_text};
use super::time_encoding::TimeEncoding;

/// The mapping of a response body to canonical records.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mapping {
    /// The canonical record.
    pub record: CanonicalRecord,
    /// Whether the result is one record or a list.
    #[serde(default)]
    pub shape: RecordShape,
    /// JSON pointers to the record or the list, tried in order. With `shape: one`, the first item of a list is taken.
    #[serde(default = "root")]
    pub records: Vec<String>,
    /// The source of each field; the record's other fields are null.
    pub fields: BTreeMap<String, FieldSource>,
    /// Includes only records in which one number is greater than another.
    #[serde(default)]
    pub keep: Option<RecordFilter>,
    /// JSON pointers to values that are present only when there are more records: the result then has
    /// `complete: false`.
    #[serde(default)]
    pub more: Vec<String>,
}

/// One record or a list.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecordShape {
    /// `{field: value, …}`.
    One,
    /// `{records: [{…}, …], complete: true}`.
    #[default]
    List,
}

/// The source of a field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldSource {
    /// JSON pointers into the provider's record, tried in order; null counts as missing.
    pub at: Vec<String>,
    /// The encoding of a time.
    #[serde(default, rename = "as")]
    pub encoding: TimeEncoding,
    /// Values that mean "no value", such as `.`.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The field's type; only for `record: custom`.
    #[serde(default)]
    pub kind: Option<FieldKind>,
    /// Whether every record must have it; only for `record: custom`.
    #[serde(default)]
    pub required: bool,
}

/// A condition on records: a number that is greater than another.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordFilter {
    /// A number of the canonical record; a record without it is left out.
    pub field: String,
    /// The number that it must be greater than; null counts as 0.
    pub above: String,
}

/// A response body that does not match its mapping.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MappingError {
    /// The body is not JSON.
    #[error("the response is not JSON")]
    NotJson,
    /// A record has too many values.
    #[error("a record has too many values")]
    TooComplex,
    /// The canonical form does not fit where it is written.
    #[error("the canonical form is too large")]
    Unwritable,
    /// The mapping's pointers lead to no records.
    #[error("the response has no records where the mapping expects them")]
    NoRecords,
    /// One record is expected and the list is empty.
    #[error("no such record")]
    NotFound,
    /// A field is missing or of another type.
    #[error("the field {field} {problem}")]
    Field {
        /// The canonical field.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl From<JsonError> for MappingError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Invalid | JsonError::TooDeep => Self::NotJson,
            JsonError::TooManyValues => Self::TooComplex,
        }
    }
}

impl From<io::Error> for MappingError {
    fn from(_: io::Error) -> Self {
        Self::Unwritable
    }
}

/// Writes a record.
fn put(out: &mut impl Write, record: &Value) -> Result<(), MappingError> {
    serde_json::to_writer(out, record).map_err(|_| MappingError::Unwritable)
}

fn root() -> Vec<String> {
    vec![String::new()]
}

impl Mapping {
    /// Converts a body to its canonical form, written as JSON: an object for one record, else `{records, complete}`.
    /// Records are read and written one by one.
    pub fn write(&self, body: &[u8], out: &mut impl Write) -> Result<(), MappingError> {
        let document = json::text(body)?;
        let pointers: Vec<&str> = self.records.iter().chain(&self.more).map(String::as_str).collect();
        let slices = json::select(document, &pointers)?;
        let (records, more) = slices.split_at_checked(self.records.len()).unwrap_or_default();
        let found = records.iter().flatten().find(|slice| json::is_object(slice) || json::is_list(slice));
        match (self.shape, *found.ok_or(MappingError::NoRecords)?) {
            (RecordShape::One, list) if json::is_list(list) => {
                let mut first = None;
                json::each_item(list, |item| {
                    first.get_or_insert(item);
                    Ok::<_, MappingError>(())
                })?;
                put(out, &self.record(&json::parse(first.ok_or(MappingError::NotFound)?.as_bytes())?)?)
            }
            (RecordShape::One, record) => put(out, &self.record(&json::parse(record.as_bytes())?)?),
            (RecordShape::List, list) if json::is_list(list) => {
                let complete = !more.iter().flatten().any(|slice| !matches!(*slice, "null" | "\"\""));
                write!(out, r#"{{"complete":{complete},"records":["#)?;
                let mut separator = "";
                json::each_item(list, |item| {
                    let record = self.record(&json::parse(item.as_bytes())?)?;
                    if self.includes(&record) {
                        write!(out, "{separator}")?;
                        separator = ",";
                        put(out, &record)?;
                    }
                    Ok::<_, MappingError>(())
                })?;
                Ok(write!(out, "]}}")?)
            }
            (RecordShape::List, _) => Err(MappingError::NoRecords),
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

    fn includes(&self, record: &Value) -> bool {
        let Some(filter) = &self.keep else { return true };
        let number = |field: &str| record.get(field)?.as_str()?.parse::<rust_decimal::Decimal>().ok();
        number(&filter.field).is_some_and(|value| value > number(&filter.above).unwrap_or_default())
    }

    /// Checks what serde cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        let fields = self.record.fields();
        let custom = self.record == CanonicalRecord::Custom;
        for (name, source) in &self.fields {
            if !custom && !fields.iter().any(|field| field.name == name) {
                let known = fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
                return Err(format!("the record has no field {name}: it has {known}"));
            }
            if !custom && (source.kind.is_some() || source.required) {
                return Err(format!("{name}: kind and required are only valid with record: custom; remove them"));
            }
            if source.at.is_empty() {
                return Err(format!("{name}: at must name at least one JSON pointer"));
            }
        }
        if let Some(field) = fields.iter().find(|field| field.required && !self.fields.contains_key(field.name)) {
            return Err(format!("the field {} must be mapped: it is required in every such record", field.name));
        }
        let pointers = self.records.iter().chain(&self.more).chain(self.fields.values().flat_map(|field| &field.at));
        pointers.into_iter().try_for_each(|pointer| check_pointer(pointer))?;
        let filtered = self.keep.iter().flat_map(|filter| [&filter.field, &filter.above]);
        match filtered.into_iter().find(|name| !self.fields.contains_key(*name)) {
            Some(unknown) => Err(format!("keep names {unknown}, which is not mapped")),
            None => Ok(()),
        }
    }
}

impl FieldSource {
    fn read(&self, record: &Value, field: &str, kind: FieldKind, required: bool) -> Result<Value, MappingError> {
        let problem = |problem| MappingError::Field { field: field.to_owned(), problem };
        let mut found =
            self.at.iter().filter_map(|pointer| record.pointer(pointer)).filter(|value| {
                !value.is_null() && scalar_text(value).is_none_or(|text| !self.missing.contains(&text))
            });
        match found.next() {
            Some(value) => kind.read(value, self.encoding).ok_or_else(|| problem("has an unexpected type")),
            None if required => Err(problem("is missing")),
            None => Ok(Value::Null),
        }
    }
}
