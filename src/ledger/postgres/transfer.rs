//! A PostgreSQL database as one end of a copy.
//!
//! On a connection of its own: a copy is one transaction that may take minutes, which no connection of the pool may. Values
//! travel as text and are cast to the column's type by the server.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, Row as _};

use super::failure::{OperationName, failure};
use super::url::PostgresUrl;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::transfer::cell::{Cell, Row};
use crate::ledger::transfer::endpoint::{Endpoint, SequenceValue};
use crate::ledger::transfer::table::{Column, ColumnKind, TableShape};

const COPY: OperationName = OperationName("copying the ledger");

/// The tables of the schema with their columns; without the record of the migrations, and without columns that hold the number
/// of the transaction that wrote the row: another server has other numbers.
const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL) AS type
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND left(c.relname, 1) <> '_'
        AND coalesce(pg_get_expr(d.adbin, d.adrelid), '') NOT LIKE '%pg_current_xact_id%'
    ORDER BY c.oid, a.attnum";

/// Which table refers to which.
const REFERENCES: &str = "SELECT DISTINCT c.relname::text, r.relname::text AS refers_to
    FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid
    WHERE f.contype = 'f' AND c.relnamespace = current_schema()::regnamespace";

/// Tables with a generated key, the sequence behind it, and the last number it has issued.
const SEQUENCES: &str = "SELECT c.relname::text, a.attname::text, s.last_value
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attidentity <> ''
    JOIN pg_sequences s ON format('%I.%I', s.schemaname, s.sequencename)
        = pg_get_serial_sequence(format('%I.%I', current_schema(), c.relname), a.attname)
    WHERE c.relnamespace = current_schema()::regnamespace AND left(c.relname, 1) <> '_'";

/// Tables with triggers of ours.
const TRIGGERS: &str = "SELECT DISTINCT c.relname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace";

/// A database and the table that is being read.
pub(crate) struct PostgresEndpoint {
    connection: PgConnection,
    /// The type of each column, by table and column.
    types: BTreeMap<(String, String), String>,
    /// Cursors that were opened; the last one is open.
    cursors: usize,
    /// The kinds of the open table's columns.
    kinds: Vec<ColumnKind>,
    /// The tables whose triggers are switched off.
    without_triggers: Vec<String>,
}

impl PostgresEndpoint {
    /// Connects.
    pub(crate) async fn open(url: &PostgresUrl) -> Result<Self, LedgerError> {
        let options = url.connect_options().await.map_err(|failure| LedgerError::server(COPY.0, failure))?;
        let connection = PgConnection::connect_with(&options).await.map_err(|error| COPY.failed(&error))?;
        let (types, kinds, without_triggers) = (BTreeMap::new(), Vec::new(), Vec::new());
        Ok(Self { connection, types, cursors: 0, kinds, without_triggers })
    }

    async fn run(&mut self, sql: String) -> Result<(), LedgerError> {
        self.connection.execute(AssertSqlSafe(sql)).await.map(drop).map_err(|error| COPY.failed(&error))
    }

    async fn rows(&mut self, sql: String) -> Result<Vec<PgRow>, LedgerError> {
        // Not kept prepared: a table's query is made once.
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        query.fetch_all(&mut self.connection).await.map_err(|error| COPY.failed(&error))
    }

    async fn shapes(&mut self) -> Result<Vec<TableShape>, LedgerError> {
        let mut tables: Vec<TableShape> = Vec::new();
        for row in self.rows(COLUMNS.to_owned()).await? {
            let (table, name, declared): (String, String, String) = (text(&row, 0)?, text(&row, 1)?, text(&row, 2)?);
            if tables.last().is_none_or(|last| last.name != table) {
                let (columns, key, references) = (Vec::new(), Vec::new(), Vec::new());
                tables.push(TableShape { name: table.clone(), columns, key, references });
            }
            if let Some(last) = tables.last_mut() {
                last.columns.push(Column { name: name.clone(), kind: kind(&declared) });
            }
            self.types.insert((table, name), declared);
        }
        for row in self.rows(REFERENCES.to_owned()).await? {
            let (table, referenced) = (text(&row, 0)?, text(&row, 1)?);
            if let Some(shape) = tables.iter_mut().find(|shape| shape.name == table) {
                shape.references.push(referenced);
            }
        }
        Ok(tables)
    }

