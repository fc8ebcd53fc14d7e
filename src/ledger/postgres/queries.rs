//! Queries for the command line.

use futures::FutureExt as _;
use sqlx::postgres::PgRow;

use super::codec::{count, get, timestamp};
use super::database::PostgresLedger;
use super::dead_letters::raw_ref;
use super::failure::OperationName;
use super::runs::{RUN_COLUMNS, run_record};
use super::select::Select;
use super::transaction::read_tx;
use super::{documents, money_totals};
use crate::domain::cursor::stream_name;
use crate::domain::key::ObjectKey;
use crate::domain::records::Table;
use crate::ledger::document::StoredDocument;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::money_totals::MoneyTotal;
use crate::ledger::queries::{Queries, StoredDeadLetter, StoredRecord, StoredRun};
use crate::ledger::record::TransactionFilter;

const DOCUMENTS: OperationName = OperationName("listing documents");
const LETTERS: OperationName = OperationName("listing dead letters");
const RUNS: OperationName = OperationName("listing runs");

impl Queries for PostgresLedger {
    fn newest_records<'a>(
        &'a self,
        table: &'static Table,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredRecord>> {
        self.records_newest(table, filter, limit).boxed()
    }

    fn count_records<'a>(&'a self, table: &'static Table, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64> {
        self.record_count(table, filter).boxed()
    }

    fn partition_values<'a>(&'a self, job: &'a ObjectKey, field: &'a str, limit: u32) -> LedgerFuture<'a, Vec<String>> {
        self.field_values(job, field, limit).boxed()
    }

    fn newest_documents<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredDocument>> {
        let select = Select::new(documents::SELECT)
            .of_streams(filter)
            .number(" ORDER BY x.updated_ms DESC, x.id DESC LIMIT ", limit);
        async move {
            let rows = read_tx!(self, DOCUMENTS, |tx| tx.fetch_all(select.statement()).await)?;
            rows.iter().map(documents::stored).collect()
        }
        .boxed()
    }

    fn newest_dead_letters<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredDeadLetter>> {
        let select = Select::new(
            "SELECT t.namespace, t.connection, t.stream, t.partition, x.reason, x.path, x.sample, x.seen, x.first_ms,
                 x.last_ms, x.raw_ref, r.mode, r.expires_ms
             FROM dead_letters x JOIN streams t ON t.id = x.stream_id LEFT JOIN raw_payloads r ON r.id = x.raw_ref
             WHERE x.resolved_ms IS NULL",
        )
        .of_streams(filter)
        .number(" ORDER BY x.last_ms DESC, x.id DESC LIMIT ", limit);
        async move {
            let rows = read_tx!(self, LETTERS, |tx| tx.fetch_all(select.statement()).await)?;
            rows.iter().map(dead_letter).collect()
        }
        .boxed()
    }

    fn money_totals(&self) -> LedgerFuture<'_, Vec<MoneyTotal>> {
        async move { read_tx!(self, money_totals::TOTALS, |tx| money_totals::totals(tx).await) }.boxed()
    }

    fn newest_runs<'a>(
        &'a self,
        namespace: Option<&'a str>,
        job: Option<&'a str>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredRun>> {
        let mut select = Select::new(&format!("SELECT namespace, job, {RUN_COLUMNS} FROM sync_runs WHERE TRUE"));
        for (clause, value) in [(" AND namespace = ", namespace), (" AND job = ", job)] {
            if let Some(value) = value {
                select = select.text(clause, value.to_owned());
            }
        }
        // By time, because runs of several jobs have no other order.
        let select = select.number(" ORDER BY started_ms DESC, seq DESC, run_id LIMIT ", limit);
        async move {
            let rows = read_tx!(self, RUNS, |tx| tx.fetch_all(select.statement()).await)?;
            rows.iter().map(stored_run).collect()
        }
        .boxed()
    }
}

fn stored_run(row: &PgRow) -> Result<StoredRun, LedgerError> {
    let (namespace, job): (String, String) = (get(row, "namespace")?, get(row, "job")?);
    Ok(StoredRun { job: ObjectKey::new(namespace, job), run: run_record(row)? })
}

fn dead_letter(row: &PgRow) -> Result<StoredDeadLetter, LedgerError> {
    let stream: String = get(row, "stream")?;
    Ok(StoredDeadLetter {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        stream: stream_name(&stream).to_owned(),
        partition: get(row, "partition")?,
        reason: get(row, "reason")?,
        path: get(row, "path")?,
        sample: get(row, "sample")?,
        seen: count(row, "seen")?,
        first: timestamp(row, "first_ms")?,
        last: timestamp(row, "last_ms")?,
        raw: raw_ref(row)?,
    })
}
