//! HTTP statuses as configuration names them: one status, or a class of a hundred.

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// A status (`503`) or a class of statuses (`5xx`).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StatusPattern {
    /// A class, by its first digit: `Class(5)` is 500 to 599.
    Class(u16),
    /// One status.
    Exact(u16),
}

/// A text that is neither a status nor a class of statuses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not an HTTP status: write 100 to 599, or a class such as 5xx")]
pub struct InvalidStatus(String);

impl StatusPattern {
    /// Whether the pattern matches `status`.
    pub const fn matches(self, status: u16) -> bool {
        match self {
            Self::Class(hundred) => status / 100 == hundred,
            Self::Exact(exact) => status == exact,
        }
    }
}

impl FromStr for StatusPattern {
    type Err = InvalidStatus;
    fn from_str(text: &str) -> Result<Self, InvalidStatus> {
        let invalid = || InvalidStatus(text.to_owned());
        let (pattern, hundred) = if let Some(class) = text.strip_suffix("xx") {
            let hundred = class.parse().map_err(|_| invalid())?;
            (Self::Class(hundred), hundred)
        } else {
            let status: u16 = text.parse().map_err(|_| invalid())?;
            (Self::Exact(status), status / 100)
        };
        if (1..=5).contains(&hundred) { Ok(pattern) } else { Err(invalid()) }
    }
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// YAML reads `200` as a number and `2xx` as text.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u16),
            Text(String),
        }
        let text = match Raw::deserialize(deserializer)? {
            Raw::Number(number) => number.to_string(),
            Raw::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for StatusPattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "integer", "minimum": 100, "maximum": 599},
            {"type": "string", "pattern": "^[1-5](xx|[0-9]{2})$"}
        ]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_patterns_parse_and_invalid_ones_are_rejected() {
        assert_eq!("5xx".parse(), Ok(StatusPattern::Class(5)));
        assert_eq!("404".parse(), Ok(StatusPattern::Exact(404)));
        for bad in ["6xx", "0xx", "99", "600", "x", "5XX", ""] {
            assert!(bad.parse::<StatusPattern>().is_err(), "{bad}");
        }
    }
}
