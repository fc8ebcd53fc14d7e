//! What is read of payouts.

use jiff::Timestamp;

use super::act::{PayoutAct, PayoutCall};
use crate::domain::canonical::Hash;
use crate::domain::payout::{AttemptState, Evidence, HoldReason, Payout, PayoutState};

/// A payout as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredPayout {
    /// The payout.
    pub payout: Payout,
    /// SHA-256 of the canonical request that registered it.
    pub request_hash: Hash,
    /// Its place in the order of registrations: the number of that entry in the chain.
    pub seq: u64,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// 1 at the registration, incremented by each act.
    pub version: u64,
}

/// Something that happened to a payout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimelineRow {
    /// What was done.
    pub act: PayoutAct,
    /// When it was stored.
    pub at: Timestamp,
    /// The attempt; `None` for an act on the whole payout.
    pub attempt_no: Option<u32>,
    /// What happened.
    pub event: TimelineEvent,
    /// What it rests on.
    pub evidence: Option<Evidence>,
    /// Why the attempt is held then.
    pub hold: Option<HoldReason>,
    /// The number of the entry in the chain.
    pub seq: u64,
    /// Its place within the entry.
    pub place: u32,
    /// The caller.
    pub subject: String,
}

/// What happened to a payout.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum TimelineEvent {
    /// An act that changed no attempt.
    Act,
    /// An attempt changed, or evidence came that did not change it.
    Transition {
        /// The state before.
        from: AttemptState,
        /// The state then.
        to: AttemptState,
    },
    /// A call to the bank was about to be made.
    Intent {
        /// What for.
        call: PayoutCall,
        /// The fencing number of the lease that it was made under; 0 without one.
        fence: i64,
    },
}

/// A payout that something is to be done about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DuePayout {
    /// Since when.
    pub due: Timestamp,
    /// Its namespace.
    pub namespace: String,
    /// Its ID.
    pub payout_id: String,
    /// The connection of the bank that is to be asked.
    pub bank: String,
}

/// Filter for payouts. Unset fields match all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PayoutFilter {
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only of this route.
    pub route: Option<String>,
    /// Only in this state.
    pub state: Option<PayoutState>,
}

/// Some of the matching payouts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PayoutPage {
    /// The last registered first.
    pub payouts: Vec<StoredPayout>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// How many payouts and attempts are not final.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PayoutCounts {
    /// Attempts, by bank and state.
    pub attempts: Vec<AttemptCount>,
    /// Payouts, by route and state.
    pub payouts: Vec<PayoutCount>,
}

/// How many payouts of a route are in a state that is not final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PayoutCount {
    /// How many.
    pub count: u64,
    /// The namespace.
    pub namespace: String,
    /// When the oldest was registered.
    pub oldest: Timestamp,
    /// The route.
    pub route: String,
    /// The state.
    pub state: PayoutState,
}

/// How many attempts at a bank are in a state that is not final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptCount {
    /// The connection of the bank.
    pub bank: String,
    /// How many.
    pub count: u64,
    /// The namespace.
    pub namespace: String,
    /// When the oldest was decided.
    pub oldest: Timestamp,
    /// The state.
    pub state: AttemptState,
}
