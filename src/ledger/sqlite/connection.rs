//! A connection to the file, and transactions on it.
//!
//! Every step (BEGIN, each statement, COMMIT, ROLLBACK) goes through [`Connection::step`]: any error makes the
//! connection unfit for further use. SQLite may have answered the error by rolling back, or not, and the owner of the
//! connection does not try to find out: it opens another, which knows only what was committed.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{CachedStatement, OpenFlags, Params, Row};

use super::codec::OperationName;
#[cfg(test)]
use super::faults::Faults;
use super::step::Step;
use crate::ledger::error::LedgerError;

/// Statements that a connection keeps prepared: more than the ledger has.
const STATEMENT_CACHE: usize = 200;

/// Memory for the pages of the file that the writer uses, in KiB: the keys of a stream are in no order, so that a page
/// of a thousand rows touches as many leaves of the index.
const WRITE_CACHE_KIB: u32 = 8 * 1024;
/// Pages of the journal (4 KiB each) after which a COMMIT moves them to the file. A leaf that many commits touch is
/// moved once, and the file is flushed for many commits at a time; the journal itself is flushed by each.
const CHECKPOINT_PAGES: u32 = 4_000;

/// How a connection is opened.
#[derive(Clone, Debug)]
pub(super) struct ConnectOptions {
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
    /// How long a transaction waits for another process (a backup, the CLI) to release the file lock.
    pub(super) busy_timeout: Duration,
    /// Tests make its steps fail.
    #[cfg(test)]
    pub(super) faults: std::sync::Arc<Faults>,
}

/// Whether a missing file is created.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum MissingFile {
    Create,
    Fail,
}

/// The kind of a transaction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// One snapshot for all its reads.
    Read,
    /// Takes the write lock at BEGIN, so that it never fails on a lock upgrade.
    Write,
}

/// Why a transaction did not end with an acknowledged COMMIT.
#[derive(Debug)]
pub(super) enum TransactionError {
    /// Nothing of it is committed.
    Aborted(LedgerError),
    /// COMMIT failed. It may be committed all the same: the connection that answers this cannot tell.
    Commit(rusqlite::Error),
}

impl TransactionError {
    /// As the error of `operation`.
    pub(super) fn into_error(self, operation: OperationName) -> LedgerError {
        match self {
            Self::Aborted(error) => error,
            Self::Commit(source) => operation.failed(source),
        }
    }
}

/// An open connection.
pub(super) struct Connection {
    inner: rusqlite::Connection,
    /// A step has failed.
    failed: Cell<bool>,
    /// The last transaction is committed and changed rows.
    wrote: Cell<bool>,
    /// The last transaction stored events, or made deliveries pending.
    stored_events: Cell<bool>,
    #[cfg(test)]
    faults: std::sync::Arc<Faults>,
}

impl Connection {
    /// Opens the file.
    pub(super) fn open(options: &ConnectOptions, missing: MissingFile) -> Result<Self, rusqlite::Error> {
        let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags |= if options.read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        if missing == MissingFile::Create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let inner = rusqlite::Connection::open_with_flags(&options.path, flags)?;
        inner.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        inner.busy_timeout(options.busy_timeout)?;
        inner.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;")?;
        if !options.read_only {
            inner.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
            inner.execute_batch(&format!(
                "PRAGMA cache_size = -{WRITE_CACHE_KIB}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};"
            ))?;
        }
        Ok(Self {
            inner,
            failed: Cell::new(false),
            wrote: Cell::new(false),
            stored_events: Cell::new(false),
            #[cfg(test)]
            faults: std::sync::Arc::clone(&options.faults),
        })
    }

    /// Sets how long BEGIN waits for the file lock.
    pub(super) fn set_busy_timeout(&self, timeout: Duration) -> Result<(), rusqlite::Error> {
        self.inner.busy_timeout(timeout)
    }

    /// Whether the next transaction can use it: no step has failed, and no transaction is open.
    pub(super) fn is_usable(&self) -> bool {
        !self.failed.get() && self.inner.is_autocommit()
    }

    /// Whether the last transaction is committed and changed rows: one that changed none needed nothing of the disk.
    pub(super) fn has_written(&self) -> bool {
        self.wrote.get()
    }

    /// Whether the last transaction is committed, and there may be something to publish.
    pub(super) fn has_stored_events(&self) -> bool {
        self.wrote.get() && self.stored_events.get()
    }

