//! When "not found" and "never received" prove that a bank did not execute an attempt (docs/payouts.md). Pure.
//!
//! A lagging replica answers "not found" for a payout that was executed, and a status request can overtake the payout
//! itself. So an answer counts only if its question was asked after the last possible submission, and never once the
//! bank has shown that it knows the payout.

use std::time::Duration;

use jiff::Timestamp;

use super::followed::Attempt;
use super::ladder::later;
use super::mutant;

/// Time after which what was accepted at the end of a day is booked, at the latest.
const BOOKED_WITHIN: Duration = Duration::from_hours(24);

/// Notes a "not found" that answers a question asked at `asked_at`.
pub(super) fn note_not_found(attempt: &mut Attempt, asked_at: Timestamp) {
    if attempt.bank_knows || asked_at < attempt.last_sent() {
        return;
    }
    let Some(since) = attempt.not_found_since else {
        attempt.not_found_since = Some(asked_at);
        return;
    };
    attempt.not_found_twice |= asked_at >= later(since, attempt.plan.promises.not_found_grace);
}

/// Forgets every "not found": the bank knows the payout, or may receive it again.
pub(super) fn forget_not_found(attempt: &mut Attempt) {
    attempt.not_found_since = None;
    attempt.not_found_twice = false;
}

/// Whether the "not found" noted so far, the last one asked at `asked_at`, prove that the bank will not execute the
/// attempt: the bank reads what it wrote and the payout had its time to arrive, or two that are far enough apart and a
/// recall by reference that the bank accepted, so that it refuses a payout that arrives later.
pub(super) fn is_not_found_proof(attempt: &Attempt, asked_at: Timestamp) -> bool {
    let promises = &attempt.plan.promises;
    if attempt.not_found_since.is_some() && mutant::is_one_not_found_proof() {
        return true;
    }
    if attempt.bank_knows || !promises.not_found_proof || attempt.not_found_since.is_none() {
        return false;
    }
    let had_time = asked_at >= later(attempt.last_sent(), promises.not_found_grace);
    let by_reads = promises.strong_read_your_writes && had_time;
    by_reads || (promises.recall && attempt.not_found_twice && attempt.cancel_accepted)
}

/// Whether "never received" (AG09), in answer to a question asked at `asked_at`, is a proof: only once the scheme
/// itself has given the payout up, and it had its time to arrive.
pub(super) fn is_never_received_proof(attempt: &Attempt, asked_at: Timestamp) -> bool {
    let promises = &attempt.plan.promises;
    let given_up = later(later(attempt.last_sent(), promises.scheme_timeout), promises.not_found_grace);
    !attempt.bank_knows && asked_at >= given_up
}

/// Whether a statement that is complete up to `through` and has no debit is a proof.
pub(super) fn is_statement_proof(attempt: &Attempt, through: Timestamp) -> bool {
    let booked = later(later(attempt.last_sent(), BOOKED_WITHIN), attempt.plan.promises.not_found_grace);
    !attempt.bank_knows && through >= booked
}
