//! Parsing a profile from YAML; every error names the file, the line and what to write instead.

use std::collections::BTreeSet;

use super::definition::Profile;
use super::error::ProfileError;
use super::yaml_position::line_of;

impl Profile {
    /// Parses and validates a profile. `file` is used only in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let syntax = |source| ProfileError::Syntax { file: file.to_owned(), source };
        let mut profile: Self = serde_yaml::from_str(text).map_err(syntax)?;
        collect_paths("", &serde_yaml::from_str(text).map_err(syntax)?, &mut profile.set_fields);
        profile.check().map_err(|invalid| ProfileError::Content {
            file: file.to_owned(),
            line: line_of(text, &invalid.path),
            path: invalid.path.to_string(),
            problem: invalid.problem,
        })?;
        Ok(profile)
    }
}

/// Collects the path of every field.
fn collect_paths(parent: &str, value: &serde_yaml::Value, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_mapping().into_iter().flatten() {
        let Some(key) = key.as_str() else { continue };
        let path = if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
        collect_paths(&path, value, found);
        found.insert(path);
    }
}
