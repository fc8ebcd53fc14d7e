//! The catalog of profiles: those compiled in and the custom ones of a folder.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builtin::BUILTIN;
use super::definition::Profile;
use super::error::{MAX_FILE_BYTES, MAX_FILES, ProfileError};

/// The prefix of a custom profile's id in `spec.provider`.
pub const CUSTOM_PREFIX: &str = "profile:";

/// All available profiles, by id.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    by_id: BTreeMap<String, Arc<Profile>>,
}

impl Profiles {
    /// The compiled-in profiles. Fails only if one of them is invalid, which the tests rule out.
    pub fn builtin() -> Result<Self, ProfileError> {
        let mut profiles = Self::default();
        for (file, text) in BUILTIN {
            profiles.add(file, text)?;
        }
        Ok(profiles)
    }

    /// Adds a profile from its text.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), ProfileError> {
        let profile = Profile::parse(file, text)?;
        self.insert(file, profile).map(drop)
    }

    /// The compiled-in profiles and the custom ones of `folder`, if set. Read once: a changed file takes effect at the
    /// next start, so that replicas of one version do not use different profiles for long.
    pub fn load(folder: Option<&Path>) -> Result<Self, ProfileError> {
        let mut profiles = Self::builtin()?;
        if let Some(folder) = folder {
            for file in files(folder)? {
                profiles.add_custom(&file)?;
            }
        }
        Ok(profiles)
    }

    /// Adds a custom profile from its file and returns it; its id becomes `profile:<id>`.
    pub fn add_custom(&mut self, path: &Path) -> Result<Arc<Profile>, ProfileError> {
        let file = path.display().to_string();
        let mut profile = Profile::parse(&file, &read(path)?)?;
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let inner = profile.id.bytes().all(|b| alphanumeric(b) || b == b'-');
        let ends = [profile.id.bytes().next(), profile.id.bytes().last()];
        if !inner || profile.id.len() > 63 || !ends.iter().all(|end| end.is_some_and(alphanumeric)) {
            return Err(ProfileError::Name { file, id: profile.id });
        }
        profile.id = format!("{CUSTOM_PREFIX}{}", profile.id);
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

    /// The profile with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Profile>> {
        self.by_id.get(id).cloned()
    }

    /// All ids, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }
}

/// The profile files of a folder, sorted. Hidden files are skipped: a mounted `ConfigMap` stores its versions there.
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
    opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES { Err(ProfileError::TooLarge { file: file() }) } else { Ok(text) }
}
