//! The schema's migrations, compiled in, and their record in the database.
//!
//! Plain SQL, all missing ones in one transaction under a lock, so that of several replicas that start at once one
//! migrates and the others wait. An older version runs on a newer schema, because migrations only add, so unknown
//! migrations are not an error.

use sqlx::postgres::PgRow;

use super::codec::get;
use super::failure::OperationName;
use super::server::Server;
use super::transaction::{Transaction, lock, read_tx, write_tx};
use crate::ledger::error::LedgerError;
use crate::ledger::migration::{self, Migration, migrations, newest};

const MIGRATE: OperationName = OperationName("migrating the schema");
const CHECK: OperationName = OperationName("reading the schema version");

/// All migrations, in order. Add new ones at the end; never change one that was released.
pub(super) const MIGRATIONS: &[Migration] = migrations![
    "postgres":
    20_261_129_190_000 "ledger" "20261129190000_ledger.sql",
    20_261_129_200_000 "records" "20261129200000_records.sql",
    20_261_129_200_500 "sync state earliest" "20261129200500_sync_state_earliest.sql",
    20_261_129_201_000 "raw and events" "20261129201000_raw_and_events.sql",
    20_261_129_202_000 "ledger epoch" "20261129202000_ledger_epoch.sql",
    20_261_129_203_000 "partition runs" "20261129203000_partition_runs.sql",
    20_261_129_210_000 "decisions" "20261129210000_decisions.sql",
    20_261_129_211_000 "withdrawn records" "20261129211000_withdrawn_records.sql",
    20_261_129_220_000 "payouts" "20261129220000_payouts.sql",
    20_261_129_221_000 "delivery" "20261129221000_delivery.sql",
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
    migration::missing(MIGRATIONS, checksum_of)
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
    let applied: Option<i64> = tx.scalar(sqlx::query("SELECT max(version) FROM _busbar_migrations")).await?;
    Ok(applied >= newest(MIGRATIONS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_migration() {
        migration::assert_complete("postgres", MIGRATIONS);
    }
}
