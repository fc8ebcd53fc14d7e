//! Reads JSON objects of requests field by field, so that an error names the field, what is wrong with it and what is
//! expected.
//!
//! Each value is a slice of the body until its type is known: nothing is built of values that are not used, a number keeps
//! its digits and never becomes a float. The length of the body bounds the work.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer as _, Serialize};
use serde_json::value::RawValue;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::domain::money::parse_amount;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;

/// Longest name of an unknown field in an error; a name is the client's text.
const MAX_SHOWN: usize = 64;

/// What is expected of a decimal.
const NOT_DECIMAL: &str = "must be a decimal number or a string with one, of at most 28 digits, for example \"12.50\"";

/// An exact decimal, as a JSON number or as a string with one.
#[derive(Clone, Debug, Serialize)]
pub struct DecimalInput(pub String);

impl PartialSchema for DecimalInput {
    fn schema() -> RefOr<Schema> {
        let types = SchemaType::Array(vec![Type::String, Type::Number]);
        let text = "An exact decimal: a string, or a number, which never becomes a float";
        ObjectBuilder::new().schema_type(types).description(Some(text)).into()
    }
}

impl ToSchema for DecimalInput {}

/// The error for a field: `text` says what is expected.
pub(super) fn invalid(parameter: impl Into<String>, text: &str) -> Problem {
    let parameter = parameter.into();
    Problem::new(ErrorCode::InvalidRequest, format!("{parameter}: {text}")).with("parameter", parameter)
}

/// The fields of one JSON object, of a closed list of names.
pub(super) struct Fields<'a> {
    names: &'static [&'static str],
    /// The value of each name; `None`: absent or null.
    values: Vec<Option<&'a str>>,
    /// Path of the object, with a trailing point; empty: the body itself.
    path: String,
}

impl<'a> Fields<'a> {
    /// The fields of the body.
    pub(super) fn of_body(body: &'a [u8], names: &'static [&'static str]) -> Result<Self, Problem> {
        let Ok(text) = std::str::from_utf8(body) else {
            return Err(Problem::new(ErrorCode::InvalidRequest, "the body must be a JSON object in UTF-8"));
        };
        Self::parse(text, names, String::new())
    }

    /// The fields of an object within a body; `path` leads to it, as `outcomes[3]`.
    pub(super) fn of_item(text: &'a str, names: &'static [&'static str], path: &str) -> Result<Self, Problem> {
        Self::parse(text, names, format!("{path}."))
    }

    fn parse(text: &'a str, names: &'static [&'static str], path: String) -> Result<Self, Problem> {
        let mut fields = Self { names, values: vec![None; names.len()], path };
        let mut problem = None;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = deserializer.deserialize_map(ObjectVisitor { fields: &mut fields, problem: &mut problem });
        match (problem, read.and_then(|()| deserializer.end())) {
            (Some(Misfit::Unknown(name)), _) => {
                let expected = names.join(", ");
                Err(invalid(fields.path.clone() + &name, &format!("unknown field; allowed are {expected}")))
            }
            (Some(Misfit::Repeated(name)), _) => Err(fields.invalid(name, "the field is repeated; send it once")),
            (None, Ok(())) => Ok(fields),
            (None, Err(_)) => {
                let expected = names.join(", ");
                let what = fields.path.strip_suffix('.').unwrap_or("the body");
                let problem = Problem::new(
                    ErrorCode::InvalidRequest,
                    format!("{what} must be a JSON object with the fields {expected}, and no others"),
                );
                Err(if fields.path.is_empty() { problem } else { problem.with("parameter", what) })
            }
        }
    }

    /// The error for a field of this object.
    pub(super) fn invalid(&self, name: &str, text: &str) -> Problem {
        invalid(self.full(name), text)
    }

    /// The path of a field of this object.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// The value of a field as JSON, if it is there and not null.
    pub(super) fn raw(&self, name: &'static str) -> Option<&'a str> {
        let index = self.names.iter().position(|known| *known == name);
        debug_assert!(index.is_some(), "{name} is not in the list of names");
        self.values.get(index?).copied().flatten()
    }

    /// Whether the field is there and not null.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.raw(name).is_some()
    }

    /// The error for a required field that is absent.
    pub(super) fn missing(&self, name: &str) -> Problem {
        self.invalid(name, "missing; the field is required")
    }

    /// A field that must be a string.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        string(raw).map(Some).ok_or_else(|| self.invalid(name, "must be a string"))
    }

    /// A required field that must be a string.
    pub(super) fn required_text(&self, name: &'static str) -> Result<Cow<'a, str>, Problem> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A string of 1 to `most` characters, none of which is hidden or a control character.
    pub(super) fn short_text(&self, name: &'static str, most: usize) -> Result<Option<String>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let fits = !text.trim().is_empty() && text.chars().count() <= most;
        if fits && !text.chars().any(crate::domain::printable::is_hidden) {
            return Ok(Some(text.into_owned()));
        }
        Err(self.invalid(name, &format!("must have 1 to {most} characters and no control characters")))
    }

    /// A field that must be an exact decimal, as a string or as a number.
    pub(super) fn decimal(&self, name: &'static str) -> Result<Option<Decimal>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        decimal(raw).map(Some).ok_or_else(|| self.invalid(name, NOT_DECIMAL))
    }

    /// The text of a required number, which may be a string.
    pub(super) fn required_number(&self, name: &'static str) -> Result<String, Problem> {
        let raw = self.raw(name).ok_or_else(|| self.missing(name))?;
        let text = match raw.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Some(raw.to_owned()),
            _ => string(raw).map(Cow::into_owned),
        };
        text.ok_or_else(|| self.invalid(name, NOT_DECIMAL))
    }

    /// A field that must be a whole number within these bounds, as a number or as a string.
    pub(super) fn whole(&self, name: &'static str, least: u64, most: u64) -> Result<Option<u64>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let number = decimal(raw).map(|number| number.normalize()).filter(|number| number.scale() == 0);
        let number = number.and_then(|number| u64::try_from(number.mantissa()).ok());
        number
            .filter(|number| (least..=most).contains(number))
            .map(Some)
            .ok_or_else(|| self.invalid(name, &format!("must be a whole number from {least} to {most}")))
    }

    /// A field that must be an instant.
    pub(super) fn instant(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        string(raw)
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| self.invalid(name, "must be an RFC 3339 instant such as \"2030-01-31T18:00:00Z\""))
    }

    /// A required field that must be an instant.
    pub(super) fn required_instant(&self, name: &'static str) -> Result<Timestamp, Problem> {
        self.instant(name)?.ok_or_else(|| self.missing(name))
    }

    /// A field that must be true or false.
    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, Problem> {
        match self.raw(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.invalid(name, "must be true or false")),
        }
    }

