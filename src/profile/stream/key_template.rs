//! An ID that consists of several fields of a record: `{/ticker}:{/t}`.

use std::borrow::Cow;
use std::fmt::Write as _;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// The fields that form an ID.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyTemplate {
    /// JSON pointers into the record in braces, with text between any two. A record in which one of them is missing or
    /// blank has no ID.
    pub template: RecordTemplate,
    /// JSON pointers to the fields that identify a record without an ID, besides its account and day; empty: amount,
    /// currency and narration. Equal records of one day are told apart by their number.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// Whether a hash of the ID is the key: for IDs that are longer than 512 bytes, such as URLs.
    #[serde(default)]
    pub hashed: bool,
}

/// A text with JSON pointers into a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordTemplate {
    /// Each pointer with the text before it.
    parts: Vec<(String, String)>,
    suffix: String,
}

impl RecordTemplate {
    fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::<(String, String)>::new(), text);
        while let Some((before, from)) = rest.split_once('{') {
            let Some((pointer, after)) = from.split_once('}') else {
                return Err(format!("{text:?} has an unclosed brace: write each pointer as {{/name}}"));
            };
            if !pointer.starts_with('/') || before.contains('}') {
                return Err(format!("{text:?} is not a valid record template: write each pointer as {{/name}}"));
            }
            if !parts.is_empty() && before.is_empty() {
                // 1 and 11, 11 and 1: two records with the same ID.
                return Err(format!("{text:?} must have a text between any two pointers, such as {{/a}}:{{/b}}"));
            }
            parts.push((before.to_owned(), pointer.to_owned()));
            rest = after;
        }
        if parts.is_empty() || rest.contains('}') {
            return Err(format!("{text:?} is not a valid record template: write each pointer as {{/name}}"));
        }
        Ok(Self { parts, suffix: rest.to_owned() })
    }

    /// The pointers, in order.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(_, pointer)| pointer.as_str())
    }

    /// The ID, where `value` returns the text at a pointer; `None` if one is missing. Characters of a value that also
    /// occur in the template's text are encoded, so that two records never get the same ID.
    pub fn expand<E>(&self, value: impl Fn(&str) -> Result<Option<String>, E>) -> Result<Option<String>, E> {
        let reserved = |c: char| c == '%' || self.parts.iter().skip(1).any(|(before, _)| before.contains(c));
        let mut id = String::new();
        for (before, pointer) in &self.parts {
            let Some(text) = value(pointer)? else { return Ok(None) };
            id.push_str(before);
            for c in text.chars() {
                if reserved(c) {
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        // Writing to a string cannot fail.
                        let _ = write!(id, "%{byte:02X}");
                    }
                } else {
                    id.push(c);
                }
            }
        }
        id.push_str(&self.suffix);
        Ok(Some(id))
    }
}

impl<'de> Deserialize<'de> for RecordTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for RecordTemplate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RecordTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, values: &[(&str, &str)]) -> Option<String> {
        let value = |pointer: &str| {
            let found = values.iter().find(|(name, _)| *name == pointer);
            Ok::<_, ()>(found.map(|(_, value)| (*value).to_owned()))
        };
        RecordTemplate::parse(template).unwrap().expand(value).unwrap()
    }

    #[test]
    fn ids_of_different_fields_never_collide() {
        let id = |a, b| expand("x/{/a}:{/b}", &[("/a", a), ("/b", b)]).unwrap();
        assert_eq!(id("AAPL", "7"), "x/AAPL:7");
        assert_ne!(id("a:b", "c"), id("a", "b:c"));
        assert_ne!(id("a%3A", "c"), id("a:", "c"));
        assert_eq!(expand("{/a}:{/b}", &[("/a", "1")]), None);
    }

    #[test]
    fn an_ambiguous_template_is_rejected() {
        for bad in ["", "id", "{id}", "{/a}{/b}", "{/a", "/a}", "{/a}}"] {
            assert!(RecordTemplate::parse(bad).is_err(), "{bad}");
        }
    }
}
