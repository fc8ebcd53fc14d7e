//! The payout clock: does what is due about payouts, at the instant it is due and at least once a minute.
//!
//! It holds a lease in the ledger of its own. What it does is stored under the lease's fence before it is done, so that
//! a replica that was frozen and replaced changes nothing; a call is sent only while the lease lasts longer than the
//! call. What is due is read from an index, never by a scan of the payouts, and is handled bank by bank
//! (`due_queue.rs`).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::due_queue::{DueQueue, MAX_RUNNING};
use super::effects::{commit_of, defect};
use super::follower::Follower;
use super::step_guard::StepGuard;
use crate::domain::clock_skew::after;
use crate::domain::payout::{Applied, Payout, PayoutInput, apply};
use crate::domain::time::{Mono, Now};
use crate::ledger::decisions::entry::{DecisionBatch, NewEntry};
use crate::ledger::decisions::outcome::EntryOutcome;
use crate::ledger::payouts::{DuePayout, PayoutAct, PayoutOutcome, StoredPayout, hold_open_payouts};
use crate::ledger::{HeldLease, LeaseHolder, LeaseOptions, LeaseStore, LedgerError, TakeOutcome};
use crate::provider::payouts::CALL_TIMEOUT;
use crate::tasks::TaskGroup;

/// Name of the lease in the ledger.
const LEASE: &str = "payouts";
/// How long the lease is valid without a renewal: longer than a call, by more than the time between renewals.
const LEASE_TTL: Duration = Duration::from_secs(45);
/// Interval at which other replicas try to take the lease.
const TAKE_INTERVAL: Duration = Duration::from_secs(3);
/// Longest time between two looks at the queue: the shortest `spec.stuck.checkInterval`.
const SCAN_INTERVAL: Duration = Duration::from_secs(10);
/// Shortest time between two looks.
const MIN_SCAN_INTERVAL: Duration = Duration::from_millis(20);
/// Longest time between two looks at the whole queue, whatever was read before.
const FULL_SCAN_INTERVAL: Duration = Duration::from_mins(1);
/// By how much a look begins before the end of the last one: an act that was slow to commit may be due earlier.
const OVERLAP: Duration = Duration::from_secs(5);
/// Due payouts of one read.
const PAGE: u32 = 1024;
/// Payouts of one transaction.
const BATCH: usize = 256;
/// The first delay after the ledger failed; it doubles.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest delay.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Does what is due while it holds its lease.
pub struct PayoutClock {
    follower: Follower,
    holder: String,
    tasks: TaskGroup,
}

/// What the clock remembers while it holds the lease.
#[derive(Default)]
struct ClockState {
    queue: DueQueue,
    /// The last due payout that was read.
    cursor: Option<DuePayout>,
    scan_at: Mono,
    full_scan_at: Mono,
    guard: StepGuard,
    is_paused: bool,
    failures: u32,
}

impl ClockState {
    /// Has the queue read again by this time, though not at once: many may ask for it together.
    fn scan_by(&mut self, now: Now, at: Timestamp) {
        let wait = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
        self.scan_at = self.scan_at.min(now.mono + wait.clamp(MIN_SCAN_INTERVAL, SCAN_INTERVAL));
    }
}

/// A payout whose turn is over.
struct Done {
    due: DuePayout,
    /// When there is something to be done about it again, as far as is known.
    next_action: Option<Timestamp>,
}

/// A payout on which time had an effect that is stored.
pub(super) struct Act {
    due: DuePayout,
    before: Payout,
    applied: Applied,
}

/// What became of a payout whose turn it was.
pub(super) enum Turn {
    /// What follows is to be carried out.
    Act(Box<Act>),
    /// Nothing is left to be done now.
    Over(DuePayout),
}