    /// A field that must be a UUID.
    pub(super) fn uuid(&self, name: &'static str) -> Result<Option<Uuid>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let id = string(raw).and_then(|text| Uuid::parse_str(&text).ok());
        id.map(Some).ok_or_else(|| self.invalid(name, "must be a UUID"))
    }

    /// The items of a field that must be a list of 1 to `most`, as JSON.
    pub(super) fn items(&self, name: &'static str, most: usize) -> Result<Option<Vec<&'a str>>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        items(raw, most).map(Some).ok_or_else(|| self.invalid(name, &format!("must be a list of 1 to {most} items")))
    }

    /// The entries of a field that must be an object of at most `most` entries, as JSON, in their order.
    pub(super) fn entries(&self, name: &'static str, most: usize) -> Result<Vec<(String, &'a str)>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        let mut deserializer = serde_json::Deserializer::from_str(raw);
        let read = deserializer.deserialize_map(EntriesVisitor { most });
        read.ok().ok_or_else(|| self.invalid(name, &format!("must be a JSON object of at most {most} entries")))
    }
}

/// The items of a JSON list of 1 to `most`.
pub(super) fn items(raw: &str, most: usize) -> Option<Vec<&str>> {
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    let read = deserializer.deserialize_seq(ItemsVisitor { most }).ok()?;
    deserializer.end().ok()?;
    Some(read).filter(|items| !items.is_empty())
}

/// The text of a JSON string; borrowed if it has no escapes.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The decimal of a JSON number or string.
fn decimal(raw: &str) -> Option<Decimal> {
    match raw.as_bytes().first()? {
        b'"' => parse_amount(&string(raw)?).ok(),
        b'-' | b'0'..=b'9' => parse_amount(raw).ok(),
        _ => None,
    }
}

/// What is wrong with the names of an object.
enum Misfit {
    Unknown(String),
    Repeated(&'static str),
}

struct ObjectVisitor<'f, 'a> {
    fields: &'f mut Fields<'a>,
    problem: &'f mut Option<Misfit>,
}

impl<'a> Visitor<'a> for ObjectVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let names = self.fields.names;
        // One bit of each name; no object has as many as 64.
        let mut given = 0_u64;
        while let Some(name) = map.next_key_seed(NameSeed { names })? {
            let index = match name {
                Name::Known(index) => index,
                Name::Unknown(name) => {
                    self.problem.get_or_insert(Misfit::Unknown(name));
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let raw = map.next_value::<&'a RawValue>()?.get();
            let (Some(value), Some(name)) = (self.fields.values.get_mut(index), names.get(index)) else { continue };
            if given & (1_u64 << index) != 0 {
                self.problem.get_or_insert(Misfit::Repeated(name));
            }
            given |= 1_u64 << index;
            *value = Some(raw).filter(|raw| *raw != "null");
        }
        Ok(())
    }
}

/// The name of a field.
enum Name {
    /// That of the list at this index.
    Known(usize),
    /// Another one, shortened.
    Unknown(String),
}

struct NameSeed {
    names: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Name;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
        let known = self.names.iter().position(|known| *known == name);
        Ok(known.map_or_else(|| Name::Unknown(crate::domain::printable::cell_of(name, MAX_SHOWN)), Name::Known))
    }
}

struct ItemsVisitor {
    most: usize,
}

impl<'a> Visitor<'a> for ItemsVisitor {
    type Value = Vec<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} items", self.most)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<Vec<&'a str>, S::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<&'a RawValue>()? {
            if items.len() == self.most {
                return Err(serde::de::Error::custom("too many items"));
            }
            items.push(item.get());
        }
        Ok(items)
    }
}

struct EntriesVisitor {
    most: usize,
}

impl<'a> Visitor<'a> for EntriesVisitor {
    type Value = Vec<(String, &'a str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of at most {} entries", self.most)
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if entries.len() == self.most {
                return Err(serde::de::Error::custom("too many entries"));
            }
            entries.push((name, map.next_value::<&'a RawValue>()?.get()));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests;
