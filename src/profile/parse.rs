//! Parsing a profile from YAML; every error names the file, the line and what to write instead.
//!
//! Of YAML, what a reader of the file sees is accepted: maps, lists, scalars, and aliases of a whole value. A merge key
//! (`<<`) would add fields that no parser of ours merges: as a field it is unknown, but in a map of names it would be one
//! more parameter, operation or stream, silently. So it is refused by name wherever it stands, and so are tags, which
//! the parser drops or misreads. Duplicate keys, several documents and aliases that expand without end are refused by the
//! parser itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_yaml::Value;

use super::definition::Profile;
use super::error::ProfileError;
use super::invalid_field::InvalidField;
use super::yaml_position::{MERGE_KEY, YamlPath, line_of};

impl Profile {
    /// Parses and validates a profile. `file` is used only in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let syntax = |source| ProfileError::Syntax { file: file.to_owned(), source };
        let content = |invalid: InvalidField| ProfileError::Content {
            file: file.to_owned(),
            line: line_of(text, &invalid.path),
            path: invalid.path.to_string(),
            problem: invalid.problem,
        };
        let value: Value = serde_yaml::from_str(text).map_err(syntax)?;
        check_yaml(&YamlPath::default(), &value).map_err(content)?;
        let mut profile: Self = serde_yaml::from_str(text).map_err(syntax)?;
        collect_paths("", &value, &mut profile.set_fields);
        profile.share_minor_units();
        profile.check().map_err(content)?;
        Ok(profile)
    }

    /// Passes the profile's minor units to the streams with money.
    fn share_minor_units(&mut self) {
        for stream in self.streams.values_mut() {
            // Nothing else refers to a stream that has just been parsed.
            if let Some(money) = Arc::get_mut(stream).and_then(|stream| stream.money.as_mut()) {
                money.minor_units.inherit(&self.minor_units);
            }
        }
    }
}

/// Refuses features of YAML that would be misread. The parser has bounded the depth.
fn check_yaml(path: &YamlPath, value: &Value) -> Result<(), InvalidField> {
    match value {
        Value::Mapping(fields) => {
            for (key, value) in fields {
                let Value::String(name) = key else {
                    return Err(InvalidField::new(path.clone().field(shown(key)), "a key must be a text: quote it"));
                };
                let path = path.clone().field(name);
                if name == MERGE_KEY {
                    let problem =
                        "merge keys are not supported: write the fields out, or use an alias for a whole value";
                    return Err(InvalidField::new(path, problem));
                }
                check_yaml(&path, value)?;
            }
            Ok(())
        }
        Value::Sequence(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| check_yaml(&path.clone().index(index), item))
        }
        Value::Tagged(tagged) => {
            let problem = format!("the YAML tag {} is not supported: remove it", tagged.tag);
            Err(InvalidField::new(path.clone(), problem))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// A key that is not a text, for errors.
fn shown(key: &Value) -> String {
    match key {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        _ => "?".to_owned(),
    }
}

/// Collects the path of every field.
fn collect_paths(parent: &str, value: &Value, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_mapping().into_iter().flatten() {
        let Some(key) = key.as_str() else { continue };
        let path = if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
        collect_paths(&path, value, found);
        found.insert(path);
    }
}
