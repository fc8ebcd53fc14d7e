//! Paths and values with placeholders: `/accounts/{accountId}/transactions`, or `/{+path}` for several segments.
//!
//! A value is percent-encoded before it is inserted into a path, and a value that would change the path's structure
//! (empty, `.` or `..`) is rejected: a parameter of a custom resource must never select another endpoint.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// Everything but RFC 3986's unreserved characters is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text with `{placeholders}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Parameter(String),
    /// `{+name}`: several segments of a path.
    Segments(String),
}

/// A template that cannot be parsed or expanded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TemplateError {
    /// Braces that do not pair, or an empty name.
    #[error("{text:?} is not a valid template: write each placeholder as {{name}}")]
    Malformed {
        /// The template.
        text: String,
    },
    /// A placeholder without a value.
    #[error("the parameter {name} is missing")]
    Missing {
        /// The parameter.
        name: String,
    },
    /// A value that would change the structure of a path.
    #[error("the parameter {name} must not be empty, `.` or `..`")]
    Unsafe {
        /// The parameter.
        name: String,
    },
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let malformed = || TemplateError::Malformed { text: text.to_owned() };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(open);
            let Some(from) = from.strip_prefix('{') else { return Err(malformed()) };
            let Some((name, after)) = from.split_once('}') else { return Err(malformed()) };
            let (name, segments) = name.strip_prefix('+').map_or((name, false), |name| (name, true));
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(malformed());
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let name = name.to_owned();
            parts.push(if segments { Part::Segments(name) } else { Part::Parameter(name) });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its placeholders, in order of appearance.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Parameter(name) | Part::Segments(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The placeholder, if the template is exactly one placeholder.
    pub fn only_parameter(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Parameter(name)] => Some(name),
            _ => None,
        }
    }

    /// Expands a path: each value becomes (part of) one segment, that of `{+name}` several.
    pub fn path(&self, parameters: &BTreeMap<String, String>) -> Result<String, TemplateError> {
        self.expand(parameters, |name, value, segments| {
            let encode = |segment: &str| match segment {
                "" | "." | ".." => Err(TemplateError::Unsafe { name: name.to_owned() }),
                plain => Ok(utf8_percent_encode(plain, SEGMENT).to_string()),
            };
            if !segments {
                return encode(value);
            }
            let parts = value.split('/').map(encode).collect::<Result<Vec<_>, _>>()?;
            Ok(parts.join("/"))
        })
    }

    /// Expands a plain value, such as that of a query parameter, which is encoded when the URL is built.
    pub fn value(&self, parameters: &BTreeMap<String, String>) -> Result<String, TemplateError> {
        self.expand(parameters, |_, value, _| Ok(value.to_owned()))
    }

    fn expand(
        &self,
        parameters: &BTreeMap<String, String>,
        encode: impl Fn(&str, &str, bool) -> Result<String, TemplateError>,
    ) -> Result<String, TemplateError> {
        let mut expanded = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => expanded.push_str(text),
                Part::Parameter(name) | Part::Segments(name) => match parameters.get(name) {
                    Some(value) => expanded.push_str(&encode(name, value, matches!(part, Part::Segments(_)))?),
                    None => return Err(TemplateError::Missing { name: name.clone() }),
                },
            }
        }
        Ok(expanded)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl JsonSchema for Template {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_value_is_encoded_into_one_segment() {
        let path = Template::parse("/accounts/{accountId}/transactions").unwrap();
        assert_eq!(path.parameters().collect::<Vec<_>>(), ["accountId"]);
        let expanded = path.path(&parameters(&[("accountId", "a/b?c=1#d")])).unwrap();
        assert_eq!(expanded, "/accounts/a%2Fb%3Fc%3D1%23d/transactions");
    }

    #[test]
    fn a_value_cannot_change_the_path_structure() {
        let path = Template::parse("/accounts/{id}").unwrap();
        for bad in ["", ".", ".."] {
            assert_eq!(path.path(&parameters(&[("id", bad)])), Err(TemplateError::Unsafe { name: "id".into() }));
        }
    }

    #[test]
    fn segments_are_encoded_one_by_one() {
        let path = Template::parse("/v1/{+path}").unwrap();
        assert_eq!(path.parameters().collect::<Vec<_>>(), ["path"]);
        assert_eq!(path.path(&parameters(&[("path", "a/b c?d")])).unwrap(), "/v1/a/b%20c%3Fd");
        for bad in ["", "/a", "a//b", "a/../b", "."] {
            assert!(path.path(&parameters(&[("path", bad)])).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_parameter_is_named() {
        let path = Template::parse("/{tenant}/x").unwrap();
        assert_eq!(path.path(&BTreeMap::new()), Err(TemplateError::Missing { name: "tenant".into() }));
    }

    #[test]
    fn unpaired_braces_are_rejected() {
        for bad in ["/{a", "/a}", "/{}", "/{a b}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
