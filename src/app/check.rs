//! `busbar check …`: what would be refused later, said now.

use std::path::PathBuf;

use super::AppError;
use crate::provider::profile::{Profile, Profiles};

/// Reads each file as the operator would, and prints what it is or what is wrong with it.
#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
pub(super) fn profiles(files: &[PathBuf]) -> Result<(), AppError> {
    let mut profiles = Profiles::builtin()?;
    let mut unusable = 0;
    for file in files {
        match profiles.add_own(file) {
            Ok(profile) => {
                println!("{}: {}", file.display(), summary(&profile));
                for note in notes(&profile) {
                    println!("{}: note: {note}", file.display());
                }
            }
            Err(error) => {
                unusable += 1;
                println!("{error}");
            }
        }
    }
    if unusable > 0 { Err(AppError::ProfilesUnusable(unusable)) } else { Ok(()) }
}

/// What is right, and of no use yet.
fn notes(profile: &Profile) -> Vec<String> {
    let streams = profile.streams.iter().map(|(name, stream)| (name, stream.not_run_yet().join(", ")));
    let later = streams.filter(|(_, features)| !features.is_empty());
    let note = |(name, features)| {
        format!(
            "this version cannot sync the stream {name}: {features}; a SyncJob of it will be Stalled, NotImplemented"
        )
    };
    later.map(note).collect()
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
