//! `busbar check profile`: validates profiles before they are used.

use std::path::PathBuf;

use crate::app::error::AppError;
use crate::app::output::print_line;
use crate::profile::{Profile, Profiles};

/// Loads each file as the operator would, and prints a summary or the error.
pub(super) fn profiles(files: &[PathBuf]) -> Result<(), AppError> {
    let mut profiles = Profiles::builtin()?;
    let mut unusable = 0;
    for file in files {
        match profiles.add_custom(file) {
            Ok(profile) => {
                print_line(&format!("{}: {}", file.display(), summary(&profile)))?;
            }
            Err(error) => {
                unusable += 1;
                print_line(&error.to_string())?;
            }
        }
    }
    if unusable > 0 { Err(AppError::ProfilesUnusable(unusable)) } else { Ok(()) }
}

fn summary(profile: &Profile) -> String {
    let count = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    format!(
        "usable as `provider: {}` with {}, {}, {}, {}",
        profile.id,
        count(profile.operations.len(), "operation"),
        count(profile.streams.len(), "stream"),
        count(profile.errors.len(), "error matcher"),
        count(profile.limits.len(), "limit"),
    )
}
