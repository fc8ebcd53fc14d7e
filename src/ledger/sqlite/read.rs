//! Queries on stored rows, for the command line and tests. Never used to decide what to write.

use std::str::FromStr;

use jiff::civil::Date;
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use rust_decimal::Decimal;

use super::codec::{OperationName, get, instant, instant_opt, stored_enum};
use super::connection::Transaction;
use super::database::SqliteLedger;
use crate::domain::record::{BookingTime, Granularity, KeyQuality, RowStatus, TransactionRecord};
use crate::ledger::error::LedgerError;
use crate::ledger::record::{StoredTransaction, TransactionFilter};

const LIST: OperationName = OperationName("listing transactions");
const COUNT: OperationName = OperationName("counting transactions");
const DEAD: OperationName = OperationName("counting dead letters");

const COLUMNS: &str = "SELECT t.namespace, t.connection, t.partition, x.account_token, x.record_key, x.key_quality, \
     x.account, x.booked_on, x.booked_ms, x.booked_text, x.granularity, x.amount, x.amount_minor, x.currency, \
     x.status, x.counterparty, x.narration, x.category, x.value_on, x.value_ms, x.value_text, x.value_granularity, \
     x.supersedes, x.revision, x.run_id, x.created_ms, x.updated_ms \
     FROM transactions x JOIN streams t ON t.id = x.stream_id WHERE 1 = 1";

impl SqliteLedger {
    pub(super) async fn transactions(
        &self,
        filter: &TransactionFilter,
        limit: u32,
    ) -> Result<Vec<StoredTransaction>, LedgerError> {
        let query = Query::new(COLUMNS)
            .of_streams(filter)
            .of_days(filter)
            .tail(" ORDER BY x.booked_on DESC, x.booked_ms DESC, x.id DESC LIMIT ", limit);
        self.read(LIST, move |tx| query.all(tx, stored)).await
    }

    pub(super) async fn transaction_count(&self, filter: &TransactionFilter) -> Result<u64, LedgerError> {
        let query = Query::new("SELECT count(*) FROM transactions x JOIN streams t ON t.id = x.stream_id WHERE 1 = 1")
            .of_streams(filter)
            .of_days(filter);
        self.read(COUNT, move |tx| query.count(tx)).await
    }

    pub(super) async fn dead_letter_count(&self, filter: &TransactionFilter) -> Result<u64, LedgerError> {
        let query = Query::new(
            "SELECT count(*) FROM dead_letters x JOIN streams t ON t.id = x.stream_id WHERE x.resolved_ms IS NULL",
        )
        .of_streams(filter);
        self.read(DEAD, move |tx| query.count(tx)).await
    }
}

/// A query whose conditions depend on a filter.
pub(super) struct Query {
    sql: String,
    params: Vec<Value>,
}

impl Query {
    pub(super) fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), params: Vec::new() }
    }

    /// Restricts it to the streams of the filter.
    pub(super) fn of_streams(mut self, filter: &TransactionFilter) -> Self {
        let equal = [
            (" AND t.namespace = ", &filter.namespace),
            (" AND t.connection = ", &filter.connection),
            // Without the source.
            (" AND substr(t.stream, 1, instr(t.stream || '#', '#') - 1) = ", &filter.stream),
            (" AND t.partition = ", &filter.partition),
        ];
        for (clause, value) in equal {
            if let Some(value) = value {
                self = self.tail(clause, value.clone());
            }
        }
        self
    }

    fn of_days(mut self, filter: &TransactionFilter) -> Self {
        // Days are stored as YYYY-MM-DD, so text order is date order.
        if let Some(from) = filter.from {
            self = self.tail(" AND x.booked_on >= ", from.to_string());
        }
        if let Some(to) = filter.to {
            self = self.tail(" AND x.booked_on <= ", to.to_string());
        }
        self
    }

    /// Appends SQL and a parameter.
    pub(super) fn tail(mut self, sql: &str, param: impl Into<Value>) -> Self {
        self.sql.push_str(sql);
        self.sql.push('?');
        self.params.push(param.into());
        self
    }

    /// All rows, decoded.
    pub(super) fn all<T>(
        self,
        tx: &Transaction<'_>,
        decode: impl FnMut(&Row<'_>) -> Result<T, LedgerError>,
    ) -> Result<Vec<T>, LedgerError> {
        tx.query_all(&self.sql, params_from_iter(self.params), decode)
    }

    /// The only value, a count.
    pub(super) fn count(self, tx: &Transaction<'_>) -> Result<u64, LedgerError> {
        let count: i64 = tx.scalar(&self.sql, params_from_iter(self.params))?;
        u64::try_from(count).map_err(|_| LedgerError::Corrupt { column: "count" })
    }
}

fn stored(row: &Row<'_>) -> Result<StoredTransaction, LedgerError> {
    Ok(StoredTransaction {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        partition: get(row, "partition")?,
        record: record(row)?,
        revision: get(row, "revision")?,
        run_id: get(row, "run_id")?,
        created: instant(get(row, "created_ms")?, "transactions.created_ms")?,
        updated: instant(get(row, "updated_ms")?, "transactions.updated_ms")?,
    })
}

pub(super) fn record(row: &Row<'_>) -> Result<TransactionRecord, LedgerError> {
    let quality: String = get(row, "key_quality")?;
    let granularity: String = get(row, "granularity")?;
    let value_granularity: Option<String> = get(row, "value_granularity")?;
    let valued = match value_granularity {
        Some(granularity) => Some(BookingTime {
            on: parsed::<Date>(row, "value_on")?,
            at: instant_opt(get(row, "value_ms")?, "transactions.value_ms")?,
            text: get(row, "value_text")?,
            granularity: stored_enum(
                &Granularity::ALL,
                Granularity::as_str,
                &granularity,
                "transactions.value_granularity",
            )?,
        }),
        None => None,
    };
    let status: String = get(row, "status")?;
    Ok(TransactionRecord {
        account_token: get(row, "account_token")?,
        key: get(row, "record_key")?,
        key_quality: stored_enum(&KeyQuality::ALL, KeyQuality::as_str, &quality, "transactions.key_quality")?,
        account: get(row, "account")?,
        booked: BookingTime {
            on: parsed::<Date>(row, "booked_on")?,
            at: instant_opt(get(row, "booked_ms")?, "transactions.booked_ms")?,
            text: get(row, "booked_text")?,
            granularity: stored_enum(&Granularity::ALL, Granularity::as_str, &granularity, "transactions.granularity")?,
        },
        amount: parsed::<Decimal>(row, "amount")?,
        amount_minor: parsed::<i128>(row, "amount_minor")?,
        currency: get(row, "currency")?,
        status: stored_enum(&RowStatus::ALL, RowStatus::as_str, &status, "transactions.status")?,
        counterparty: get(row, "counterparty")?,
        narration: get(row, "narration")?,
        category: get(row, "category")?,
        supersedes: get(row, "supersedes")?,
        valued,
    })
}

fn parsed<T: FromStr>(row: &Row<'_>, column: &'static str) -> Result<T, LedgerError> {
    let text: String = get(row, column)?;
    text.parse().map_err(|_| LedgerError::Corrupt { column })
}
