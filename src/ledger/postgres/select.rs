//! A query whose conditions depend on a filter.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use super::transaction::Transaction;
use crate::ledger::error::LedgerError;
use crate::ledger::record::TransactionFilter;

/// A query with its parameters.
pub(super) struct Select {
    sql: String,
    params: Vec<Param>,
}

enum Param {
    Text(String),
    Number(i64),
}

impl Select {
    pub(super) fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), params: Vec::new() }
    }

    /// Restricts it to the streams `t` of the filter.
    pub(super) fn of_streams(mut self, filter: &TransactionFilter) -> Self {
        let equal = [
            (" AND t.namespace = ", &filter.namespace),
            (" AND t.connection = ", &filter.connection),
            // Without the source.
            (" AND split_part(t.stream, '#', 1) = ", &filter.stream),
            (" AND t.partition = ", &filter.partition),
        ];
        for (clause, value) in equal {
            if let Some(value) = value {
                self = self.text(clause, value.clone());
            }
        }
        self
    }

    /// Restricts it to the days of the filter.
    pub(super) fn of_days(mut self, filter: &TransactionFilter) -> Self {
        // Days are stored as YYYY-MM-DD, so text order is date order.
        if let Some(from) = filter.from {
            self = self.text(" AND x.booked_on >= ", from.to_string());
        }
        if let Some(to) = filter.to {
            self = self.text(" AND x.booked_on <= ", to.to_string());
        }
        self
    }

    /// Appends SQL and a text.
    pub(super) fn text(self, sql: &str, value: String) -> Self {
        self.tail(sql, Param::Text(value))
    }

    /// Appends SQL and a number.
    pub(super) fn number(self, sql: &str, value: impl Into<i64>) -> Self {
        self.tail(sql, Param::Number(value.into()))
    }

    fn tail(mut self, sql: &str, param: Param) -> Self {
        self.params.push(param);
        self.sql = format!("{}{sql}${}", self.sql, self.params.len());
        self
    }

    /// As a statement.
    pub(super) fn statement(&self) -> Query<'_, Postgres, PgArguments> {
        self.params.iter().fold(sqlx::query(AssertSqlSafe(self.sql.clone())), |statement, param| match param {
            Param::Text(text) => statement.bind(text),
            Param::Number(number) => statement.bind(number),
        })
    }

    /// The only value, a count.
    pub(super) async fn count(&self, tx: &mut Transaction) -> Result<u64, LedgerError> {
        let count: i64 = tx.scalar(self.statement()).await?;
        u64::try_from(count).map_err(|_| LedgerError::Corrupt { column: "count" })
    }
}
