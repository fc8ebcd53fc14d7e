//! The schema's migrations, compiled in, and their record in the database.
//!
//! Plain SQL, all missing ones in one transaction under a lock, so that of several replicas that start at once one
//! migrates and the others wait. An older version runs on a newer schema, because migrations only add, so unknown
//! migrations are not an error.

use sha2::{Digest as _, Sha384};
use sqlx::postgres::PgRow;

use super::codec::get;
use super::failure::OperationName;
use super::server::Server;
use super::transaction::{Transaction, lock, read_tx, write_tx};
use crate::ledger::error::{DriverError, LedgerError};

const MIGRATE: OperationName = OperationName("migrating the schema");
const CHECK: OperationName = OperationName("reading the schema version");

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
    fn checksum(&self) -> Vec<u8> {
        Sha384::digest(self.sql).to_vec()
    }
}

/// Declares migrations by the names of their files.
macro_rules! migrations {
    ($( $version:literal $description:literal $file:literal ),* $(,)?) => {
        &[$( Migration {
            version: $version,
            description: $description,
            sql: include_str!(concat!("../../../migrations/postgres/", $file)),
        } ),*]
    };
}

/// All migrations, in order. Add new ones at the end; never change one that was released.
pub(super) const MIGRATIONS: &[Migration] = migrations![
    20_261_129_190_000 "ledger" "20261129190000_ledger.sql",
    20_261_129_200_000 "records" "20261129200000_records.sql",
    20_261_129_200_500 "sync state earliest" "20261129200500_sync_state_earliest.sql",
    20_261_129_201_000 "raw and events" "20261129201000_raw_and_events.sql",
    20_261_129_202_000 "ledger epoch" "20261129202000_ledger_epoch.sql",
    20_261_129_203_000 "partition runs" "20261129203000_partition_runs.sql",
];

const CREATE_RECORD: &str = "CREATE TABLE IF NOT EXISTS _busbar_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    checksum BYTEA NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)";

/// Applies the migrations that are missing. Writes nothing if none is missing, so that an operator starts although its
/// ledger cannot be written.
pub(super) async fn run(server: &Server) -> Result<(), LedgerError> {
    let is_complete = read_tx!(server, CHECK, |tx| is_complete(tx).await)?;
    if is_complete {
        return Ok(());
    }
    write_tx!(server, MIGRATE, |tx| apply_missing(tx).await)
}

async fn is_complete(tx: &mut Transaction) -> Result<bool, LedgerError> {
    Ok(has_record(tx).await? && missing(tx).await?.is_empty())
}

async fn apply_missing(tx: &mut Transaction) -> Result<(), LedgerError> {
    lock(tx, "migrations").await?;
    tx.execute_raw(CREATE_RECORD).await?;
    for migration in missing(tx).await? {
        tx.execute_raw(migration.sql).await?;
        let record = sqlx::query("INSERT INTO _busbar_migrations (version, description, checksum) VALUES ($1, $2, $3)");
        tx.execute(record.bind(migration.version).bind(migration.description).bind(migration.checksum())).await?;
    }
    Ok(())
}

/// The migrations that are not applied.
async fn missing(tx: &mut Transaction) -> Result<Vec<&'static Migration>, LedgerError> {
    let recorded = tx.fetch_all(sqlx::query("SELECT version, checksum FROM _busbar_migrations")).await?;
    let checksum_of = |version: i64| -> Result<Option<Vec<u8>>, LedgerError> {
        let is_it = |row: &&PgRow| get::<i64>(row, "version").is_ok_and(|found| found == version);
        recorded.iter().find(is_it).map(|row| get(row, "checksum")).transpose()
    };
    let mut missing = Vec::new();
    for migration in MIGRATIONS {
        match checksum_of(migration.version)? {
            Some(applied) if applied == migration.checksum() => {}
            Some(_) => return Err(LedgerError::Migrate(DriverError::migration_changed(migration.version))),
            None => missing.push(migration),
        }
    }
    Ok(missing)
}

async fn has_record(tx: &mut Transaction) -> Result<bool, LedgerError> {
    tx.scalar(sqlx::query("SELECT to_regclass('_busbar_migrations') IS NOT NULL")).await
}

/// Whether every migration of this version is applied.
pub(super) async fn is_current(server: &Server) -> Result<bool, LedgerError> {
    read_tx!(server, CHECK, |tx| newest_is_applied(tx).await)
}

async fn newest_is_applied(tx: &mut Transaction) -> Result<bool, LedgerError> {
    if !has_record(tx).await? {
        return Ok(false);
    }
    let newest: Option<i64> = tx.scalar(sqlx::query("SELECT max(version) FROM _busbar_migrations")).await?;
    Ok(newest >= MIGRATIONS.iter().map(|migration| migration.version).max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_migration() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let listed = MIGRATIONS.iter().map(|m| format!("{}_{}.sql", m.version, m.description.replace(' ', "_")));
        assert_eq!(files, listed.collect::<Vec<_>>(), "in order, each once");
        for (file, migration) in files.iter().zip(MIGRATIONS) {
            assert_eq!(std::fs::read_to_string(format!("{folder}/{file}")).unwrap(), migration.sql, "{file}");
        }
    }
}
