//! The schema's migrations, compiled in, and their record in the file.
//!
//! The record is the table `_sqlx_migrations`, as the driver of the first versions wrote it: older ledgers open unchanged,
//! and an older version of Busbar recognises what this one applied. An older version runs on a newer schema, because
//! migrations only add, so unknown migrations are not an error.

use rusqlite::params;

use super::codec::OperationName;
use super::connection::{Connection, Mode, Transaction};
use crate::ledger::error::{DriverError, LedgerError};
use crate::ledger::migration::{self, Migration, migrations, newest};

const MIGRATE: OperationName = OperationName("migrating the schema");
const CHECK: OperationName = OperationName("reading the schema version");

/// All migrations, in order. Add new ones at the end; never change one that was released.
pub(super) const MIGRATIONS: &[Migration] = migrations![
    "sqlite":
    20_261_122_010_000 "ledger" "20261122010000_ledger.sql",
    20_261_122_060_000 "probe results" "20261122060000_probe_results.sql",
    20_261_122_061_000 "credentials" "20261122061000_credentials.sql",
    20_261_122_062_000 "gateway" "20261122062000_gateway.sql",
    20_261_122_063_000 "documents" "20261122063000_documents.sql",
    20_261_128_090_000 "dead request owners" "20261128090000_dead_request_owners.sql",
    20_261_129_090_000 "run order" "20261129090000_run_order.sql",
    20_261_129_100_000 "write checks" "20261129100000_write_checks.sql",
    20_261_129_103_000 "quota usage" "20261129103000_quota_usage.sql",
    20_261_129_110_000 "audit limits" "20261129110000_audit_limits.sql",
    20_261_129_160_500 "run failures" "20261129160500_run_failures.sql",
    20_261_129_161_000 "conflicting records" "20261129161000_conflicting_records.sql",
    20_261_129_170_000 "audit batches" "20261129170000_audit_batches.sql",
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

const CREATE_RECORD: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
)";

/// Applies the migrations that are missing, in one transaction: another process that starts at the same time waits.
/// Writes nothing if none is missing, so that an operator starts although its ledger cannot be written.
pub(super) fn run(connection: &Connection) -> Result<(), LedgerError> {
    let complete = connection.transaction(Mode::Read, MIGRATE, |tx| Ok(has_record(tx)? && missing(tx)?.is_empty()));
    if complete.map_err(|error| error.into_error(MIGRATE))? {
        return Ok(());
    }
    let outcome = connection.transaction(Mode::Write, MIGRATE, |tx| {
        tx.execute(CREATE_RECORD, [])?;
        missing(tx)?.into_iter().try_for_each(|migration| apply(tx, migration))
    });
    outcome.map_err(|error| error.into_error(MIGRATE))
}

/// The migrations that are not applied.
fn missing(tx: &Transaction<'_>) -> Result<Vec<&'static Migration>, LedgerError> {
    let incomplete: Option<i64> =
        tx.scalar_opt("SELECT version FROM _sqlx_migrations WHERE NOT success ORDER BY version LIMIT 1", [])?;
    if let Some(version) = incomplete {
        return Err(LedgerError::Migrate(DriverError::migration_incomplete(version)));
    }
    let checksum = "SELECT checksum FROM _sqlx_migrations WHERE version = ?1";
    migration::missing(MIGRATIONS, |version| tx.scalar_opt(checksum, [version]))
}

fn apply(tx: &Transaction<'_>, migration: &Migration) -> Result<(), LedgerError> {
    tx.execute_batch(migration.sql)?;
    tx.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (?1, ?2, TRUE, ?3, 0)",
        params![migration.version, migration.description, migration.checksum()],
    )?;
    Ok(())
}

fn has_record(tx: &Transaction<'_>) -> Result<bool, LedgerError> {
    tx.scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')", [])
}

/// Whether every migration of this version is applied.
pub(super) fn is_current(connection: &Connection) -> Result<bool, LedgerError> {
    let outcome = connection.transaction(Mode::Read, CHECK, |tx| {
        if !has_record(tx)? {
            return Ok(false);
        }
        let applied: Option<i64> = tx.scalar("SELECT max(version) FROM _sqlx_migrations WHERE success", [])?;
        Ok(applied >= newest(MIGRATIONS))
    });
    outcome.map_err(|error| error.into_error(CHECK))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha384};

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_migration() {
        migration::assert_complete("sqlite", MIGRATIONS);
    }

    /// As sqlx 0.9 recorded them: a ledger of an older version of Busbar opens, and that version opens this one's.
    #[test]
    fn checksums_are_those_of_the_first_driver() {
        let first = hex::encode(Sha384::digest(MIGRATIONS[0].sql));
        assert_eq!(
            first,
            "ec2015e55a92af186a650328f46921d8400174b3dad8674bc9e0b08db5da11fe7ae58d5b4831cdbf7ab43915e7207f47"
        );
    }
}
