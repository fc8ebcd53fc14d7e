//! What the forecast keeps of external scorers.

use futures::FutureExt as _;
use sqlx::postgres::PgRow;
use sqlx::query;

use super::codec::{get, millis, timestamp};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::transaction::{read_tx, write_tx};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::scores::{Scores, StoredScore};

const PUT: OperationName = OperationName("storing scores");
const READ: OperationName = OperationName("reading scores");

impl Scores for PostgresLedger {
    fn put_scores<'a>(&'a self, scores: &'a [StoredScore]) -> LedgerFuture<'a, ()> {
        async move {
            write_tx!(self, PUT, |tx| {
                for StoredScore { namespace, connection, source, body, updated } in scores {
                    let statement = query(
                        "INSERT INTO route_scores (namespace, connection, source, updated_ms, body)
                         VALUES ($1, $2, $3, $4, $5)
                         ON CONFLICT (namespace, connection, source) DO UPDATE SET
                             updated_ms = excluded.updated_ms, body = excluded.body
                     WHERE excluded.updated_ms >= route_scores.updated_ms",
                    );
                    let statement = statement.bind(namespace).bind(connection).bind(source);
                    tx.execute(statement.bind(millis(*updated)).bind(body)).await?;
                }
                Ok(())
            })
        }
        .boxed()
    }

    fn scores(&self) -> LedgerFuture<'_, Vec<StoredScore>> {
        async move {
            let rows = read_tx!(self, READ, |tx| {
                tx.fetch_all(query(
                    "SELECT namespace, connection, source, updated_ms, body FROM route_scores
                     ORDER BY namespace, connection, source",
                ))
                .await
            })?;
            rows.iter().map(decode).collect()
        }
        .boxed()
    }
}

fn decode(row: &PgRow) -> Result<StoredScore, LedgerError> {
    Ok(StoredScore {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        source: get(row, "source")?,
        body: get(row, "body")?,
        updated: timestamp(row, "updated_ms")?,
    })
}
