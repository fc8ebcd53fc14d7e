//! Which transaction answers which method.

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::params;
use uuid::Uuid;

use super::{load, read};
use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;
use crate::ledger::payouts::{DuePayout, PayoutCounts, PayoutFilter, PayoutPage, Payouts, StoredPayout, TimelineRow};
use crate::ledger::sqlite::codec::{OperationName, millis};
use crate::ledger::sqlite::database::SqliteLedger;
use crate::ledger::sqlite::lease::assert_held;

const READ: OperationName = OperationName("reading a payout");
const LIST: OperationName = OperationName("listing payouts");
const DUE: OperationName = OperationName("reading payouts that are due");
const COUNT: OperationName = OperationName("counting payouts");
const SUSPENDED: OperationName = OperationName("reading whether payouts are suspended");
const PRUNE: OperationName = OperationName("pruning payouts");

impl Payouts for SqliteLedger {
    fn payout<'a>(&'a self, namespace: &'a str, payout_id: &'a str) -> LedgerFuture<'a, Option<StoredPayout>> {
        let (namespace, payout_id) = (namespace.to_owned(), payout_id.to_owned());
        self.read(READ, move |tx| load::one(tx, &namespace, &payout_id)).boxed()
    }

    fn payout_by_attempt(&self, id: Uuid) -> LedgerFuture<'_, Option<StoredPayout>> {
        self.read(READ, move |tx| read::by_attempt(tx, id)).boxed()
    }

    fn payout_timeline<'a>(
        &'a self,
        namespace: &'a str,
        payout_id: &'a str,
        after_seq: u64,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<TimelineRow>> {
        let (namespace, payout_id) = (namespace.to_owned(), payout_id.to_owned());
        self.read(READ, move |tx| read::timeline_of(tx, &namespace, &payout_id, after_seq, limit)).boxed()
    }

    fn list_payouts<'a>(
        &'a self,
        filter: &'a PayoutFilter,
        before: Option<u64>,
        limit: u32,
    ) -> LedgerFuture<'a, PayoutPage> {
        let filter = filter.clone();
        self.read(LIST, move |tx| read::list(tx, &filter, before, limit)).boxed()
    }

    fn due_payouts<'a>(
        &'a self,
        now: Timestamp,
        after: Option<&'a DuePayout>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<DuePayout>> {
        let after = after.cloned();
        self.read(DUE, move |tx| read::due(tx, now, after.as_ref(), limit)).boxed()
    }

    fn next_payout_due(&self) -> LedgerFuture<'_, Option<Timestamp>> {
        self.read(DUE, read::next_due).boxed()
    }

    fn payout_counts(&self) -> LedgerFuture<'_, PayoutCounts> {
        self.read(COUNT, read::counts).boxed()
    }

    fn unreviewed_payouts(&self, limit: u32) -> LedgerFuture<'_, Vec<StoredPayout>> {
        // After what was written: a payout that was just reviewed must not be found again.
        self.read_in_order(LIST, move |tx| read::unreviewed(tx, limit)).boxed()
    }

    fn payouts_suspended(&self) -> LedgerFuture<'_, bool> {
        self.read_in_order(SUSPENDED, |tx| Ok(load::restores(tx)?.suspended)).boxed()
    }

    fn prune_payouts<'a>(&'a self, lease: &'a Lease, before: Timestamp, limit: u32) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            assert_held(tx, &lease)?;
            tx.execute(
                "DELETE FROM payouts WHERE (namespace, payout_id) IN (
                     SELECT namespace, payout_id FROM payouts WHERE final AND updated_ms < ?1
                     ORDER BY updated_ms LIMIT ?2)",
                params![millis(before), limit],
            )
        })
        .boxed()
    }
}
