//! Queries on stored rows, for the command line and tests. Never used to decide what to write.

use std::str::FromStr;

use jiff::civil::Date;
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;

use super::codec::{get, small, stored_enum, timestamp, timestamp_opt};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::select::Select;
use super::transaction::read_tx;
use crate::domain::record::{BookingTime, Granularity, KeyQuality, RowStatus, TransactionRecord};
use crate::ledger::error::LedgerError;
use crate::ledger::record::{StoredTransaction, TransactionFilter};

const LIST: OperationName = OperationName("listing transactions");
const COUNT: OperationName = OperationName("counting transactions");
const DEAD: OperationName = OperationName("counting dead letters");

/// The columns of a [`record`].
pub(super) const RECORD: &str = "x.account_token, x.record_key, x.key_quality, x.account, x.booked_on, x.booked_ms, \
     x.booked_text, x.granularity, x.amount::text AS amount, x.amount_minor::text AS amount_minor, x.currency, x.status, \
     x.counterparty, x.narration, x.category, x.value_on, x.value_ms, x.value_text, x.value_granularity, x.supersedes";

impl PostgresLedger {
    pub(super) async fn transactions(
        &self,
        filter: &TransactionFilter,
        limit: u32,
    ) -> Result<Vec<StoredTransaction>, LedgerError> {
        let select = format!(
            "SELECT t.namespace, t.connection, t.partition, {RECORD}, x.revision, x.run_id, x.created_ms, x.updated_ms
             FROM transactions x JOIN streams t ON t.id = x.stream_id WHERE TRUE"
        );
        let select = Select::new(&select)
            .of_streams(filter)
            .of_days(filter)
            .number(" ORDER BY x.booked_on DESC, x.booked_ms DESC NULLS LAST, x.id DESC LIMIT ", limit);
        let rows = read_tx!(self, LIST, |tx| tx.fetch_all(select.statement()).await)?;
        rows.iter().map(stored).collect()
    }

    pub(super) async fn transaction_count(&self, filter: &TransactionFilter) -> Result<u64, LedgerError> {
        let select = Select::new("SELECT count(*) FROM transactions x JOIN streams t ON t.id = x.stream_id WHERE TRUE")
            .of_streams(filter)
            .of_days(filter);
        read_tx!(self, COUNT, |tx| select.count(tx).await)
    }

    pub(super) async fn dead_letter_count(&self, filter: &TransactionFilter) -> Result<u64, LedgerError> {
        let select = Select::new(
            "SELECT count(*) FROM dead_letters x JOIN streams t ON t.id = x.stream_id WHERE x.resolved_ms IS NULL",
        )
        .of_streams(filter);
        read_tx!(self, DEAD, |tx| select.count(tx).await)
    }
}

fn stored(row: &PgRow) -> Result<StoredTransaction, LedgerError> {
    Ok(StoredTransaction {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        partition: get(row, "partition")?,
        record: record(row)?,
        revision: small(row, "revision")?,
        run_id: get(row, "run_id")?,
        created: timestamp(row, "created_ms")?,
        updated: timestamp(row, "updated_ms")?,
    })
}

pub(super) fn record(row: &PgRow) -> Result<TransactionRecord, LedgerError> {
    let quality: String = get(row, "key_quality")?;
    let granularity: String = get(row, "granularity")?;
    let value_granularity: Option<String> = get(row, "value_granularity")?;
    let valued = match value_granularity {
        Some(granularity) => Some(BookingTime {
            on: parsed::<Date>(row, "value_on")?,
            at: timestamp_opt(row, "value_ms")?,
            text: get(row, "value_text")?,
            granularity: stored_enum(&Granularity::ALL, Granularity::as_str, &granularity, "value_granularity")?,
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
            at: timestamp_opt(row, "booked_ms")?,
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

fn parsed<T: FromStr>(row: &PgRow, column: &'static str) -> Result<T, LedgerError> {
    let text: String = get(row, column)?;
    text.parse().map_err(|_| LedgerError::Corrupt { column })
}
