//! An SQLite file as one end of a copy, and the checks of such a file.
//!
//! On connections of its own, outside the writer's thread: only commands copy, and they do nothing else meanwhile.

use std::path::Path;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::ready;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use super::codec::OperationName;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::transfer::cell::{Cell, Row};
use crate::ledger::transfer::endpoint::{Endpoint, SequenceValue};
use crate::ledger::transfer::table::{Column, ColumnKind, TableShape};

const COPY: OperationName = OperationName("copying the ledger");
const CHECK: OperationName = OperationName("checking the file");

/// How long the copy waits for the operator's current transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// How a file is opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileAccess {
    /// Read only, beside its writer.
    Read,
    /// Written in one transaction, beside its writer.
    Write,
    /// A new file that no process knows yet: flushed once, at its end.
    New,
}

/// A table that is being read.
struct OpenTable {
    /// The query of its columns and of its key, without order and condition.
    select: String,
    /// The columns of its key.
    order: String,
    key_columns: usize,
    /// The key of the last row that was read; empty before the first.
    after: Row,
}

/// A file and the table that is being read.
pub(crate) struct SqliteEndpoint {
    connection: Connection,
    open: Option<OpenTable>,
}

impl SqliteEndpoint {
    /// Opens the file.
    pub(crate) fn open(path: &Path, access: FileAccess) -> Result<Self, LedgerError> {
        let mode = match access {
            FileAccess::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            FileAccess::Write | FileAccess::New => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let failed =
            |source: rusqlite::Error| LedgerError::Open { path: path.display().to_string(), source: source.into() };
        let connection = connect(path, mode).map_err(failed)?;
        let prepare = match access {
            FileAccess::Read => "PRAGMA trusted_schema = OFF",
            FileAccess::Write => "PRAGMA foreign_keys = OFF; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
            FileAccess::New => {
                "PRAGMA foreign_keys = OFF; PRAGMA journal_mode = DELETE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF"
            }
        };
        connection.execute_batch(prepare).map_err(failed)?;
        // Rows are copied as they are: what a trigger derived from them is copied too.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map_err(failed)?;
        Ok(Self { connection, open: None })
    }

    fn shapes(&self) -> Result<Vec<TableShape>, rusqlite::Error> {
        let mut names = self.connection.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 1) <> '_'
             AND substr(name, 1, 7) <> 'sqlite_' ORDER BY rowid",
        )?;
        let names = names.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        names.into_iter().map(|name| self.shape(name)).collect()
    }

    fn shape(&self, name: String) -> Result<TableShape, rusqlite::Error> {
        // Without generated columns, which the target generates itself.
        let mut found = self
            .connection
            .prepare("SELECT name, type, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")?;
        let rows = found.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for row in rows {
            let (name, declared, position): (String, String, i64) = row?;
            if position > 0 {
                key.push((position, name.clone()));
            }
            columns.push(Column { name, kind: kind(&declared) });
        }
        key.sort();
        let mut found = self.connection.prepare("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?1)")?;
        let references = found.query_map([&name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(TableShape { name, columns, key: key.into_iter().map(|(_, name)| name).collect(), references })
    }

    /// Reads on behind the last row by the table's key, so that no statement stays open.
    fn read(&mut self, limit: u32) -> Result<Vec<Row>, LedgerError> {
        let Some(open) = &mut self.open else { return Ok(Vec::new()) };
        let OpenTable { select, order, key_columns, after } = open;
        let condition = if after.is_empty() {
            String::new()
        } else {
            format!(" WHERE ({order}) > ({})", vec!["?"; *key_columns].join(", "))
        };
        let query = format!("{select}{condition} ORDER BY {order} LIMIT {limit}");
        let mut statement = self.connection.prepare_cached(&query).map_err(|e| COPY.failed(e))?;
        let values = statement.column_count() - *key_columns;
        let mut rows = statement.query(params_from_iter(after.iter())).map_err(|e| COPY.failed(e))?;
        let (mut read, mut last) = (Vec::new(), None);
        while let Some(row) = rows.next().map_err(|e| COPY.failed(e))? {
            let at = |at: usize| row.get_ref(at).map_err(|e| COPY.failed(e)).and_then(cell);
            read.push((0..values).map(at).collect::<Result<Row, _>>()?);
            last = Some((values..values + *key_columns).map(at).collect::<Result<Row, _>>()?);
        }
        if let Some(last) = last {
            *after = last;
        }
        Ok(read)
    }

    fn store(&self, table: &TableShape, key: Option<&str>, rows: &[Row]) -> Result<(), rusqlite::Error> {
        let columns = list(table.columns.iter().map(|column| &*column.name));
        let marks = vec!["?"; table.columns.len()].join(", ");
        let conflict = key.map(|key| on_conflict(table, key)).unwrap_or_default();
        let sql = format!("INSERT INTO {} ({columns}) VALUES ({marks}){conflict}", quoted(&table.name));
        let mut statement = self.connection.prepare_cached(&sql)?;
        rows.iter().try_for_each(|row| statement.execute(params_from_iter(row)).map(drop))
    }

    fn reached(&self) -> Result<Vec<SequenceValue>, rusqlite::Error> {
        if !self.has_sequences()? {
            return Ok(Vec::new());
        }
        let mut found = self.connection.prepare("SELECT name, seq FROM sqlite_sequence")?;
        let rows = found.query_map([], |row| Ok(SequenceValue { table: row.get(0)?, last: row.get(1)? }))?;
        rows.collect()
    }

    fn has_sequences(&self) -> Result<bool, rusqlite::Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence')";
        self.connection.query_row(sql, [], |row| row.get(0))
    }

    /// SQLite follows the rows by itself; only what was reached and deleted since is to be told.
    fn set_reached(&self, reached: &[SequenceValue]) -> Result<(), rusqlite::Error> {
        if !self.has_sequences()? {
            return Ok(());
        }
        for SequenceValue { table, last } in reached {
            let generated: bool = self.connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 AND sql LIKE '%AUTOINCREMENT%')",
                [table],
                |row| row.get(0),
            )?;
            let moved = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
            if generated && self.connection.execute(moved, (table, last))? == 0 {
                self.connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (table, last))?;
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<(), LedgerError> {
        let sql = "SELECT count(*) FROM pragma_foreign_key_check";
        let broken: i64 = self.connection.query_row(sql, [], |row| row.get(0)).map_err(|e| COPY.failed(e))?;
        if broken > 0 {
            return Err(LedgerError::Corrupt { column: "(reference to a row that does not exist)" });
        }
        self.connection.execute_batch("COMMIT").map_err(|e| COPY.failed(e))
    }

    fn batch(&self, sql: &str) -> Result<(), LedgerError> {
        self.connection.execute_batch(sql).map_err(|e| COPY.failed(e))
    }
}

