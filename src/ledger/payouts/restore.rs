//! What happens to payouts when newer entries of the ledger were lost: they wait for a person, because attempts may be
//! missing.

use std::sync::Arc;

use jiff::Timestamp;

use super::act::PayoutAct;
use super::commit::PayoutCommit;
use super::outcome::PayoutOutcome;
use super::store::Payouts;
use super::stored::StoredPayout;
use crate::domain::payout::{PayoutInput, apply, payout_events};
use crate::ledger::decisions::entry::{DecisionBatch, NewEntry};
use crate::ledger::decisions::outcome::EntryOutcome;
use crate::ledger::error::LedgerError;

/// Payouts of one transaction.
const PIECE: u32 = 200;
/// Transactions of one call: far more payouts than are open at a time.
const MAX_PIECES: u32 = 10_000;
/// Who holds them, in the audit.
const SUBJECT: &str = "busbar";

/// Puts every payout that was not executed under review. Returns how many were; it can be repeated, also by another
/// replica at the same time, and ends at once if no entries were lost.
///
/// # Errors
/// Some payouts may be under review then, and others not.
pub async fn hold_open_payouts<L: Payouts + ?Sized>(ledger: &L, now: Timestamp) -> Result<u64, LedgerError> {
    let mut held = 0;
    for _ in 0..MAX_PIECES {
        let payouts = ledger.unreviewed_payouts(PIECE).await?;
        if payouts.is_empty() {
            break;
        }
        let entries = payouts.iter().map(|stored| NewEntry::Payout(Box::new(review(stored, now)))).collect();
        let outcomes = ledger.commit_decisions(Arc::new(DecisionBatch { entries })).await?;
        // One that changed meanwhile is read again with the next piece.
        let is_held = |outcome: &&EntryOutcome| matches!(outcome, EntryOutcome::Payout(PayoutOutcome::Stored { .. }));
        held += outcomes.iter().filter(is_held).count() as u64;
    }
    Ok(held)
}

/// The commit that puts a payout under review. It is one also where nothing changes: it says that the payout was looked at.
fn review(stored: &StoredPayout, now: Timestamp) -> PayoutCommit {
    let applied = apply(&stored.payout, &PayoutInput::RestoreWithLoss, now);
    let commit = PayoutCommit::new(PayoutAct::Restore, SUBJECT, stored.version, &applied, now);
    // What belongs to one payout is found by the ID of its first attempt.
    let correlation_id = applied.payout.attempts.first().map(|first| first.attempt_id).unwrap_or_default();
    let events = payout_events(commit.version(), &applied, correlation_id);
    commit.with_events(events)
}
