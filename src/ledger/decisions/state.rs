//! What an engine read before a batch is planned.

use std::collections::HashMap;

use uuid::Uuid;

use super::proposal::StoredProposal;
use super::stored::{ChainEnds, EntryPosition, LimitDay, StoredDecision};
use crate::domain::decision::DayUsage;
use crate::ledger::payouts::stored::StoredPayout;

/// The stored rows that a batch depends on. What is missing is not stored.
#[derive(Debug, Default)]
pub(crate) struct BatchState<'b> {
    /// The ends of the chain.
    pub(crate) head: ChainEnds,
    /// Decisions by payout, each list by attempt.
    pub(crate) attempts: HashMap<(&'b str, &'b str), Vec<StoredDecision>>,
    /// Entries by ID.
    pub(crate) named: HashMap<Uuid, Named>,
    /// What is used of daily limits.
    pub(crate) usage: HashMap<LimitDay, DayUsage>,
    /// The namespaces of adjustments that are not deleted.
    pub(crate) adjustments: HashMap<Uuid, String>,
    /// How many adjustments of a namespace are in effect.
    pub(crate) in_effect: HashMap<&'b str, u64>,
    /// Proposals by ID.
    pub(crate) proposals: HashMap<Uuid, StoredProposal>,
    /// The pending proposal of a route that lapses last.
    pub(crate) pending: HashMap<(&'b str, &'b str), StoredProposal>,
    /// Followed payouts, by namespace and ID.
    pub(crate) payouts: HashMap<(String, String), StoredPayout>,
    /// The payouts that were registered with an idempotency key, by namespace and key.
    pub(crate) keys: HashMap<(String, String), String>,
    /// The holder and the fencing number of leases, by name.
    pub(crate) fences: HashMap<String, (String, i64)>,
    /// Whether newer entries were lost.
    pub(crate) restores: Restores,
}

/// Whether newer entries of the ledger were lost.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Restores {
    /// How often.
    pub(crate) count: i64,
    /// Payouts are neither registered nor decided until a person resumes them.
    pub(crate) suspended: bool,
    /// There are payouts that are not under review yet. Read for a resumption only.
    pub(crate) unreviewed: bool,
}

/// An entry that a batch names.
#[derive(Debug)]
pub(crate) enum Named {
    /// A decision, with its outcomes.
    Decision(Box<StoredDecision>),
    /// Another entry.
    Other(EntryPosition),
}