    async fn declare(&mut self, table: &TableShape) -> Result<(), LedgerError> {
        if self.cursors > 0 {
            self.run(format!("CLOSE copy_{}", self.cursors)).await?;
        }
        self.cursors += 1;
        self.kinds = table.columns.iter().map(|column| column.kind).collect();
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| match column.kind {
                ColumnKind::Bytes => quoted(&column.name),
                _ => format!("{}::text", quoted(&column.name)),
            })
            .collect();
        let (number, columns, table) = (self.cursors, columns.join(", "), quoted(&table.name));
        self.run(format!("DECLARE copy_{number} NO SCROLL CURSOR FOR SELECT {columns} FROM {table}")).await
    }

    async fn fetch(&mut self, limit: u32) -> Result<Vec<Row>, LedgerError> {
        let rows = self.rows(format!("FETCH {limit} FROM copy_{}", self.cursors)).await?;
        let decode = |row: PgRow| self.kinds.iter().enumerate().map(|(at, kind)| cell(&row, at, *kind)).collect();
        rows.into_iter().map(decode).collect()
    }

    async fn store(&mut self, table: &TableShape, key: Option<&str>, rows: Vec<Row>) -> Result<(), LedgerError> {
        let (mut names, mut arrays, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (at, column) in table.columns.iter().enumerate() {
            let number = at + 1;
            names.push(quoted(&column.name));
            let element = if column.kind == ColumnKind::Bytes { "bytea" } else { "text" };
            arrays.push(format!("${number}::{element}[]"));
            let declared = self.types.get(&(table.name.clone(), column.name.clone())).map_or("text", String::as_str);
            values.push(format!("r.c{number}::{declared}"));
        }
        let aliases: Vec<String> = (1..=table.columns.len()).map(|number| format!("c{number}")).collect();
        let conflict = key.map(|key| on_conflict(table, key)).unwrap_or_default();
        let sql = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest({}) AS r ({}){conflict}",
            quoted(&table.name),
            names.join(", "),
            values.join(", "),
            arrays.join(", "),
            aliases.join(", "),
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (at, column) in table.columns.iter().enumerate() {
            query = bind(query, &rows, at, column.kind)?;
        }
        query.execute(&mut self.connection).await.map(drop).map_err(|error| COPY.failed(&error))
    }

    async fn set_triggers(&mut self, action: &str) -> Result<(), LedgerError> {
        for table in self.without_triggers.clone() {
            self.run(format!("ALTER TABLE {} {action} TRIGGER USER", quoted(&table))).await?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), LedgerError> {
        self.run("BEGIN".to_owned()).await?;
        self.run("SET LOCAL statement_timeout = 0".to_owned()).await?;
        let tables = self.rows(TRIGGERS.to_owned()).await?;
        self.without_triggers = tables.iter().map(|row| text(row, 0)).collect::<Result<_, _>>()?;
        self.set_triggers("DISABLE").await
    }

    async fn reached(&mut self) -> Result<Vec<SequenceValue>, LedgerError> {
        let rows = self.rows(SEQUENCES.to_owned()).await?;
        let mut reached = Vec::new();
        for row in rows {
            let last: Option<i64> = row.try_get(2).map_err(|error| COPY.failed(&error))?;
            reached.extend(text(&row, 0).map(|table| last.map(|last| SequenceValue { table, last }))?);
        }
        Ok(reached)
    }

    /// Inserted keys do not move a sequence.
    async fn set_reached(&mut self, reached: &[SequenceValue]) -> Result<(), LedgerError> {
        for row in self.rows(SEQUENCES.to_owned()).await? {
            let (table, column) = (text(&row, 0)?, text(&row, 1)?);
            let before = reached.iter().find(|value| value.table == table).map_or(0, |value| value.last);
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence(format('%I.%I', current_schema(), $1::text), $2::text), highest)
                 FROM (SELECT GREATEST($3, coalesce(max({column}), 0)) AS highest FROM {table}) AS m WHERE highest > 0",
                column = quoted(&column),
                table = quoted(&table),
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(table).bind(column).bind(before);
            query.fetch_optional(&mut self.connection).await.map_err(|error| COPY.failed(&error))?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), LedgerError> {
        if self.cursors > 0 {
            // A table with an open cursor cannot be altered.
            self.run(format!("CLOSE copy_{}", self.cursors)).await?;
            self.cursors = 0;
        }
        self.set_triggers("ENABLE").await?;
        self.run("COMMIT".to_owned()).await
    }
}

impl Endpoint for PostgresEndpoint {
    fn begin_read(&mut self) -> LedgerFuture<'_, ()> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned()).boxed()
    }

    fn begin_write(&mut self) -> LedgerFuture<'_, ()> {
        self.begin().boxed()
    }

    fn tables(&mut self) -> LedgerFuture<'_, Vec<TableShape>> {
        self.shapes().boxed()
    }

    fn open_table<'a>(&'a mut self, table: &'a TableShape) -> LedgerFuture<'a, ()> {
        self.declare(table).boxed()
    }

    fn next_rows(&mut self, limit: u32) -> LedgerFuture<'_, Vec<Row>> {
        self.fetch(limit).boxed()
    }

    fn insert<'a>(&'a mut self, table: &'a TableShape, rows: Vec<Row>) -> LedgerFuture<'a, ()> {
        self.store(table, None, rows).boxed()
    }

    fn upsert<'a>(&'a mut self, table: &'a TableShape, key: &'a str, rows: Vec<Row>) -> LedgerFuture<'a, ()> {
        self.store(table, Some(key), rows).boxed()
    }

    fn sequences(&mut self) -> LedgerFuture<'_, Vec<SequenceValue>> {
        self.reached().boxed()
    }

    fn continue_sequences<'a>(&'a mut self, reached: &'a [SequenceValue]) -> LedgerFuture<'a, ()> {
        self.set_reached(reached).boxed()
    }

    fn commit(&mut self) -> LedgerFuture<'_, ()> {
        self.end().boxed()
    }

    fn close(self: Box<Self>) -> LedgerFuture<'static, ()> {
        // The server rolls an open transaction back when the connection ends.
        async move { self.connection.close().await.map_err(|error| LedgerError::server(COPY.0, failure(&error))) }
            .boxed()
    }
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Binds one column of all rows as an array.
fn bind<'q>(query: Statement<'q>, rows: &[Row], at: usize, kind: ColumnKind) -> Result<Statement<'q>, LedgerError> {
    if kind == ColumnKind::Bytes {
        let bytes = |row: &Row| match &row[at] {
            Cell::Null => Ok(None),
            Cell::Bytes(bytes) => Ok(Some(bytes.clone())),
            Cell::Text(text) => Ok(Some(text.as_bytes().to_vec())),
            Cell::Integer(_) => Err(LedgerError::Corrupt { column: "(bytes)" }),
        };
        return Ok(query.bind(rows.iter().map(bytes).collect::<Result<Vec<Option<Vec<u8>>>, _>>()?));
    }
    let text = |row: &Row| match &row[at] {
        Cell::Null => Ok(None),
        Cell::Text(text) => Ok(Some(text.clone())),
        Cell::Integer(number) => Ok(Some(number.to_string())),
        Cell::Bytes(_) => Err(LedgerError::Corrupt { column: "(text)" }),
    };
    Ok(query.bind(rows.iter().map(text).collect::<Result<Vec<Option<String>>, _>>()?))
}

