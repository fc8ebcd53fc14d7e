//! What the forecast keeps of external scorers.

use futures::FutureExt as _;
use rusqlite::params;

use super::codec::{OperationName, get, instant, millis};
use super::database::SqliteLedger;
use crate::ledger::error::LedgerFuture;
use crate::ledger::scores::{Scores, StoredScore};

const PUT: OperationName = OperationName("storing scores");
const READ: OperationName = OperationName("reading scores");

impl Scores for SqliteLedger {
    fn put_scores<'a>(&'a self, scores: &'a [StoredScore]) -> LedgerFuture<'a, ()> {
        let scores = scores.to_vec();
        self.write(PUT, move |tx| {
            for StoredScore { namespace, connection, source, body, updated } in &scores {
                tx.execute(
                    "INSERT INTO route_scores (namespace, connection, source, updated_ms, body)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (namespace, connection, source) DO UPDATE SET
                         updated_ms = excluded.updated_ms, body = excluded.body
                     WHERE excluded.updated_ms >= route_scores.updated_ms",
                    params![namespace, connection, source, millis(*updated), body],
                )?;
            }
            Ok(())
        })
        .boxed()
    }

    fn scores(&self) -> LedgerFuture<'_, Vec<StoredScore>> {
        self.read(READ, |tx| {
            tx.query_all(
                "SELECT namespace, connection, source, updated_ms, body FROM route_scores
                 ORDER BY namespace, connection, source",
                [],
                |row| {
                    Ok(StoredScore {
                        namespace: get(row, "namespace")?,
                        connection: get(row, "connection")?,
                        source: get(row, "source")?,
                        body: get(row, "body")?,
                        updated: instant(get(row, "updated_ms")?, "route_scores.updated_ms")?,
                    })
                },
            )
        })
        .boxed()
    }
}
