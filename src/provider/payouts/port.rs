//! The interfaces between those who follow payouts: the clock, the gateway, the banks and the decisions.

use futures::future::BoxFuture;

use crate::domain::payout::{Attempt, BankReport, Effect, Evidence, Payout};
use crate::ledger::payouts::PayoutCall;

/// What a bank answered about an attempt, or that it did not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BankAnswer {
    /// What it says of the attempt.
    pub report: BankReport,
    /// What that rests on.
    pub evidence: Evidence,
}

/// Calls banks about attempts, through the one call path.
pub trait PayoutBanks: Send + Sync + 'static {
    /// Makes one call, whose intent is stored, and never repeats it. An inquiry changes nothing at the bank; a recall
    /// carries the attempt's [`recall_key`](Attempt::recall_key).
    fn ask<'a>(&'a self, call: PayoutCall, payout: &'a Payout, attempt: &'a Attempt) -> BoxFuture<'a, BankAnswer>;
}

/// Carries out what follows from an act on a payout.
pub trait PayoutFollower: Send + Sync + 'static {
    /// Carries `effects` out in the background. To be called once the act is stored, and never before; returns at once.
    /// What a crash prevents is made up for by the clock.
    fn follow(&self, payout: &Payout, effects: &[Effect]);
}

/// Decides further attempts: with each decision, the next attempt is stored and handed out as an event.
pub trait NextAttempts: Send + Sync + 'static {
    /// Decides the attempt `attempt_no` of a payout whose earlier attempts are proven not to have been executed. One
    /// that cannot be decided now, for example because no bank is available, is proposed again by the clock.
    fn decide<'a>(&'a self, payout: &'a Payout, attempt_no: u32) -> BoxFuture<'a, ()>;
}