    /// Runs `work` in a transaction. An error of it rolls the transaction back.
    pub(super) fn transaction<T>(
        &self,
        mode: Mode,
        operation: OperationName,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, TransactionError> {
        let begin = match mode {
            Mode::Read => "BEGIN",
            Mode::Write => "BEGIN IMMEDIATE",
        };
        self.wrote.set(false);
        self.stored_events.set(false);
        let changed_before = self.inner.total_changes();
        self.control(Step::Begin, begin).map_err(|e| TransactionError::Aborted(operation.failed(e)))?;
        match work(&Transaction { connection: self, operation }) {
            Ok(value) => match self.control(Step::Commit, "COMMIT") {
                Ok(()) => {
                    self.wrote.set(self.inner.total_changes() != changed_before);
                    Ok(value)
                }
                Err(error) => Err(TransactionError::Commit(error)),
            },
            Err(error) => {
                // The first error is the one to report. After a failed ROLLBACK the connection is not used again.
                let _ = self.control(Step::Rollback, "ROLLBACK");
                Err(TransactionError::Aborted(error))
            }
        }
    }

    /// Executes statements that return nothing, outside the statement cache.
    pub(super) fn execute_batch(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.step(Step::Statement, || self.inner.execute_batch(sql))
    }

    fn control(&self, step: Step, sql: &str) -> Result<(), rusqlite::Error> {
        self.step(step, || self.inner.prepare_cached(sql)?.execute(()).map(drop))
    }

    /// Runs one step; an error of SQLite makes the connection unfit for further use.
    #[cfg_attr(not(test), expect(unused_variables, reason = "the step is what tests select faults by"))]
    fn step<T>(&self, step: Step, run: impl FnOnce() -> Result<T, rusqlite::Error>) -> Result<T, rusqlite::Error> {
        #[cfg(not(test))]
        let result = run();
        #[cfg(test)]
        let result = self.faults.around(step, run, || self.inner.execute_batch("ROLLBACK"));
        if result.is_err() {
            self.failed.set(true);
        }
        result
    }
}

/// An open transaction of an operation; errors name the operation.
pub(super) struct Transaction<'c> {
    connection: &'c Connection,
    operation: OperationName,
}

impl Transaction<'_> {
    /// Notes that there is something to publish once the transaction is committed.
    pub(super) fn note_events(&self) {
        self.connection.stored_events.set(true);
    }

    /// Executes a statement that returns no rows; returns the number of rows that it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<u64, LedgerError> {
        let changed = self.step(|| self.connection.inner.prepare_cached(sql)?.execute(params))?;
        Ok(changed as u64)
    }

    /// Executes a batch of statements without parameters.
    pub(super) fn execute_batch(&self, sql: &str) -> Result<(), LedgerError> {
        self.connection.execute_batch(sql).map_err(|e| self.operation.failed(e))
    }

    /// Prepares a statement that is executed many times.
    pub(super) fn prepare(&self, sql: &str) -> Result<Statement<'_>, LedgerError> {
        let inner = self.connection.inner.prepare_cached(sql).map_err(|e| {
            self.connection.failed.set(true);
            self.operation.failed(e)
        })?;
        Ok(Statement { transaction: self, inner })
    }

    /// The first row, decoded; `None` if there is none.
    pub(super) fn query_opt<T>(
        &self,
        sql: &str,
        params: impl Params,
        decode: impl FnOnce(&Row<'_>) -> Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        self.prepare(sql)?.query_opt(params, decode)
    }

    /// All rows, decoded.
    pub(super) fn query_all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut decode: impl FnMut(&Row<'_>) -> Result<T, LedgerError>,
    ) -> Result<Vec<T>, LedgerError> {
        let mut statement = self.prepare(sql)?;
        // Decoded outside the step: a value that cannot be decoded is no fault of the connection.
        self.step(|| {
            let mut rows = statement.inner.query(params)?;
            let mut decoded = Vec::new();
            while let Some(row) = rows.next()? {
                match decode(row) {
                    Ok(value) => decoded.push(value),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(decoded))
        })?
    }

    /// The first column of the first row; `None` if there is no row.
    pub(super) fn scalar_opt<T: FromSql>(&self, sql: &str, params: impl Params) -> Result<Option<T>, LedgerError> {
        self.query_opt(sql, params, |row| row.get(0).map_err(|_| LedgerError::Corrupt { column: "(computed)" }))
    }

    /// The first column of the only row.
    pub(super) fn scalar<T: FromSql>(&self, sql: &str, params: impl Params) -> Result<T, LedgerError> {
        let value = self.scalar_opt(sql, params)?;
        value.ok_or_else(|| self.operation.failed(rusqlite::Error::QueryReturnedNoRows))
    }

    fn step<T>(&self, run: impl FnOnce() -> Result<T, rusqlite::Error>) -> Result<T, LedgerError> {
        self.connection.step(Step::Statement, run).map_err(|e| self.operation.failed(e))
    }
}

/// A prepared statement of a transaction.
pub(super) struct Statement<'t> {
    transaction: &'t Transaction<'t>,
    inner: CachedStatement<'t>,
}

impl Statement<'_> {
    /// The first row, decoded; `None` if there is none. What the statement changes is changed by then.
    pub(super) fn query_opt<T>(
        &mut self,
        params: impl Params,
        decode: impl FnOnce(&Row<'_>) -> Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        let inner = &mut self.inner;
        self.transaction.step(|| Ok(inner.query(params)?.next()?.map(decode)))?.transpose()
    }

    /// Sets a parameter for the following executions, until it is set anew.
    pub(super) fn bind(&mut self, place: usize, value: impl ToSql) -> Result<(), LedgerError> {
        self.inner.raw_bind_parameter(place, value).map_err(|error| {
            self.transaction.connection.failed.set(true);
            self.transaction.operation.failed(error)
        })
    }

    /// Executes it with the parameters that are set; returns the number of rows that it changed.
    pub(super) fn execute_bound(&mut self) -> Result<u64, LedgerError> {
        let inner = &mut self.inner;
        self.transaction.step(|| inner.raw_execute()).map(|changed| changed as u64)
    }

    /// The first row for the parameters that are set, decoded; `None` if there is none.
    pub(super) fn query_bound<T>(
        &mut self,
        decode: impl FnOnce(&Row<'_>) -> Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        let inner = &mut self.inner;
        self.transaction.step(|| Ok(inner.raw_query().next()?.map(decode)))?.transpose()
    }
}
