//! Resumes payouts after a restore of the ledger with loss of newer entries.

use crate::ledger::decisions::{EntryOutcome, NewEntry};
use crate::ledger::payouts::{PayoutOutcome, PayoutsResume, hold_open_payouts};
use crate::routing::error::RoutingError;
use crate::routing::service::{Actor, DecisionService};

/// How often payouts that another replica put aside meanwhile are looked for.
const MAX_ROUNDS: usize = 4;

impl DecisionService {
    /// Puts every open payout under review, then lets payouts be registered and decided again. Returns whether they were
    /// suspended: the same call again changes nothing.
    ///
    /// # Errors
    /// If the ledger does not store it.
    pub async fn resume_payouts(&self, reason: Option<String>, actor: &Actor) -> Result<bool, RoutingError> {
        let now = self.clock.now().wall;
        let resume = PayoutsResume { at: now, reason, request_id: actor.request_id, subject: actor.subject.clone() };
        for _ in 0..MAX_ROUNDS {
            let suspended = self.ledger.payouts_suspended().await;
            if !suspended.map_err(|error| RoutingError::ledger("reading whether payouts are suspended", &error))? {
                return Ok(false);
            }
            let held = hold_open_payouts(&*self.ledger, self.clock.now().wall).await;
            held.map_err(|error| RoutingError::ledger("putting open payouts under review", &error))?;
            match self.queue.commit(NewEntry::ResumePayouts(resume.clone())).await? {
                EntryOutcome::Stored(_) => return Ok(true),
                EntryOutcome::NotFound => return Ok(false),
                EntryOutcome::Payout(PayoutOutcome::NotReviewed) => {}
                _ => return Err(RoutingError::Defect("the ledger answered a resume with another entry's outcome")),
            }
        }
        Err(RoutingError::NotReviewed)
    }

    /// Whether payouts are suspended: a restore lost newer entries, and no person has resumed payouts.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn payouts_suspended(&self) -> Result<bool, RoutingError> {
        let suspended = self.ledger.payouts_suspended().await;
        suspended.map_err(|error| RoutingError::ledger("reading whether payouts are suspended", &error))
    }
}
