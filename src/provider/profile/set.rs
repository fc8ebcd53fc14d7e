//! All profiles that the operator knows, by id.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Profile;
use super::builtin::BUILTIN;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not YAML, or not the format's fields.
    #[error("profile {file}: {source}")]
    Syntax {
        /// The file.
        file: String,
        /// Where and why, with line and column.
        source: serde_yaml::Error,
    },
    /// A part that contradicts itself or another.
    #[error("profile {file}, line {line}, {place}: {problem}")]
    Content {
        /// The file.
        file: String,
        /// The line that the part begins on.
        line: usize,
        /// The part, such as `errors[2]`.
        place: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// Two files claim one id.
    #[error("profile {file}: the id {id} is taken by another profile; choose another id")]
    Duplicate {
        /// The later file.
        file: String,
        /// The id.
        id: String,
    },
}

/// All profiles the operator knows.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    by_id: BTreeMap<String, Arc<Profile>>,
}

impl Profiles {
    /// The profiles compiled in. Fails only if one of them is broken, which the build's tests exclude.
    pub fn builtin() -> Result<Self, ProfileError> {
        let mut profiles = Self::default();
        for (file, text) in BUILTIN {
            profiles.add(file, text)?;
        }
        Ok(profiles)
    }

    /// Adds one profile from its text.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), ProfileError> {
        let profile = Profile::parse(file, text)?;
        if self.by_id.contains_key(&profile.id) {
            return Err(ProfileError::Duplicate { file: file.to_owned(), id: profile.id });
        }
        self.by_id.insert(profile.id.clone(), Arc::new(profile));
        Ok(())
    }

    /// The profile called `id`.
    pub fn get(&self, id: &str) -> Option<Arc<Profile>> {
        self.by_id.get(id).cloned()
    }

    /// All ids, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }
}
