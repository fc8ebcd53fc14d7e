//! Whether an attempt may be sent to its bank once more: with the same key and body, inside the time for which the bank
//! remembers the key. After it the key is poison: sending again is a new payment. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::effect::PayoutRefusal;
use super::evidence::Evidence;
use super::followed::Attempt;
use super::ladder::later;
use super::machine::{Machine, Step, refuse};
use super::mutant;
use super::proof::forget_not_found;
use super::state::AttemptState;

/// How long a permission to send is good for: as long as a decision.
pub(super) const PERMISSION: Duration = Duration::from_mins(1);

/// Least time before the end of the bank's window in which nothing is sent any more: a submission may take time, and
/// clocks differ.
const LEAST_MARGIN: Duration = Duration::from_mins(15);

/// Until when the attempt may be sent once more, at most a minute from now.
///
/// # Errors
/// Why it may not.
pub fn may_resend(attempt: &Attempt, now: Timestamp) -> Result<Timestamp, PayoutRefusal> {
    use AttemptState::{Inquiring, IntentWritten, Stuck, Submitted, Unknown};
    if attempt.state.is_final() {
        return Err(PayoutRefusal::AlreadyFinal);
    }
    if attempt.recalls > 0 {
        return Err(PayoutRefusal::RecallSent);
    }
    if !matches!(attempt.state, IntentWritten | Submitted | Unknown | Stuck | Inquiring) {
        return Err(PayoutRefusal::AlreadyFinal);
    }
    let window = attempt.plan.promises.idempotency_window;
    let until = later(now, PERMISSION);
    if mutant::is_key_eternal() {
        return Ok(until);
    }
    let margin = LEAST_MARGIN.max(window / 10);
    let Some(usable) = window.checked_sub(margin).filter(|usable| !usable.is_zero()) else {
        return Err(PayoutRefusal::NoWindow);
    };
    // The window may have begun with the decision: the attempt could be sent at once.
    let end = later(attempt.decided_at, usable);
    if now >= end { Err(PayoutRefusal::WindowOver) } else { Ok(until.min(end)) }
}

impl Machine {
    /// The submitter asks for a permission to send once more. Whatever the bank did not find until now may arrive yet.
    pub(super) fn request_resend(&mut self, attempt_no: u32, evidence: &Evidence, target: &str) -> Step {
        let at = self.place(attempt_no)?;
        if self.payout.frozen {
            return refuse(PayoutRefusal::Frozen);
        }
        // A newer attempt relies on this one not being sent again, also one that two people are about to have made.
        let is_relied_on = self.payout.next_attempt_no() != attempt_no.saturating_add(1);
        if is_relied_on || self.attempt(at).risk_accepted_for.is_some() {
            return refuse(PayoutRefusal::AlreadyFinal);
        }
        // Another bank, or the same one for another account, does not know the key.
        if !self.attempt(at).plan.promises.are_of(target) {
            return refuse(PayoutRefusal::EndpointChanged);
        }
        match may_resend(self.attempt(at), self.now) {
            Ok(until) => {
                let attempt = self.attempt_mut(at);
                attempt.send_by = attempt.send_by.max(until);
                // "Once more": it may have been sent before.
                attempt.reported_sent = true;
                forget_not_found(attempt);
                self.note(at, evidence);
                Ok(())
            }
            Err(reason) => refuse(reason),
        }
    }
}
