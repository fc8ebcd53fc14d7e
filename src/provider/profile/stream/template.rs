//! An id that is made of several fields of a record: `{/ticker}:{/t}`.

use std::borrow::Cow;
use std::fmt::Write as _;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// What an id is made of.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyTemplate {
    /// JSON pointers into the record in braces, with text between any two. A record in which one leads to nothing, or to
    /// a blank, has no id.
    pub template: RecordTemplate,
    /// Pointers to what tells a record without an id apart; none: account, day, amount, currency and narration.
    #[serde(default)]
    pub fallback: Vec<String>,
}

/// A text with pointers into a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordTemplate {
    /// Each pointer with the text before it.
    parts: Vec<(String, String)>,
    end: String,
}

impl RecordTemplate {
    fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::<(String, String)>::new(), text);
        while let Some((before, from)) = rest.split_once('{') {
            let Some((pointer, after)) = from.split_once('}') else {
                return Err(format!("{text:?} has a brace that is not closed: write each pointer as {{/name}}"));
            };
            if !pointer.starts_with('/') || before.contains('}') {
                return Err(format!("{text:?} is no template of a record: write each pointer as {{/name}}"));
            }
            if !parts.is_empty() && before.is_empty() {
                // 1 and 11, 11 and 1: two records with one id.
                return Err(format!("{text:?} must have a text between any two pointers, such as {{/a}}:{{/b}}"));
            }
            parts.push((before.to_owned(), pointer.to_owned()));
            rest = after;
        }
        if parts.is_empty() || rest.contains('}') {
            return Err(format!("{text:?} is no template of a record: write each pointer as {{/name}}"));
        }
        Ok(Self { parts, end: rest.to_owned() })
    }

    /// The pointers, in order.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(_, pointer)| pointer.as_str())
    }

    /// The id, where `value` gives the text at a pointer; `None` as soon as that gives none. A value's own characters are
    /// encoded where the template's text has them too, so that no two records can share an id by accident.
    pub fn fill<E>(&self, value: impl Fn(&str) -> Result<Option<String>, E>) -> Result<Option<String>, E> {
        let ours = |c: char| c == '%' || self.parts.iter().skip(1).any(|(before, _)| before.contains(c));
        let mut id = String::new();
        for (before, pointer) in &self.parts {
            let Some(text) = value(pointer)? else { return Ok(None) };
            id.push_str(before);
            for c in text.chars() {
                if ours(c) {
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        // Writing into a text cannot fail.
                        let _ = write!(id, "%{byte:02X}");
                    }
                } else {
                    id.push(c);
                }
            }
        }
        id.push_str(&self.end);
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

    fn fill(template: &str, values: &[(&str, &str)]) -> Option<String> {
        let value = |pointer: &str| {
            let found = values.iter().find(|(name, _)| *name == pointer);
            Ok::<_, ()>(found.map(|(_, value)| (*value).to_owned()))
        };
        RecordTemplate::parse(template).unwrap().fill(value).unwrap()
    }

    #[test]
    fn an_id_of_two_fields_is_never_that_of_two_others() {
        let id = |a, b| fill("x/{/a}:{/b}", &[("/a", a), ("/b", b)]).unwrap();
        assert_eq!(id("AAPL", "7"), "x/AAPL:7");
        assert_ne!(id("a:b", "c"), id("a", "b:c"));
        assert_ne!(id("a%3A", "c"), id("a:", "c"));
        assert_eq!(fill("{/a}:{/b}", &[("/a", "1")]), None);
    }

    #[test]
    fn a_template_that_could_mix_two_records_up_is_refused() {
        for bad in ["", "id", "{id}", "{/a}{/b}", "{/a", "/a}", "{/a}}"] {
            assert!(RecordTemplate::parse(bad).is_err(), "{bad}");
        }
    }
}
