//! Queries on records of any kind.

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::codec::{OperationName, get, instant, instant_opt};
use super::database::SqliteLedger;
use super::read::Query;
use super::rows::{columns, push_row};
use crate::domain::cursor::stream_name;
use crate::domain::key::ObjectKey;
use crate::domain::records::{ColumnKind, Table};
use crate::domain::row_batch::{RowBatch, tables};
use crate::ledger::error::LedgerError;
use crate::ledger::queries::StoredRecord;
use crate::ledger::record::TransactionFilter;

const LIST: OperationName = OperationName("listing records");
const COUNT: OperationName = OperationName("counting records");
const VALUES: OperationName = OperationName("reading the values of a field");

impl SqliteLedger {
    pub(super) async fn records_newest(
        &self,
        table: &'static Table,
        filter: &TransactionFilter,
        limit: u32,
    ) -> Result<Vec<StoredRecord>, LedgerError> {
        let select = format!(
            "SELECT x.account_token, x.record_key, x.key_quality{}, x.content_hash, t.namespace, t.connection, \
             t.stream, t.partition, x.revision, x.raw_ref, x.created_ms, x.updated_ms, x.deleted_ms \
             FROM {} x JOIN streams t ON t.id = x.stream_id WHERE 1 = 1",
            columns(table, "x."),
            table.name
        );
        let query = Query::new(&select).of_streams(filter).tail(" ORDER BY x.updated_ms DESC, x.id DESC LIMIT ", limit);
        self.read(LIST, move |tx| query.all(tx, |row| stored(table, row))).await
    }

    pub(super) async fn record_count(
        &self,
        table: &'static Table,
        filter: &TransactionFilter,
    ) -> Result<u64, LedgerError> {
        let select = format!(
            "SELECT count(*) FROM {} x JOIN streams t ON t.id = x.stream_id WHERE x.deleted_ms IS NULL",
            table.name
        );
        let query = Query::new(&select).of_streams(filter);
        self.read(COUNT, move |tx| query.count(tx)).await
    }

    pub(super) async fn field_values(
        &self,
        job: &ObjectKey,
        field: &str,
        limit: u32,
    ) -> Result<Vec<String>, LedgerError> {
        let parts: Vec<String> = tables().filter_map(|table| values_in(table, field)).collect();
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT value FROM ({}) WHERE value <> '' ORDER BY value LIMIT ?4", parts.join(" UNION "));
        let params: [Value; 4] =
            [job.namespace.to_string().into(), job.name.to_string().into(), field.to_owned().into(), limit.into()];
        self.read(VALUES, move |tx| tx.query_all(&sql, params_from_iter(params), |row| get(row, "value"))).await
    }
}

/// Selects the values of a field in the records of a table; `None` if they have no such field.
fn values_in(table: &Table, field: &str) -> Option<String> {
    let column = table.columns.iter().find(|column| column.name == field);
    let json = table.columns.iter().find(|column| column.kind == ColumnKind::Json);
    // A name of a column is that of a description, never what a user wrote.
    let value = match (field, column, json) {
        ("id" | "key", ..) => "x.record_key".to_owned(),
        (_, Some(column), _) if column.kind != ColumnKind::Json => format!("x.{}", column.name),
        (_, _, Some(json)) => {
            format!("(SELECT m.value FROM json_each(x.{}) m WHERE m.key = ?3 AND m.atom IS NOT NULL)", json.name)
        }
        _ => return None,
    };
    Some(format!(
        "SELECT CAST({value} AS TEXT) AS value FROM {} x JOIN sync_state s ON s.stream_id = x.stream_id \
         JOIN streams t ON t.id = x.stream_id WHERE t.namespace = ?1 AND s.job = ?2 AND x.deleted_ms IS NULL \
         AND ?3 IS NOT NULL",
        table.name
    ))
}

fn stored(table: &'static Table, row: &Row<'_>) -> Result<StoredRecord, LedgerError> {
    let mut record = RowBatch::new(table);
    push_row(&mut record, row)?;
    Ok(StoredRecord {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        stream: stream_name(&get::<String>(row, "stream")?).to_owned(),
        partition: get(row, "partition")?,
        record,
        revision: get(row, "revision")?,
        raw_ref: get(row, "raw_ref")?,
        created: instant(get(row, "created_ms")?, "created_ms")?,
        updated: instant(get(row, "updated_ms")?, "updated_ms")?,
        deleted: instant_opt(get(row, "deleted_ms")?, "deleted_ms")?,
    })
}
