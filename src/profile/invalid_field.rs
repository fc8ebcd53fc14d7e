//! An invalid field of a profile: where it is, what is wrong, and what to write instead.

use super::yaml_position::YamlPath;

/// A field of a profile that cannot be used.
pub(super) struct InvalidField {
    /// The field, relative to the part that was checked.
    pub(super) path: YamlPath,
    /// What is wrong and what to write instead.
    pub(super) problem: String,
}

impl InvalidField {
    pub(super) fn new(path: impl Into<YamlPath>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// The same error, seen from the part that holds `parent`.
    pub(super) fn within(self, parent: impl Into<YamlPath>) -> Self {
        Self { path: parent.into().join(self.path), problem: self.problem }
    }
}