impl Endpoint for SqliteEndpoint {
    fn begin_read(&mut self) -> LedgerFuture<'_, ()> {
        // The first read begins the snapshot.
        ready(self.batch("BEGIN; SELECT count(*) FROM sqlite_schema")).boxed()
    }

    fn begin_write(&mut self) -> LedgerFuture<'_, ()> {
        ready(self.batch("BEGIN IMMEDIATE")).boxed()
    }

    fn tables(&mut self) -> LedgerFuture<'_, Vec<TableShape>> {
        ready(self.shapes().map_err(|e| COPY.failed(e))).boxed()
    }

    fn open_table<'a>(&'a mut self, table: &'a TableShape) -> LedgerFuture<'a, ()> {
        let key = if table.key.is_empty() { vec!["rowid"] } else { table.key.iter().map(String::as_str).collect() };
        let columns = list(table.columns.iter().map(|column| &*column.name));
        let order = list(key.iter().copied());
        let select = format!("SELECT {columns}, {order} FROM {}", quoted(&table.name));
        self.open = Some(OpenTable { select, order, key_columns: key.len(), after: Row::new() });
        ready(Ok(())).boxed()
    }

    fn next_rows(&mut self, limit: u32) -> LedgerFuture<'_, Vec<Row>> {
        ready(self.read(limit)).boxed()
    }

    fn insert<'a>(&'a mut self, table: &'a TableShape, rows: Vec<Row>) -> LedgerFuture<'a, ()> {
        ready(self.store(table, None, &rows).map_err(|e| COPY.failed(e))).boxed()
    }

    fn upsert<'a>(&'a mut self, table: &'a TableShape, key: &'a str, rows: Vec<Row>) -> LedgerFuture<'a, ()> {
        ready(self.store(table, Some(key), &rows).map_err(|e| COPY.failed(e))).boxed()
    }

    fn sequences(&mut self) -> LedgerFuture<'_, Vec<SequenceValue>> {
        ready(self.reached().map_err(|e| COPY.failed(e))).boxed()
    }

    fn continue_sequences<'a>(&'a mut self, reached: &'a [SequenceValue]) -> LedgerFuture<'a, ()> {
        ready(self.set_reached(reached).map_err(|e| COPY.failed(e))).boxed()
    }

    fn commit(&mut self) -> LedgerFuture<'_, ()> {
        ready(self.end()).boxed()
    }

    fn close(self: Box<Self>) -> LedgerFuture<'static, ()> {
        // An open transaction is rolled back.
        let closed = self.connection.close().map_err(|(_, source)| COPY.failed(source));
        ready(closed).boxed()
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn cell(value: ValueRef<'_>) -> Result<Cell, LedgerError> {
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => return Err(LedgerError::Corrupt { column: "(text)" }),
        },
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
        // No column of ours is a float: money would lose digits.
        ValueRef::Real(_) => return Err(LedgerError::Corrupt { column: "(number)" }),
    })
}

