//! Transactions: begun on a connection of the pool, repeated where the server asks for it, and the outcome of their
//! COMMIT.
//!
//! A connection on which anything failed is closed, never used again. A transaction is repeated, on another connection,
//! if the server undid it because of another one, or if the connection turned out to be an old one that the server has
//! closed meanwhile. Never after COMMIT was sent: its outcome is then unknown, and the caller finds it out or reports
//! it.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Decode, PgConnection, Postgres, Row as _, Type};

use super::failure::{OperationName, failure, timed_out};
use super::pool::Checkout;
use super::server::Server;
use crate::ledger::error::{LedgerError, ServerFailure};

/// How often a transaction is begun at most.
const MAX_ATTEMPTS: u32 = 6;
/// Pause before the second attempt; grows with each.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// How long a statement may take by this process's clock. Longer than the server's own limit, which ends it cleanly;
/// this one ends the wait for a server that is gone without a word.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// The same for BEGIN, which waits for nothing: a connection whose other end vanished is found out soon.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The kind of a transaction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// One snapshot for all its reads.
    Read,
    /// Reads what is committed by the time of each statement: after a lock was waited for.
    Latest,
    /// Each statement sees what is committed; what must not change meanwhile is locked.
    Write,
}

impl Mode {
    const fn begin(self) -> &'static str {
        match self {
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Self::Latest => "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
            Self::Write => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }
}

/// An open transaction of an operation; errors name the operation.
pub(super) struct Transaction {
    checkout: Checkout,
    operation: OperationName,
    timeout: Duration,
    /// A statement has changed rows.
    has_changed: bool,
    /// There is something to publish once it is committed.
    has_events: bool,
}

/// Why a transaction did not end with an acknowledged COMMIT.
#[derive(Debug)]
pub(super) enum TransactionError<T> {
    /// Nothing of it is committed.
    Aborted(LedgerError),
    /// The answer to COMMIT was lost. It may be committed all the same.
    CommitLost {
        /// What the transaction returned.
        value: T,
        /// How the answer was lost.
        failure: ServerFailure,
    },
}

impl<T> TransactionError<T> {
    /// As the error of `operation`.
    pub(super) fn into_error(self, operation: OperationName) -> LedgerError {
        match self {
            Self::Aborted(error) => error,
            Self::CommitLost { failure, .. } => LedgerError::server(operation.0, failure),
        }
    }
}

/// The result of one attempt.
pub(super) enum Attempt<T> {
    /// The transaction has ended.
    Ended(Result<T, TransactionError<T>>),
    /// It is to be repeated.
    Again,
}

/// The attempts of one transaction.
pub(super) struct Attempts<'l> {
    server: &'l Server,
    mode: Mode,
    operation: OperationName,
    number: u32,
}

impl<'l> Attempts<'l> {
    pub(super) fn new(server: &'l Server, mode: Mode, operation: OperationName) -> Self {
        Self { server, mode, operation, number: 0 }
    }

    /// Begins the transaction.
    pub(super) async fn begin(&mut self) -> Result<Transaction, LedgerError> {
        self.number += 1;
        let outcome = self.begin_once().await;
        self.note(&outcome);
        outcome
    }

