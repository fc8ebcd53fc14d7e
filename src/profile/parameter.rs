//! Parameters that a caller may set in a request, with their bounds.
//!
//! A value is validated before it is used, and the error names the parameter and the rule, never the value. There are
//! kinds instead of patterns, because a kind can be described in an error, in OpenAPI and in the reference.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;

/// Longest value where the profile sets no other limit, in characters.
pub const MAX_VALUE_LENGTH: usize = 256;

/// One parameter of an operation, a stream or an endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Parameter {
    /// The purpose, in a sentence.
    pub summary: String,
    /// The type of its values.
    pub kind: ParameterKind,
    /// Whether a call must set it.
    pub required: bool,
    /// The value where a call sets none.
    pub default: Option<String>,
    /// The allowed values, compared exactly; empty: all of the kind.
    #[serde(rename = "enum")]
    pub values: Vec<String>,
    /// The least value of an integer.
    pub min: Option<i64>,
    /// The greatest value of an integer.
    pub max: Option<i64>,
    /// The maximum length in characters; unset: 256.
    pub max_length: Option<usize>,
    /// Whether traces may show its values: a ticker, but not an account.
    pub public: bool,
}

/// The type of a parameter's values.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ParameterKind {
    /// Any text without control characters.
    #[default]
    Text,
    /// Letters, digits and `. _ - : ^ = ~`: tickers, series, ids.
    Word,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A day, `2026-01-31`.
    Date,
    /// An instant, `2026-01-31T12:00:00Z`.
    Instant,
    /// A path of several segments, `v1/rows`; none of them empty, `.` or `..`.
    Path,
    /// A JSON pointer: empty, or `/` before each name.
    Pointer,
}

impl ParameterKind {
    /// What a value must be, for error messages and the reference.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Text => "a text without control characters",
            Self::Word => "made of letters, digits and . _ - : ^ = ~",
            Self::Integer => "a whole number",
            Self::Boolean => "true or false",
            Self::Date => "a day such as 2026-01-31",
            Self::Instant => "an instant such as 2026-01-31T12:00:00Z",
            Self::Path => "a path such as v1/rows, without empty, . or .. segments",
            Self::Pointer => "a JSON pointer: empty, or / before each name",
        }
    }

    fn is_valid(self, value: &str) -> bool {
        let plain = !value.chars().any(char::is_control);
        match self {
            Self::Text => plain && !value.is_empty(),
            Self::Word => {
                !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:^=~".contains(&b))
            }
            Self::Integer => value.parse::<i64>().is_ok_and(|number| number.to_string() == value),
            Self::Boolean => matches!(value, "true" | "false"),
            Self::Date => value.len() == 10 && value.parse::<Date>().is_ok(),
            Self::Instant => value.parse::<Timestamp>().is_ok(),
            Self::Path => {
                plain && value.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\\'))
            }
            Self::Pointer => plain && (value.is_empty() || value.starts_with('/')),
        }
    }
}

/// A parameter that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the parameter {field} {problem}")]
pub struct ParameterError {
    /// The parameter's name.
    pub field: String,
    /// What is wrong; completes "the parameter …". Never contains the value.
    pub problem: String,
}

impl ParameterError {
    pub(super) fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }
}

impl Parameter {
    /// Checks a value.
    pub fn validate(&self, name: &str, value: &str) -> Result<(), ParameterError> {
        let refuse = |problem: String| Err(ParameterError::new(name, problem));
        let most = self.max_length.unwrap_or(MAX_VALUE_LENGTH);
        if value.chars().count() > most {
            return refuse(format!("must have at most {most} characters"));
        }
        if !self.values.is_empty() && !self.values.iter().any(|allowed| allowed == value) {
            return refuse(format!("must be one of {}", self.values.join(", ")));
        }
        if !self.kind.is_valid(value) {
            return refuse(format!("must be {}", self.kind.rule()));
        }
        let number = value.parse::<i64>().ok();
        let low = matches!((self.min, number), (Some(min), Some(number)) if number < min);
        let high = matches!((self.max, number), (Some(max), Some(number)) if number > max);
        if self.kind == ParameterKind::Integer && (low || high) {
            return refuse(match (self.min, self.max) {
                (Some(min), Some(max)) => format!("must be between {min} and {max}"),
                (Some(min), None) => format!("must be at least {min}"),
                (_, max) => format!("must be at most {}", max.unwrap_or_default()),
            });
        }
        Ok(())
    }