fn kind(declared: &str) -> ColumnKind {
    match declared {
        "INTEGER" | "BIGINT" | "BOOLEAN" => ColumnKind::Integer,
        "BLOB" => ColumnKind::Bytes,
        _ => ColumnKind::Text,
    }
}

/// What happens to a row whose key exists.
fn on_conflict(table: &TableShape, key: &str) -> String {
    let columns = table.columns.iter().map(|column| quoted(&column.name));
    let set: Vec<String> = columns.map(|column| format!("{column} = excluded.{column}")).collect();
    format!(" ON CONFLICT ({}) DO UPDATE SET {}", quoted(key), set.join(", "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quoted).collect::<Vec<_>>().join(", ")
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Whether the file has the record of our migrations.
pub(crate) fn is_ledger(path: &Path) -> Result<bool, LedgerError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| CHECK.failed(e))?;
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')";
    connection.query_row(sql, [], |row| row.get(0)).map_err(|e| CHECK.failed(e))
}

/// Copies the file as it is into the empty file `to`, beside its writer.
pub(crate) fn duplicate(path: &Path, to: &Path) -> Result<(), LedgerError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| COPY.failed(e))?;
    connection.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map(drop).map_err(|e| COPY.failed(e))
}

/// Makes one file of a new ledger, without a journal beside it.
pub(crate) fn finish(path: &Path) -> Result<(), LedgerError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|e| COPY.failed(e))?;
    connection.execute_batch("PRAGMA journal_mode = DELETE").map_err(|e| COPY.failed(e))
}

/// What SQLite's own check finds first; `None` if the file is sound.
pub(crate) fn first_damage(path: &Path) -> Result<Option<String>, LedgerError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| CHECK.failed(e))?;
    let check = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
    match check("PRAGMA integrity_check(1)") {
        Ok(finding) => Ok(Some(finding).filter(|finding| finding != "ok")),
        Err(error) => match CHECK.failed(error) {
            // Too damaged to be checked, or no SQLite file.
            error @ LedgerError::Storage { .. } if error.write_fault().is_some() => Ok(Some(error.to_string())),
            error => Err(error),
        },
    }
}
