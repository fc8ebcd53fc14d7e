//! Queries on records of any kind.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};

use super::codec::{get, timestamp, timestamp_opt};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::rows::{push_row, selected};
use super::select::Select;
use super::transaction::read_tx;
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

impl PostgresLedger {
    pub(super) async fn records_newest(
        &self,
        table: &'static Table,
        filter: &TransactionFilter,
        limit: u32,
    ) -> Result<Vec<StoredRecord>, LedgerError> {
        let select = format!(
            "SELECT x.account_token, x.record_key, x.key_quality{}, x.content_hash, t.namespace, t.connection, t.stream,
                 t.partition, x.revision, x.raw_ref, x.created_ms, x.updated_ms, x.deleted_ms
             FROM {} x JOIN streams t ON t.id = x.stream_id WHERE TRUE",
            selected(table, "x."),
            table.name
        );
        let select =
            Select::new(&select).of_streams(filter).number(" ORDER BY x.updated_ms DESC, x.id DESC LIMIT ", limit);
        let rows = read_tx!(self, LIST, |tx| tx.fetch_all(select.statement()).await)?;
        rows.iter().map(|row| stored(table, row)).collect()
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
        let select = Select::new(&select).of_streams(filter);
        read_tx!(self, COUNT, |tx| select.count(tx).await)
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
        let sql =
            format!("SELECT v.value FROM ({}) v WHERE v.value <> '' ORDER BY v.value LIMIT $4", parts.join(" UNION "));
        let rows = read_tx!(self, VALUES, |tx| {
            let statement = query(AssertSqlSafe(sql.clone())).bind(&*job.namespace).bind(&*job.name);
            tx.fetch_all(statement.bind(field).bind(i64::from(limit))).await
        })?;
        rows.iter().map(|row| get(row, "value")).collect()
    }
}

/// Selects the values of a field in the records of a table; `None` if they have no such field.
fn values_in(table: &Table, field: &str) -> Option<String> {
    let column = table.columns.iter().find(|column| column.name == field);
    let json = table.columns.iter().find(|column| column.kind == ColumnKind::Json);
    // A name of a column is that of a description, never what a user wrote.
    let value = match (field, column, json) {
        ("id" | "key", ..) => "x.record_key".to_owned(),
        (_, Some(column), _) if column.kind != ColumnKind::Json => format!("x.{}::text", column.name),
        (_, _, Some(json)) => {
            let name = json.name;
            format!(
                "CASE WHEN json_typeof(x.{name}::json -> $3) NOT IN ('object', 'array') THEN x.{name}::json ->> $3 END"
            )
        }
        _ => return None,
    };
    Some(format!(
        "SELECT ({value}) COLLATE \"C\" AS value FROM {} x JOIN sync_state s ON s.stream_id = x.stream_id
         JOIN streams t ON t.id = x.stream_id WHERE t.namespace = $1 AND s.job = $2 AND x.deleted_ms IS NULL
         AND $3::text IS NOT NULL",
        table.name
    ))
}

fn stored(table: &'static Table, row: &PgRow) -> Result<StoredRecord, LedgerError> {
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
        created: timestamp(row, "created_ms")?,
        updated: timestamp(row, "updated_ms")?,
        deleted: timestamp_opt(row, "deleted_ms")?,
    })
}
