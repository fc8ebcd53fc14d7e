//! All profiles that the operator knows, by id.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Profile;
use super::builtin::BUILTIN;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not YAML, or not the format's fields.
    #[error("profile {file}: {source}; docs/reference/profiles.md tells the format")]
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
    /// A name that no connection could use.
    #[error("profile {file}: the id {id:?} is no name: write lower-case letters, digits and -, at most 63")]
    Name {
        /// The file.
        file: String,
        /// The id.
        id: String,
    },
    /// A file that is too large to be a profile.
    #[error("profile {file}: larger than {MAX_FILE} bytes; split it into several profiles")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// A folder with too many files.
    #[error("{folder} holds more than {MAX_FILES} profiles; remove those that no connection uses")]
    TooMany {
        /// The folder.
        folder: String,
    },
    /// A file or folder that cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
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

/// The word before the name of a user's own profile in `spec.provider`.
pub const OWN: &str = "profile:";

/// A profile of this size would describe a hundred operations; what is larger is something else.
pub const MAX_FILE: u64 = 256 * 1024;

/// Users' own profiles that are read; each is kept in memory for good.
pub const MAX_FILES: usize = 64;

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
        self.insert(file, profile).map(drop)
    }

    /// Those compiled in, and the users' own of `folder`, if there is one. Read once: another file counts from the next
    /// start on, so that two replicas with one version never disagree for long about what a provider looks like.
    pub fn load(folder: Option<&Path>) -> Result<Self, ProfileError> {
        let mut profiles = Self::builtin()?;
        if let Some(folder) = folder {
            for file in files(folder)? {
                profiles.add_own(&file)?;
            }
        }
        Ok(profiles)
    }

    /// Adds a user's own profile from its file and returns it; its id becomes `profile:<id>`.
    pub fn add_own(&mut self, path: &Path) -> Result<Arc<Profile>, ProfileError> {
        let file = path.display().to_string();
        let mut profile = Profile::parse(&file, &read(path)?)?;
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let inner = profile.id.bytes().all(|b| letters(b) || b == b'-');
        let ends = [profile.id.bytes().next(), profile.id.bytes().last()];
        if !inner || profile.id.len() > 63 || !ends.iter().all(|end| end.is_some_and(letters)) {
            return Err(ProfileError::Name { file, id: profile.id });
        }
        profile.id = format!("{OWN}{}", profile.id);
        self.insert(&file, profile)
    }

    fn insert(&mut self, file: &str, profile: Profile) -> Result<Arc<Profile>, ProfileError> {
        if self.by_id.contains_key(&profile.id) {
            return Err(ProfileError::Duplicate { file: file.to_owned(), id: profile.id });
        }
        let profile = Arc::new(profile);
        self.by_id.insert(profile.id.clone(), Arc::clone(&profile));
        Ok(profile)
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

/// The profiles of a folder by name. Hidden files are not profiles: a mounted `ConfigMap` keeps its versions in them.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ProfileError> {
    let failed = |source| ProfileError::Read { path: folder.display().to_string(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let yaml = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
        if yaml && !hidden {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(ProfileError::TooMany { folder: folder.display().to_string() });
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, ProfileError> {
    let file = || path.display().to_string();
    let failed = |source| ProfileError::Read { path: file(), source };
    let mut text = String::new();
    let opened = std::fs::File::open(path).map_err(failed)?;
    opened.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE { Err(ProfileError::TooLarge { file: file() }) } else { Ok(text) }
}
