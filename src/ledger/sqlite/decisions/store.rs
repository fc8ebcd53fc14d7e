//! Which transaction answers which method.

use std::sync::Arc;

use futures::FutureExt as _;
use jiff::Timestamp;
use uuid::Uuid;

use super::{checkpoint, commit, list, load, read};
use crate::domain::decision::{AttemptKey, DayUsage, Hash};
use crate::ledger::decisions::{
    ChainEnds, ChainEntry, DecisionBatch, DecisionFilter, DecisionPage, Decisions, EntryOutcome, LimitDay,
    ProposalFilter, RouteAdjustment, StoredDecision, StoredProposal,
};
use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::codec::OperationName;
use crate::ledger::sqlite::database::SqliteLedger;

const COMMIT: OperationName = OperationName("committing decisions");
const READ: OperationName = OperationName("reading a decision");
const LIST: OperationName = OperationName("listing decisions");
const USAGE: OperationName = OperationName("reading daily limits");
const CHANGES: OperationName = OperationName("reading adjustments and proposals");
const CHAIN: OperationName = OperationName("reading the decisions' chain");
const CHECKPOINT: OperationName = OperationName("pruning decisions");

impl Decisions for SqliteLedger {
    fn commit_decisions(&self, batch: Arc<DecisionBatch>) -> LedgerFuture<'_, Vec<EntryOutcome>> {
        self.write(COMMIT, move |tx| commit::commit(tx, &batch)).boxed()
    }

    fn decision(&self, id: Uuid) -> LedgerFuture<'_, Option<StoredDecision>> {
        self.read(READ, move |tx| {
            let row = load::entry(tx, id)?.filter(|row| row.columns.payout_id.is_some());
            row.map(|row| load::decision(tx, row)).transpose()
        })
        .boxed()
    }

    fn decision_by_key<'a>(&'a self, key: &'a AttemptKey) -> LedgerFuture<'a, Option<StoredDecision>> {
        let AttemptKey { namespace, payout_id, attempt_no } = key.clone();
        self.read(READ, move |tx| {
            let attempts = load::attempts(tx, &namespace, &payout_id)?;
            Ok(attempts.into_iter().find(|decision| decision.key.attempt_no == attempt_no))
        })
        .boxed()
    }

    fn attempts<'a>(&'a self, namespace: &'a str, payout_id: &'a str) -> LedgerFuture<'a, Vec<StoredDecision>> {
        let (namespace, payout_id) = (namespace.to_owned(), payout_id.to_owned());
        self.read(READ, move |tx| load::attempts(tx, &namespace, &payout_id)).boxed()
    }

    fn list_decisions<'a>(
        &'a self,
        filter: &'a DecisionFilter,
        before: Option<u64>,
        limit: u32,
    ) -> LedgerFuture<'a, DecisionPage> {
        let filter = filter.clone();
        self.read(LIST, move |tx| list::list(tx, &filter, before, limit)).boxed()
    }

    fn snapshot(&self, id: Hash) -> LedgerFuture<'_, Option<Vec<u8>>> {
        self.read(READ, move |tx| read::snapshot(tx, &id)).boxed()
    }

    fn day_usages<'a>(&'a self, days: &'a [LimitDay]) -> LedgerFuture<'a, Vec<DayUsage>> {
        let days = days.to_vec();
        self.read(USAGE, move |tx| read::usages(tx, &days)).boxed()
    }

    fn adjustments<'a>(&'a self, namespace: Option<&'a str>, now: Timestamp) -> LedgerFuture<'a, Vec<RouteAdjustment>> {
        let namespace = namespace.map(str::to_owned);
        self.read(CHANGES, move |tx| read::adjustments(tx, namespace.as_deref(), now)).boxed()
    }

    fn proposals<'a>(&'a self, filter: &'a ProposalFilter) -> LedgerFuture<'a, Vec<StoredProposal>> {
        let filter = filter.clone();
        self.read(CHANGES, move |tx| read::proposals(tx, &filter)).boxed()
    }

    fn chain(&self, after_seq: u64, limit: u32) -> LedgerFuture<'_, Vec<ChainEntry>> {
        self.read(CHAIN, move |tx| read::chain(tx, after_seq, limit)).boxed()
    }

    fn chain_head(&self) -> LedgerFuture<'_, ChainEnds> {
        self.read(CHAIN, load::head).boxed()
    }

    fn checkpoint_decisions<'a>(
        &'a self,
        lease: &'a Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(CHECKPOINT, move |tx| checkpoint::checkpoint(tx, &lease, before, limit, now)).boxed()
    }
}
