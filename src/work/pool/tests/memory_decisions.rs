//! What the pool never asks a ledger for: decisions, payouts and scores.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::memory_ledger::{MemoryLedger, unused};
use crate::domain::decision::{AttemptKey, DayUsage, Hash};
use crate::ledger::decisions::{
    ChainEnds, ChainEntry, DecisionBatch, DecisionFilter, DecisionPage, Decisions, EntryOutcome, LimitDay,
    ProposalFilter, RouteAdjustment, StoredDecision, StoredProposal,
};
use crate::ledger::payouts::{DuePayout, PayoutCounts, PayoutFilter, PayoutPage, Payouts, StoredPayout, TimelineRow};
use crate::ledger::scores::{Scores, StoredScore};
use crate::ledger::{Lease, LedgerFuture};

impl Decisions for MemoryLedger {
    fn commit_decisions(&self, _: Arc<DecisionBatch>) -> LedgerFuture<'_, Vec<EntryOutcome>> {
        unused()
    }

    fn decision(&self, _: Uuid) -> LedgerFuture<'_, Option<StoredDecision>> {
        unused()
    }

    fn decision_by_key<'a>(&'a self, _: &'a AttemptKey) -> LedgerFuture<'a, Option<StoredDecision>> {
        unused()
    }

    fn attempts<'a>(&'a self, _: &'a str, _: &'a str) -> LedgerFuture<'a, Vec<StoredDecision>> {
        unused()
    }

    fn list_decisions<'a>(&'a self, _: &'a DecisionFilter, _: Option<u64>, _: u32) -> LedgerFuture<'a, DecisionPage> {
        unused()
    }

    fn snapshot(&self, _: Hash) -> LedgerFuture<'_, Option<Vec<u8>>> {
        unused()
    }

    fn day_usages<'a>(&'a self, _: &'a [LimitDay]) -> LedgerFuture<'a, Vec<DayUsage>> {
        unused()
    }

    fn adjustments<'a>(&'a self, _: Option<&'a str>, _: Timestamp) -> LedgerFuture<'a, Vec<RouteAdjustment>> {
        unused()
    }

    fn proposals<'a>(&'a self, _: &'a ProposalFilter) -> LedgerFuture<'a, Vec<StoredProposal>> {
        unused()
    }

    fn chain(&self, _: u64, _: u32) -> LedgerFuture<'_, Vec<ChainEntry>> {
        unused()
    }

    fn chain_head(&self) -> LedgerFuture<'_, ChainEnds> {
        unused()
    }

    fn checkpoint_decisions<'a>(&'a self, _: &'a Lease, _: Timestamp, _: u32, _: Timestamp) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl Payouts for MemoryLedger {
    fn payout<'a>(&'a self, _: &'a str, _: &'a str) -> LedgerFuture<'a, Option<StoredPayout>> {
        unused()
    }

    fn payout_by_attempt(&self, _: Uuid) -> LedgerFuture<'_, Option<StoredPayout>> {
        unused()
    }

    fn payout_timeline<'a>(&'a self, _: &'a str, _: &'a str, _: u64, _: u32) -> LedgerFuture<'a, Vec<TimelineRow>> {
        unused()
    }

    fn list_payouts<'a>(&'a self, _: &'a PayoutFilter, _: Option<u64>, _: u32) -> LedgerFuture<'a, PayoutPage> {
        unused()
    }

    fn due_payouts<'a>(&'a self, _: Timestamp, _: Option<&'a DuePayout>, _: u32) -> LedgerFuture<'a, Vec<DuePayout>> {
        unused()
    }

    fn next_payout_due(&self) -> LedgerFuture<'_, Option<Timestamp>> {
        unused()
    }

    fn payout_counts(&self) -> LedgerFuture<'_, PayoutCounts> {
        unused()
    }

    fn unreviewed_payouts(&self, _: u32) -> LedgerFuture<'_, Vec<StoredPayout>> {
        unused()
    }

    fn payouts_suspended(&self) -> LedgerFuture<'_, bool> {
        unused()
    }

    fn prune_payouts<'a>(&'a self, _: &'a Lease, _: Timestamp, _: u32) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl Scores for MemoryLedger {
    fn put_scores<'a>(&'a self, _: &'a [StoredScore]) -> LedgerFuture<'a, ()> {
        unused()
    }

    fn scores(&self) -> LedgerFuture<'_, Vec<StoredScore>> {
        unused()
    }
}
