//! A run that goes on while another is due. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::sync_job::ConcurrencyPolicy;
use crate::domain::time::Now;
use crate::ledger::RunTrigger;
use crate::work::pool::ActiveRun;

/// How long a resync runs before it yields to a due run: long enough to commit pages, however short the interval is.
const RESYNC_TURN: Duration = Duration::from_mins(1);

/// Whether the active run stops for one that `is_due`, and when to look at it again.
///
/// `Replace` stops it at a page boundary; `Forbid` lets it end, and the run that is due starts then. A resync yields in
/// both cases, once it has had its turn: it can take hours, and goes on where it stopped.
pub(super) fn of(
    policy: ConcurrencyPolicy,
    active: &ActiveRun,
    is_due: bool,
    next_slot: Option<Timestamp>,
    now: Now,
) -> (bool, Option<Timestamp>) {
    let turn_ends = active.since_mono + RESYNC_TURN;
    let yields_at = match (policy, active.trigger) {
        // A queued run has read nothing yet, so it serves what is due. Replaced, it would lose its place: with slots that
        // come faster than the queue moves, no run would ever start.
        _ if active.stopping || (active.queued && active.trigger != RunTrigger::Resync) => return (false, None),
        (ConcurrencyPolicy::Replace, trigger) if trigger != RunTrigger::Resync => now.mono,
        (_, RunTrigger::Resync) => turn_ends,
        (ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Replace, _) => return (false, None),
    };
    match (is_due, now.mono >= yields_at) {
        (true, true) => (true, None),
        (true, false) => (false, Some(now.wall_at(yields_at))),
        (false, _) => (false, next_slot),
    }
}