    async fn begin_once(&mut self) -> Result<Transaction, LedgerError> {
        loop {
            let checkout = self.server.pool.checkout(self.operation).await?;
            let reused = checkout.is_reused();
            let mut tx = Transaction::new(checkout, self.operation);
            match tx.execute_raw(self.mode.begin()).await {
                Ok(()) => {
                    tx.timeout = ANSWER_TIMEOUT;
                    return Ok(tx);
                }
                // The server has closed it since it was used last, and the others most likely too.
                Err(_) if reused => self.server.pool.discard_idle(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the transaction: COMMIT after a success, ROLLBACK after an error.
    pub(super) async fn end<T>(&mut self, mut tx: Transaction, worked: Result<T, LedgerError>) -> Attempt<T> {
        let value = match worked {
            Ok(value) => value,
            Err(error) => return self.abort(tx, error).await,
        };
        match tx.run_raw("COMMIT").await {
            Ok(()) => {
                tx.checkout.give_back();
                // A success that changed nothing shows nothing about the next write.
                if tx.has_changed {
                    self.server.health.record(&Ok::<(), LedgerError>(()));
                }
                if tx.has_events {
                    self.server.events.send_modify(|count| *count = count.wrapping_add(1));
                }
                Attempt::Ended(Ok(value))
            }
            Err(failure) if failure.is_conflict && self.may_repeat() => {
                self.pause().await;
                Attempt::Again
            }
            // What was only read is as good without an answer.
            Err(_) if self.mode != Mode::Write => Attempt::Ended(Ok(value)),
            Err(failure) if failure.is_connection => {
                Attempt::Ended(Err(TransactionError::CommitLost { value, failure }))
            }
            Err(failure) => {
                let outcome = Err(LedgerError::server(self.operation.0, failure));
                self.note(&outcome);
                Attempt::Ended(outcome.map_err(TransactionError::Aborted))
            }
        }
    }

    async fn abort<T>(&mut self, mut tx: Transaction, error: LedgerError) -> Attempt<T> {
        let failure = error.server_failure();
        let is_conflict = failure.is_some_and(|failure| failure.is_conflict);
        let is_stale = tx.checkout.is_reused() && failure.is_some_and(|failure| failure.is_connection);
        if failure.is_none_or(|failure| !failure.is_connection) && tx.run_raw("ROLLBACK").await.is_ok() {
            tx.checkout.give_back();
        }
        if (is_conflict || is_stale) && self.may_repeat() {
            if is_stale {
                self.server.pool.discard_idle();
            }
            self.pause().await;
            return Attempt::Again;
        }
        let outcome = Err(error);
        self.note(&outcome);
        Attempt::Ended(outcome.map_err(TransactionError::Aborted))
    }

    const fn may_repeat(&self) -> bool {
        self.number < MAX_ATTEMPTS
    }

    async fn pause(&self) {
        tokio::time::sleep(RETRY_PAUSE * self.number).await;
    }

    /// Records what an error says about the next write.
    fn note<T>(&self, outcome: &Result<T, LedgerError>) {
        if self.mode == Mode::Write && outcome.is_err() {
            self.server.health.record(outcome);
        }
    }
}

/// Runs a transaction to its end. `$work` uses the transaction as `$tx` and evaluates to a result with a
/// [`LedgerError`]; it may run several times, so it must not consume what it captures. Evaluates to a result with a
/// [`TransactionError`].
macro_rules! transaction {
    ($ledger:expr, $mode:expr, $operation:expr, |$tx:ident| $work:expr) => {{
        let mut attempts = $crate::ledger::postgres::transaction::Attempts::new($ledger.server(), $mode, $operation);
        loop {
            let mut transaction = match attempts.begin().await {
                Ok(transaction) => transaction,
                Err(error) => break Err($crate::ledger::postgres::transaction::TransactionError::Aborted(error)),
            };
            let worked: Result<_, $crate::ledger::error::LedgerError> = async {
                let $tx = &mut transaction;
                $work
            }
            .await;
            if let $crate::ledger::postgres::transaction::Attempt::Ended(ended) =
                attempts.end(transaction, worked).await
            {
                break ended;
            }
        }
    }};
}

/// Runs a write transaction; see [`transaction!`]. Evaluates to a result with a [`LedgerError`].
macro_rules! write_tx {
    ($ledger:expr, $operation:expr, |$tx:ident| $work:expr) => {
        $crate::ledger::postgres::transaction::settled(
            $ledger.server(),
            $operation,
            $crate::ledger::postgres::transaction::transaction!(
                $ledger,
                $crate::ledger::postgres::transaction::Mode::Write,
                $operation,
                |$tx| $work
            ),
        )
    };
}

/// Runs a read transaction: its statements see one snapshot. See [`transaction!`].
macro_rules! read_tx {
    ($ledger:expr, $operation:expr, |$tx:ident| $work:expr) => {
        $crate::ledger::postgres::transaction::settled(
            $ledger.server(),
            $operation,
            $crate::ledger::postgres::transaction::transaction!(
                $ledger,
                $crate::ledger::postgres::transaction::Mode::Read,
                $operation,
                |$tx| $work
            ),
        )
    };
}

pub(super) use {read_tx, transaction, write_tx};

/// The result of a transaction whose caller does not find out about a lost COMMIT.
pub(super) fn settled<T>(
    server: &Server,
    operation: OperationName,
    ended: Result<T, TransactionError<T>>,
) -> Result<T, LedgerError> {
    ended.map_err(|error| {
        let is_lost = matches!(error, TransactionError::CommitLost { .. });
        let error = error.into_error(operation);
        if is_lost {
            server.health.record(&Err::<(), _>(LedgerError::server(operation.0, lost(&error))));
        }
        error
    })
}

/// A copy of the failure of a lost COMMIT, for the health.
fn lost(error: &LedgerError) -> ServerFailure {
    ServerFailure { text: error.to_string(), fault: error.write_fault(), is_conflict: false, is_connection: true }
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

impl Transaction {
    const fn new(checkout: Checkout, operation: OperationName) -> Self {
        Self { checkout, operation, timeout: BEGIN_TIMEOUT, has_changed: false, has_events: false }
    }

    /// Notes that there is something to publish once the transaction is committed.
    pub(super) const fn note_events(&mut self) {
        self.has_events = true;
    }

    /// Lets each further statement take this long; for the few that delete without a bound.
    pub(super) async fn allow(&mut self, limit: Duration) -> Result<(), LedgerError> {
        self.timeout = limit + ANSWER_TIMEOUT;
        let millis = limit.as_millis().to_string();
        let setting = sqlx::query("SELECT set_config('statement_timeout', $1, true)").bind(millis);
        self.fetch_optional(setting).await.map(drop)
    }

    /// Executes a statement; returns the number of rows that it changed.
    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, LedgerError> {
        let (operation, timeout) = (self.operation, self.timeout);
        let run = statement.execute(self.connection()?);
        let changed = answer(operation, timeout, run).await?.rows_affected();
        self.has_changed |= changed > 0;
        Ok(changed)
    }

    /// The first row; `None` if there is none.
    pub(super) async fn fetch_optional(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>, LedgerError> {
        let (operation, timeout) = (self.operation, self.timeout);
        let run = statement.fetch_optional(self.connection()?);
        answer(operation, timeout, run).await
    }

    /// All rows.
    pub(super) async fn fetch_all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, LedgerError> {
        let (operation, timeout) = (self.operation, self.timeout);
        let run = statement.fetch_all(self.connection()?);
        answer(operation, timeout, run).await
    }

    /// The first column of the first row; `None` if there is no row.
    pub(super) async fn scalar_opt<T>(&mut self, statement: Statement<'_>) -> Result<Option<T>, LedgerError>
    where
        T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        let row = self.fetch_optional(statement).await?;
        row.map(|row| row.try_get(0).map_err(|_| LedgerError::Corrupt { column: "(computed)" })).transpose()
    }

    /// The first column of the only row.
    pub(super) async fn scalar<T>(&mut self, statement: Statement<'_>) -> Result<T, LedgerError>
    where
        T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        self.scalar_opt(statement).await?.ok_or(LedgerError::Corrupt { column: "(computed)" })
    }

    /// Executes statements without parameters, unprepared.
    pub(super) async fn execute_raw(&mut self, sql: &'static str) -> Result<(), LedgerError> {
        self.run_raw(sql).await.map_err(|failure| LedgerError::server(self.operation.0, failure))
    }

    async fn run_raw(&mut self, sql: &'static str) -> Result<(), ServerFailure> {
        let timeout = self.timeout;
        let Some(connection) = self.checkout.connection() else { return Err(timed_out("the connection is closed")) };
        match tokio::time::timeout(timeout, sqlx::raw_sql(sql).execute(connection)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(timed_out("the server did not answer in time")),
        }
    }

    fn connection(&mut self) -> Result<&mut PgConnection, LedgerError> {
        let operation = self.operation.0;
        self.checkout.connection().ok_or_else(|| LedgerError::server(operation, timed_out("the connection is closed")))
    }
}

/// Waits for the server, but not forever.
async fn answer<T>(
    operation: OperationName,
    timeout: Duration,
    run: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, LedgerError> {
    match tokio::time::timeout(timeout, run).await {
        Ok(outcome) => outcome.map_err(|error| operation.failed(&error)),
        Err(_) => Err(LedgerError::server(operation.0, timed_out("the server did not answer in time"))),
    }
}

/// Waits forevery other transaction that has locked the same name, until the end of this one.
pub(super) async fn lock(tx: &mut Transaction, name: &str) -> Result<(), LedgerError> {
    tx.fetch_optional(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock_number(name))).await.map(drop)
}

/// Like [`lock`], but any number of transactions may hold it this way at once.
pub(super) async fn lock_shared(tx: &mut Transaction, name: &str) -> Result<(), LedgerError> {
    tx.fetch_optional(sqlx::query("SELECT pg_advisory_xact_lock_shared($1)").bind(lock_number(name))).await.map(drop)
}

/// The number of a lock. Two names with one number wait for each other, and nothing else.
fn lock_number(name: &str) -> i64 {
    use std::hash::Hasher as _;
    let mut hash = fnv::FnvHasher::default();
    hash.write(b"busbar ledger\0");
    hash.write(name.as_bytes());
    hash.finish().cast_signed()
}
