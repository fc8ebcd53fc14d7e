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
use crate::ledger::postgres::database::PostgresLedger;
use crate::ledger::postgres::failure::OperationName;
use crate::ledger::postgres::transaction::{read_tx, write_tx};

const COMMIT: OperationName = OperationName("committing decisions");
const READ: OperationName = OperationName("reading a decision");
const LIST: OperationName = OperationName("listing decisions");
const USAGE: OperationName = OperationName("reading daily limits");
const CHANGES: OperationName = OperationName("reading adjustments and proposals");
const CHAIN: OperationName = OperationName("reading the decisions' chain");
const CHECKPOINT: OperationName = OperationName("pruning decisions");

impl Decisions for PostgresLedger {
    fn commit_decisions(&self, batch: Arc<DecisionBatch>) -> LedgerFuture<'_, Vec<EntryOutcome>> {
        async move { write_tx!(self, COMMIT, |tx| commit::commit(tx, &batch).await) }.boxed()
    }

    fn decision(&self, id: Uuid) -> LedgerFuture<'_, Option<StoredDecision>> {
        async move {
            read_tx!(self, READ, |tx| {
                let mut rows = load::entries(tx, &[id]).await?;
                rows.retain(|row| row.columns.payout_id.is_some());
                Ok(load::decisions(tx, rows).await?.pop())
            })
        }
        .boxed()
    }

    fn decision_by_key<'a>(&'a self, key: &'a AttemptKey) -> LedgerFuture<'a, Option<StoredDecision>> {
        async move {
            let attempts = self.attempts(&key.namespace, &key.payout_id).await?;
            Ok(attempts.into_iter().find(|decision| decision.key.attempt_no == key.attempt_no))
        }
        .boxed()
    }

    fn attempts<'a>(&'a self, namespace: &'a str, payout_id: &'a str) -> LedgerFuture<'a, Vec<StoredDecision>> {
        async move { read_tx!(self, READ, |tx| load::attempts(tx, namespace, payout_id).await) }.boxed()
    }

    fn list_decisions<'a>(
        &'a self,
        filter: &'a DecisionFilter,
        before: Option<u64>,
        limit: u32,
    ) -> LedgerFuture<'a, DecisionPage> {
        async move { read_tx!(self, LIST, |tx| list::list(tx, filter, before, limit).await) }.boxed()
    }

    fn snapshot(&self, id: Hash) -> LedgerFuture<'_, Option<Vec<u8>>> {
        async move { read_tx!(self, READ, |tx| read::snapshot(tx, &id).await) }.boxed()
    }

    fn day_usages<'a>(&'a self, days: &'a [LimitDay]) -> LedgerFuture<'a, Vec<DayUsage>> {
        async move { read_tx!(self, USAGE, |tx| read::usages(tx, days).await) }.boxed()
    }

    fn adjustments<'a>(&'a self, namespace: Option<&'a str>, now: Timestamp) -> LedgerFuture<'a, Vec<RouteAdjustment>> {
        async move { read_tx!(self, CHANGES, |tx| read::adjustments(tx, namespace, now).await) }.boxed()
    }

    fn proposals<'a>(&'a self, filter: &'a ProposalFilter) -> LedgerFuture<'a, Vec<StoredProposal>> {
        async move { read_tx!(self, CHANGES, |tx| read::proposals(tx, filter).await) }.boxed()
    }

    fn chain(&self, after_seq: u64, limit: u32) -> LedgerFuture<'_, Vec<ChainEntry>> {
        async move { read_tx!(self, CHAIN, |tx| read::chain(tx, after_seq, limit).await) }.boxed()
    }

    fn chain_head(&self) -> LedgerFuture<'_, ChainEnds> {
        async move { read_tx!(self, CHAIN, |tx| load::head(tx).await) }.boxed()
    }

    fn checkpoint_decisions<'a>(
        &'a self,
        lease: &'a Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> LedgerFuture<'a, u64> {
        async move { write_tx!(self, CHECKPOINT, |tx| checkpoint::checkpoint(tx, lease, before, limit, now).await) }
            .boxed()
    }
}
