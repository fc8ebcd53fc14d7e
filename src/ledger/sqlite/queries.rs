//! Queries for the command line.

use futures::FutureExt as _;
use rusqlite::Row;

use super::codec::{OperationName, count, get, instant};
use super::database::SqliteLedger;
use super::dead_letters::raw_ref;
use super::read::Query;
use super::runs::{RUN_COLUMNS, run_record};
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

impl Queries for SqliteLedger {
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
        let query = Query::new(documents::SELECT)
            .of_streams(filter)
            .tail(" ORDER BY x.updated_ms DESC, x.id DESC LIMIT ", limit);
        self.read(DOCUMENTS, move |tx| query.all(tx, documents::stored)).boxed()
    }

    fn newest_dead_letters<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredDeadLetter>> {
        let query = Query::new(
            "SELECT t.namespace, t.connection, t.stream, t.partition, x.reason, x.path, x.sample, \
             x.seen, x.first_ms, x.last_ms, x.raw_ref, r.mode, r.expires_ms FROM dead_letters x \
             JOIN streams t ON t.id = x.stream_id LEFT JOIN raw_payloads r ON r.id = x.raw_ref WHERE x.resolved_ms IS NULL",
        )
        .of_streams(filter)
        .tail(" ORDER BY x.last_ms DESC, x.id DESC LIMIT ", limit);
        self.read(LETTERS, move |tx| query.all(tx, dead_letter)).boxed()
    }

    fn money_totals(&self) -> LedgerFuture<'_, Vec<MoneyTotal>> {
        self.read(money_totals::TOTALS, money_totals::totals).boxed()
    }

    fn newest_runs<'a>(
        &'a self,
        namespace: Option<&'a str>,
        job: Option<&'a str>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredRun>> {
        let mut query = Query::new(&format!("SELECT namespace, job, {RUN_COLUMNS} FROM sync_runs WHERE 1 = 1"));
        for (clause, value) in [(" AND namespace = ", namespace), (" AND job = ", job)] {
            if let Some(value) = value {
                query = query.tail(clause, value.to_owned());
            }
        }
        // By time, because runs of several jobs have no other order.
        let query = query.tail(" ORDER BY started_ms DESC, seq DESC, run_id LIMIT ", limit);
        self.read(RUNS, move |tx| query.all(tx, stored_run)).boxed()
    }
}

fn stored_run(row: &Row<'_>) -> Result<StoredRun, LedgerError> {
    let (namespace, job): (String, String) = (get(row, "namespace")?, get(row, "job")?);
    Ok(StoredRun { job: ObjectKey::new(namespace, job), run: run_record(row)? })
}

fn dead_letter(row: &Row<'_>) -> Result<StoredDeadLetter, LedgerError> {
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
        first: instant(get(row, "first_ms")?, "dead_letters.first_ms")?,
        last: instant(get(row, "last_ms")?, "dead_letters.last_ms")?,
        raw: raw_ref(row)?,
    })
}
