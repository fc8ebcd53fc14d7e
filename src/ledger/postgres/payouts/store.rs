//! Which transaction answers which method.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::query;
use uuid::Uuid;

use super::{load, read};
use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;
use crate::ledger::payouts::{DuePayout, PayoutCounts, PayoutFilter, PayoutPage, Payouts, StoredPayout, TimelineRow};
use crate::ledger::postgres::codec::millis;
use crate::ledger::postgres::database::PostgresLedger;
use crate::ledger::postgres::failure::OperationName;
use crate::ledger::postgres::lease::assert_held;
use crate::ledger::postgres::transaction::{read_tx, write_tx};

const READ: OperationName = OperationName("reading a payout");
const LIST: OperationName = OperationName("listing payouts");
const DUE: OperationName = OperationName("reading payouts that are due");
const COUNT: OperationName = OperationName("counting payouts");
const SUSPENDED: OperationName = OperationName("reading whether payouts are suspended");
const PRUNE: OperationName = OperationName("pruning payouts");

impl Payouts for PostgresLedger {
    fn payout<'a>(&'a self, namespace: &'a str, payout_id: &'a str) -> LedgerFuture<'a, Option<StoredPayout>> {
        async move { read_tx!(self, READ, |tx| load::one(tx, namespace, payout_id).await) }.boxed()
    }

    fn payout_by_attempt(&self, id: Uuid) -> LedgerFuture<'_, Option<StoredPayout>> {
        async move { read_tx!(self, READ, |tx| read::by_attempt(tx, id).await) }.boxed()
    }

    fn payout_timeline<'a>(
        &'a self,
        namespace: &'a str,
        payout_id: &'a str,
        after_seq: u64,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<TimelineRow>> {
        async move { read_tx!(self, READ, |tx| read::timeline_of(tx, namespace, payout_id, after_seq, limit).await) }
            .boxed()
    }

    fn list_payouts<'a>(
        &'a self,
        filter: &'a PayoutFilter,
        before: Option<u64>,
        limit: u32,
    ) -> LedgerFuture<'a, PayoutPage> {
        async move { read_tx!(self, LIST, |tx| read::list(tx, filter, before, limit).await) }.boxed()
    }

    fn due_payouts<'a>(
        &'a self,
        now: Timestamp,
        after: Option<&'a DuePayout>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<DuePayout>> {
        async move { read_tx!(self, DUE, |tx| read::due(tx, now, after, limit).await) }.boxed()
    }

    fn next_payout_due(&self) -> LedgerFuture<'_, Option<Timestamp>> {
        async move { read_tx!(self, DUE, |tx| read::next_due(tx).await) }.boxed()
    }

    fn payout_counts(&self) -> LedgerFuture<'_, PayoutCounts> {
        async move { read_tx!(self, COUNT, |tx| read::counts(tx).await) }.boxed()
    }

    fn unreviewed_payouts(&self, limit: u32) -> LedgerFuture<'_, Vec<StoredPayout>> {
        async move { read_tx!(self, LIST, |tx| read::unreviewed(tx, limit).await) }.boxed()
    }

    fn payouts_suspended(&self) -> LedgerFuture<'_, bool> {
        async move { read_tx!(self, SUSPENDED, |tx| load::restores(tx).await.map(|restores| restores.suspended)) }
            .boxed()
    }

    fn prune_payouts<'a>(&'a self, lease: &'a Lease, before: Timestamp, limit: u32) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                let statement = query(
                    "DELETE FROM payouts p USING (
                         SELECT namespace, payout_id FROM payouts WHERE final AND updated_ms < $1
                         ORDER BY updated_ms LIMIT $2
                     ) AS old WHERE p.namespace = old.namespace AND p.payout_id = old.payout_id",
                );
                tx.execute(statement.bind(millis(before)).bind(i64::from(limit))).await
            })
        }
        .boxed()
    }
}