fn cell(row: &PgRow, at: usize, kind: ColumnKind) -> Result<Cell, LedgerError> {
    let failed = |error: sqlx::Error| COPY.failed(&error);
    if kind == ColumnKind::Bytes {
        return Ok(row.try_get::<Option<Vec<u8>>, _>(at).map_err(failed)?.map_or(Cell::Null, Cell::Bytes));
    }
    let Some(text) = row.try_get::<Option<String>, _>(at).map_err(failed)? else { return Ok(Cell::Null) };
    Ok(match (kind, &*text) {
        (ColumnKind::Integer, "true") => Cell::Integer(1),
        (ColumnKind::Integer, "false") => Cell::Integer(0),
        (ColumnKind::Integer, number) => {
            Cell::Integer(number.parse().map_err(|_| LedgerError::Corrupt { column: "(number)" })?)
        }
        _ => Cell::Text(text),
    })
}

fn text(row: &PgRow, at: usize) -> Result<String, LedgerError> {
    row.try_get(at).map_err(|error| COPY.failed(&error))
}

fn kind(declared: &str) -> ColumnKind {
    match declared {
        "bigint" | "integer" | "smallint" | "boolean" => ColumnKind::Integer,
        "numeric" => ColumnKind::Decimal,
        "bytea" => ColumnKind::Bytes,
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