impl PayoutClock {
    /// A clock that holds its lease as `holder`. Leases that are dropped are released in `tasks`.
    pub fn new(follower: Follower, holder: &str, tasks: TaskGroup) -> Self {
        Self { follower, holder: holder.to_owned(), tasks }
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let clock = self.follower.runner.clock;
        let options = LeaseOptions {
            name: LEASE.to_owned(),
            holder: self.holder.clone(),
            ttl: LEASE_TTL,
            tasks: self.tasks.clone(),
        };
        let store = Arc::clone(&self.follower.runner.ledger) as Arc<dyn LeaseStore>;
        let mut holder = LeaseHolder::new(store, clock, options);
        while !stop.is_cancelled() {
            match holder.take().await {
                Ok(TakeOutcome::Taken(held)) => {
                    tokio::select! {
                        () = held.lost() => {}
                        () = self.run_leased(&held, &stop) => {}
                    }
                    held.release().await;
                }
                Ok(TakeOutcome::HeldByOther { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "taking the payouts lease failed; open payouts are followed later");
                }
            }
            let next = clock.mono() + TAKE_INTERVAL;
            if stop.run_until_cancelled(clock.sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    /// Does what is due under the lease, until `stop` or until its fence is refused. What is under way then is dropped:
    /// its intent is stored, and the next question is asked when it is due.
    async fn run_leased(&self, held: &HeldLease, stop: &CancellationToken) {
        let clock = self.follower.runner.clock;
        let mut state = ClockState::default();
        let mut running: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
        if let Err(error) = self.review_after_loss().await {
            // People cannot resume payouts before that is done; the gateway does it too.
            tracing::warn!(%error, "holding open payouts after a restore with loss failed");
        }
        loop {
            let wake = match self.round(held, &mut state, &mut running).await {
                Ok(wake) => {
                    state.failures = 0;
                    wake
                }
                Err(LedgerError::Fenced { .. }) => return,
                Err(error) => {
                    self.follower.runner.metrics.failed();
                    let delay = MIN_BACKOFF.saturating_mul(1 << state.failures.min(8)).min(MAX_BACKOFF);
                    state.failures += 1;
                    tracing::warn!(%error, "reading or writing payouts failed; retrying with backoff");
                    clock.mono() + delay
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = running.next(), if !running.is_empty() => {
                    state.queue.finished(&done.due);
                    // It may be due again before the next look.
                    if let Some(at) = done.next_action {
                        state.scan_by(clock.now(), at);
                    }
                }
                () = self.follower.wakeup.notified() => {
                    let now = clock.now();
                    state.scan_by(now, now.wall);
                }
                () = clock.sleep_until(wake) => {}
            }
        }
    }

    /// After a restore with loss, nothing that the ledger says of open payouts is believed.
    async fn review_after_loss(&self) -> Result<(), LedgerError> {
        let runner = &self.follower.runner;
        if runner.ledger.payouts_suspended().await? {
            let held = hold_open_payouts(&*runner.ledger, runner.clock.now().wall).await?;
            if held > 0 {
                tracing::warn!(
                    payouts = held,
                    "open payouts held: the ledger was restored with loss; review each of them"
                );
            }
        }
        Ok(())
    }

    /// Reads what is due, if it is time, and handles what there is room for. Returns when to come back at the latest.
    async fn round<'a>(
        &'a self,
        held: &'a HeldLease,
        state: &mut ClockState,
        running: &mut FuturesUnordered<BoxFuture<'a, Done>>,
    ) -> Result<Mono, LedgerError> {
        let now = self.follower.runner.clock.now();
        let paused = state.guard.observe(now);
        if paused.is_some() && !state.is_paused {
            tracing::warn!("wall clock stepped; open payouts are followed again after ten steady minutes");
        }
        state.is_paused = paused.is_some();
        if let Some(until) = paused {
            return Ok(until.min(now.mono + SCAN_INTERVAL));
        }
        if state.queue.take_left_out() {
            (state.scan_at, state.full_scan_at) = (Mono::ZERO, Mono::ZERO);
        }
        if now.mono >= state.scan_at {
            self.scan(state, now).await?;
        }
        // A call that starts now ends while the lease is still held.
        if held.remaining() > CALL_TIMEOUT {
            self.start_due(held, state, running).await?;
        }
        Ok(state.scan_at.max(now.mono + MIN_SCAN_INTERVAL))
    }

    /// Reads what became due since the last look, and when the next thing will be.
    async fn scan(&self, state: &mut ClockState, now: Now) -> Result<(), LedgerError> {
        let ledger = &self.follower.runner.ledger;
        if now.mono >= state.full_scan_at {
            state.cursor = None;
            state.full_scan_at = now.mono + FULL_SCAN_INTERVAL;
        }
        loop {
            let page = ledger.due_payouts(now.wall, state.cursor.as_ref(), PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            if let Some(last) = page.last() {
                state.cursor = Some(last.clone());
            }
            for due in page {
                state.queue.offer(due);
            }
            if is_last {
                break;
            }
        }
        let horizon = after(now.wall, SCAN_INTERVAL);
        let next = ledger.due_payouts(horizon, state.cursor.as_ref(), 1).await?;
        let wait = next
            .first()
            .map_or(SCAN_INTERVAL, |next| Duration::try_from(next.due.duration_since(now.wall)).unwrap_or_default());
        state.scan_at = now.mono + wait.clamp(MIN_SCAN_INTERVAL, SCAN_INTERVAL);
        state.cursor = state.cursor.as_ref().and_then(earlier);
        Ok(())
    }

    /// Handles what is due, as far as there is room.
    async fn start_due<'a>(
        &'a self,
        held: &'a HeldLease,
        state: &mut ClockState,
        running: &mut FuturesUnordered<BoxFuture<'a, Done>>,
    ) -> Result<(), LedgerError> {
        // Bounded: each turn takes payouts out of the queue, which is filled by a scan alone.
        for _ in 0..MAX_RUNNING {
            let taken = state.queue.take(BATCH);
            if taken.is_empty() {
                break;
            }
            let turns = match self.turns(held, &taken).await {
                Ok(turns) => turns,
                Err(error) => {
                    // They are due still, and are read again.
                    for due in &taken {
                        state.queue.finished(due);
                    }
                    state.full_scan_at = Mono::ZERO;
                    return Err(error);
                }
            };
            for turn in turns {
                match turn {
                    Turn::Over(due) => state.queue.finished(&due),
                    Turn::Act(act) => running.push(Box::pin(async move {
                        let Act { due, applied: Applied { payout, effects, .. }, .. } = *act;
                        let may_send = || held.remaining() > CALL_TIMEOUT;
                        let next_action = self.follower.runner.run(payout, effects, &may_send).await;
                        Done { due, next_action }
                    })),
                }
            }
        }
        Ok(())
    }

    /// Applies the passing of time to payouts that are due, and stores what comes of it under the lease.
    pub(super) async fn turns(&self, held: &HeldLease, taken: &[DuePayout]) -> Result<Vec<Turn>, LedgerError> {
        let runner = &self.follower.runner;
        let read = taken.iter().map(|due| runner.ledger.payout(&due.namespace, &due.payout_id));
        let read: Vec<Result<Option<StoredPayout>, LedgerError>> = join_all(read).await;
        let now = runner.clock.now().wall;
        let (mut turns, mut entries, mut acts) = (Vec::new(), Vec::new(), Vec::new());
        for (due, read) in taken.iter().zip(read) {
            let stored = match read {
                // Of one row, which stays due: the other payouts must not wait for it.
                Err(error @ LedgerError::Corrupt { .. }) => {
                    runner.metrics.failed();
                    let (namespace, payout_id) = (due.namespace.as_str(), due.payout_id.as_str());
                    tracing::error!(namespace, payout_id, %error, "due payout not followed; retrying in a minute");
                    None
                }
                read => read?,
            };
            let Some(stored) = stored.filter(|stored| stored.payout.next_action().is_some_and(|at| at <= now)) else {
                turns.push(Turn::Over(due.clone()));
                continue;
            };
            let applied = apply(&stored.payout, &PayoutInput::Tick, now);
            let commit = commit_of(PayoutAct::Tick, &stored, &applied, now).under(held.lease().clone());
            entries.push(NewEntry::Payout(Box::new(commit)));
            acts.push(Act { due: due.clone(), before: stored.payout, applied });
        }
        if entries.is_empty() {
            return Ok(turns);
        }
        let outcomes = runner.ledger.commit_decisions(Arc::new(DecisionBatch { entries })).await?;
        for (act, outcome) in acts.into_iter().zip(outcomes) {
            turns.push(self.turn(act, outcome, held)?);
        }
        Ok(turns)
    }

    /// What is left of a turn after its commit.
    fn turn(&self, act: Act, outcome: EntryOutcome, held: &HeldLease) -> Result<Turn, LedgerError> {
        match outcome {
            EntryOutcome::Payout(PayoutOutcome::Stored { .. }) => {
                let (runner, now) = (&self.follower.runner, self.follower.runner.clock.now().wall);
                runner.metrics.done(now.duration_since(act.due.due).as_secs_f64().max(0.0));
                runner.counts.count(PayoutAct::Tick, Some(&act.before), &act.applied, now);
                Ok(Turn::Act(Box::new(act)))
            }
            EntryOutcome::Payout(PayoutOutcome::Fenced) => Err(LedgerError::Fenced { name: held.lease().name.clone() }),
            // Another act came first; whatever is due now is read again.
            EntryOutcome::Payout(PayoutOutcome::Changed(_)) => Ok(Turn::Over(act.due)),
            outcome => {
                let defect = defect(&outcome);
                tracing::error!(payout_id = act.due.payout_id, defect, "due payout not stored; report it");
                Ok(Turn::Over(act.due))
            }
        }
    }
}

/// A place in the queue a little before this one; `None`: the beginning.
fn earlier(cursor: &DuePayout) -> Option<DuePayout> {
    let due = cursor.due.checked_sub(OVERLAP).ok()?;
    Some(DuePayout { due, namespace: String::new(), payout_id: String::new(), bank: String::new() })
}
