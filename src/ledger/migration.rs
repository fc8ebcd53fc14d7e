//! A migration of the schema, and which ones a ledger lacks. Each engine has its own files and keeps its own record.

use sha2::{Digest as _, Sha384};

use super::error::{DriverError, LedgerError};

/// One migration.
#[derive(Copy, Clone, Debug)]
pub(super) struct Migration {
    /// Its version, a timestamp.
    pub(super) version: i64,
    /// What it is about, as in its file name.
    pub(super) description: &'static str,
    /// Its statements.
    pub(super) sql: &'static str,
}

impl Migration {
    pub(super) fn checksum(&self) -> Vec<u8> {
        Sha384::digest(self.sql).to_vec()
    }
}

/// Declares migrations by the names of their files in a folder of `migrations/`.
macro_rules! migrations {
    ($folder:literal: $( $version:literal $description:literal $file:literal ),* $(,)?) => {
        &[$( $crate::ledger::migration::Migration {
            version: $version,
            description: $description,
            sql: include_str!(concat!("../../../migrations/", $folder, "/", $file)),
        } ),*]
    };
}

pub(super) use migrations;

/// Those of `all` that are not recorded; `checksum_of` reads the recorded checksum of a version.
///
/// # Errors
/// If a recorded one is another one than this version's.
pub(super) fn missing(
    all: &'static [Migration],
    mut checksum_of: impl FnMut(i64) -> Result<Option<Vec<u8>>, LedgerError>,
) -> Result<Vec<&'static Migration>, LedgerError> {
    let mut missing = Vec::new();
    for migration in all {
        match checksum_of(migration.version)? {
            Some(applied) if applied == migration.checksum() => {}
            Some(_) => return Err(LedgerError::Migrate(DriverError::migration_changed(migration.version))),
            None => missing.push(migration),
        }
    }
    Ok(missing)
}

/// The version of the newest of these migrations.
pub(super) fn newest(all: &[Migration]) -> Option<i64> {
    all.iter().map(|migration| migration.version).max()
}

/// Checks that every file of the folder is one of these migrations, in order, each once.
#[cfg(test)]
pub(super) fn assert_complete(folder: &str, all: &[Migration]) {
    let folder = format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let listed = all.iter().map(|m| format!("{}_{}.sql", m.version, m.description.replace(' ', "_")));
    assert_eq!(files, listed.collect::<Vec<_>>(), "in order, each once");
    for (file, migration) in files.iter().zip(all) {
        assert_eq!(std::fs::read_to_string(format!("{folder}/{file}")).unwrap(), migration.sql, "{file}");
    }
}
