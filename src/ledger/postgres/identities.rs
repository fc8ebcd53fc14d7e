//! Replaces what identifies stored transactions, in pieces.

use sqlx::{AssertSqlSafe, query};

use super::codec::get;
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::read::{RECORD, record};
use super::transaction::{Transaction, write_tx};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::record::{ReplaceIdentity, RowIdentity};

const REPLACE: OperationName = OperationName("replacing account tokens");

impl PostgresLedger {
    pub(super) async fn identities_replace(
        &self,
        lease: &Lease,
        after: i64,
        limit: u32,
        replace: ReplaceIdentity,
    ) -> Result<Option<i64>, LedgerError> {
        write_tx!(self, REPLACE, |tx| replace_piece(tx, lease, after, limit, &replace).await)
    }
}

async fn replace_piece(
    tx: &mut Transaction,
    lease: &Lease,
    after: i64,
    limit: u32,
    replace: &ReplaceIdentity,
) -> Result<Option<i64>, LedgerError> {
    assert_held(tx, lease).await?;
    let sql = format!("SELECT x.id, {RECORD} FROM transactions x WHERE x.id > $1 ORDER BY x.id LIMIT $2");
    let rows = tx.fetch_all(query(AssertSqlSafe(sql)).bind(after).bind(i64::from(limit))).await?;
    let mut last = None;
    for row in &rows {
        let id: i64 = get(row, "id")?;
        last = Some(id);
        if let Some(identity) = replace(&record(row)?) {
            replace_one(tx, id, &identity).await?;
        }
    }
    Ok(last)
}

/// Gives a row another identity; a row that has it already is replaced.
async fn replace_one(tx: &mut Transaction, id: i64, identity: &RowIdentity) -> Result<(), LedgerError> {
    let statement = query(
        "DELETE FROM transactions o USING transactions n
         WHERE n.id = $1 AND o.id <> n.id AND o.stream_id = n.stream_id AND o.account_token = $2 AND o.record_key = $3",
    );
    tx.execute(statement.bind(id).bind(&identity.account_token).bind(&identity.record_key)).await?;
    let statement = query("UPDATE transactions SET account_token = $2, record_key = $3 WHERE id = $1");
    tx.execute(statement.bind(id).bind(&identity.account_token).bind(&identity.record_key)).await.map(drop)
}
