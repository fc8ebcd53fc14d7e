//! Replaces what identifies stored transactions, in pieces.

use rusqlite::params;

use super::codec::{OperationName, get};
use super::database::SqliteLedger;
use super::lease::assert_held;
use super::read::record;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::record::ReplaceIdentity;

const REPLACE: OperationName = OperationName("replacing account tokens");

impl SqliteLedger {
    pub(super) async fn identities_replace(
        &self,
        lease: &Lease,
        after: i64,
        limit: u32,
        replace: ReplaceIdentity,
    ) -> Result<Option<i64>, LedgerError> {
        let lease = lease.clone();
        self.write(REPLACE, move |tx| {
            // Rows that become one are deleted: a process that was replaced must not do that.
            assert_held(tx, &lease)?;
            let rows = tx.query_all(
                "SELECT id, account_token, record_key, key_quality, account, booked_on, booked_ms, booked_text, granularity, \
                 amount, amount_minor, currency, status, counterparty, narration, category, value_on, value_ms, \
                 value_text, value_granularity, supersedes
                 FROM transactions WHERE id > ?1 ORDER BY id LIMIT ?2",
                params![after, limit],
                |row| Ok((get::<i64>(row, "id")?, record(row)?)),
            )?;
            for (id, record) in &rows {
                let Some(identity) = replace(record) else { continue };
                tx.execute(
                    "UPDATE OR REPLACE transactions SET account_token = ?2, record_key = ?3 WHERE id = ?1",
                    params![id, identity.account_token, identity.record_key],
                )?;
            }
            Ok(rows.last().map(|(id, _)| *id))
        })
        .await
    }
}