    /// Checks what serde cannot.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        if (self.min.is_some() || self.max.is_some()) && self.kind != ParameterKind::Integer {
            return Err("min and max need kind: integer".to_owned());
        }
        if matches!((self.min, self.max), (Some(min), Some(max)) if min > max) {
            return Err("min must not be above max".to_owned());
        }
        if self.required && self.default.is_some() {
            return Err("a required parameter cannot have a default: remove one of the two".to_owned());
        }
        match &self.default {
            Some(default) => self.validate(name, default).map_err(|error| format!("default: {error}")),
            None => Ok(()),
        }
    }
}

/// The effective values: those given, validated, and the defaults of the others.
pub(super) fn effective_values(
    rules: &BTreeMap<String, Parameter>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ParameterError> {
    if let Some(name) = given.keys().find(|name| !rules.contains_key(*name)) {
        let known = rules.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none is supported".to_owned() } else { format!("supported: {known}") };
        return Err(ParameterError::new(name, format!("is unknown; {known}")));
    }
    let mut values = BTreeMap::new();
    for (name, rule) in rules {
        match given.get(name).or(rule.default.as_ref()) {
            Some(value) => {
                rule.validate(name, value)?;
                values.insert(name.clone(), value.clone());
            }
            None if rule.required => return Err(ParameterError::new(name, "is required")),
            None => {}
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(yaml: &str) -> Parameter {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn each_kind_accepts_only_its_values() {
        for (kind, good, bad) in [
            ("text", &["a b", "é"][..], &["", "a\nb"][..]),
            ("word", &["BRK.B", "^GSPC", "O:SPY251219C00650000", "EURUSD=X"], &["", "a b", "a/b", "a?b", "a%2e"]),
            ("integer", &["0", "-3", "100"], &["", "1.0", "01", "+1", "99999999999999999999", "1e2"]),
            ("boolean", &["true", "false"], &["yes", ""]),
            ("date", &["2026-01-31"], &["2026-02-30", "31-01-2026", "2026-01-31T00:00:00Z"]),
            ("instant", &["2026-01-31T12:00:00Z", "2026-01-31T12:00:00+02:00"], &["2026-01-31", "now"]),
            ("path", &["v1/rows", "rows"], &["", "/rows", "a//b", "../a", "a/..", "a\\..\\b"]),
            ("pointer", &["", "/data/0"], &["data"]),
        ] {
            let rule = rule(&format!("{{kind: {kind}}}"));
            for value in good {
                assert_eq!(rule.validate("x", value), Ok(()), "{kind} {value:?}");
            }
            for value in bad {
                let error = rule.validate("x", value).unwrap_err();
                assert_eq!(error.problem, format!("must be {}", rule.kind.rule()), "{kind} {value:?}");
            }
        }
    }

    #[test]
    fn errors_name_the_bounds_and_not_the_value() {
        let top = rule("{kind: integer, min: 1, max: 100}");
        for bad in ["0", "101", "-1"] {
            let error = top.validate("top", bad).unwrap_err().to_string();
            assert_eq!(error, "the parameter top must be between 1 and 100");
        }
        assert_eq!(top.validate("top", "100"), Ok(()));
        let sort = rule("{enum: [asc, desc]}");
        assert_eq!(sort.validate("sort", "up").unwrap_err().problem, "must be one of asc, desc");
        assert_eq!(rule("{maxLength: 2}").validate("x", "abc").unwrap_err().problem, "must have at most 2 characters");
    }

    #[test]
    fn unknown_missing_and_default_parameters_are_distinguished() {
        let rules: BTreeMap<String, Parameter> =
            serde_yaml::from_str("{symbol: {required: true}, limit: {kind: integer, default: '5'}, page: {}}").unwrap();
        let given = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(effective_values(&rules, &given(&[])).unwrap_err().to_string(), "the parameter symbol is required");
        let unknown = effective_values(&rules, &given(&[("symbol", "A"), ("apikey", "x")])).unwrap_err().to_string();
        assert_eq!(unknown, "the parameter apikey is unknown; supported: limit, page, symbol");
        let values = effective_values(&rules, &given(&[("symbol", "A")])).unwrap();
        assert_eq!(values, given(&[("symbol", "A"), ("limit", "5")]));
    }

    #[test]
    fn a_contradictory_rule_is_rejected() {
        for bad in
            ["{min: 1}", "{kind: integer, min: 2, max: 1}", "{required: true, default: a}", "{enum: [a], default: b}"]
        {
            assert!(rule(bad).check("x").is_err(), "{bad}");
        }
    }
}
