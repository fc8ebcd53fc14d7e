//! Why a profile, or a folder of profiles, cannot be used.

/// Largest profile file, in bytes: enough for a hundred operations.
pub const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Most custom profiles of one folder; each stays in memory.
pub const MAX_FILES: usize = 64;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not YAML, or an unknown or missing field.
    #[error("profile {file}: {source}; see docs/reference/profiles.md for the format")]
    Syntax {
        /// The file.
        file: String,
        /// Where and why, with line and column.
        source: serde_yaml::Error,
    },
    /// A field that is invalid by itself or together with another.
    #[error("profile {file}, line {line}, {path}: {problem}")]
    Content {
        /// The file.
        file: String,
        /// The line on which the field begins.
        line: usize,
        /// The field, such as `errors[2]`.
        path: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// An id that no connection could refer to.
    #[error(
        "profile {file}: the id {id:?} is not a valid name: use at most 63 lower-case letters, digits and -, with a \
         letter or digit at both ends"
    )]
    Name {
        /// The file.
        file: String,
        /// The id.
        id: String,
    },
    /// A file that is too large to be a profile.
    #[error("profile {file}: larger than {MAX_FILE_BYTES} bytes; split it into several profiles")]
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
        /// The file or folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Two files with one id.
    #[error("profile {file}: the id {id} is used by another profile; choose another id")]
    Duplicate {
        /// The later file.
        file: String,
        /// The id.
        id: String,
    },
}
