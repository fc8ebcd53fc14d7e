//! Commits decisions in groups: a bounded queue, and one task that writes what is queued as one transaction.
//!
//! A decision is answered when it is durable, and a flush to disk costs as much as hundreds of rows. So while one commit is
//! in flight the next group collects; after a group a short wait lets the callers that were just answered join again. An
//! error that may pass fails the entries of its group and no others: their callers repeat, and the ledger replays what it
//! has stored after all. After any other error the group is committed in parts, so that one bad entry fails alone. Why:
//! `docs/adr/0030-decisions-are-committed-in-groups.md`.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ledger::decisions::{DecisionBatch, EntryOutcome, NewEntry};
use crate::ledger::{Ledger, LedgerError};
use crate::routing::error::{RoutingError, UnavailableCause};
use crate::tasks::TaskGroup;

/// Name of the task.
const TASK: &str = "decisions";
/// Entries that wait: more than the gateway has requests in flight, and a few megabytes.
const QUEUE_SIZE: usize = 4_096;
/// Outcomes that wait: two calls of the largest number of reports.
const OUTCOME_SHARE: usize = 1_024;
/// Entries of a group: its transaction takes a few milliseconds at most.
const GROUP_SIZE: usize = 256;
/// Commits of a group that may fail before what is left of it fails as it is: several times what one bad entry costs, and
/// few where nothing can be stored.
const MAX_FAILURES: usize = 32;
/// How long a group waits for as many callers as the last one had. Timers fire up to a millisecond later.
const GATHER_TIME: Duration = Duration::from_millis(1);

/// The sending half: passes entries to the [`Committer`] and waits until they are durable. Clones share it.
#[derive(Clone)]
pub(crate) struct CommitQueue {
    sender: mpsc::Sender<Pending>,
    /// What outcomes take of the queue.
    outcomes: Arc<Semaphore>,
}

/// An entry and where its outcome is awaited.
struct Pending {
    entry: NewEntry,
    reply: Reply,
}

/// Where an outcome is awaited.
struct Reply {
    sender: oneshot::Sender<Answer>,
    /// Of the outcomes' share, until it is answered.
    _share: Option<OwnedSemaphorePermit>,
}

/// The outcome of an entry, or why there is none.
type Answer = Result<EntryOutcome, UnavailableCause>;

/// A queued entry.
pub(crate) struct Submitted(oneshot::Receiver<Answer>);

/// Writes the queued entries. Runs as a writer of the ledger: it ends after the last server.
pub struct Committer {
    receiver: mpsc::Receiver<Pending>,
    commit: Box<Commit>,
    tasks: TaskGroup,
    /// Entries of the last group.
    last: usize,
}

/// Commits one group: the ledger does, or a script in tests.
type Commit = dyn Fn(Arc<DecisionBatch>) -> CommitFuture + Send + Sync;
type CommitFuture = BoxFuture<'static, Result<Vec<EntryOutcome>, LedgerError>>;

/// How a commit ended.
enum Committed {
    /// One outcome for each entry.
    Stored(Vec<EntryOutcome>),
    /// Nothing is known to be stored.
    Failed { is_transient: bool },
}

/// A queue and its committer; panics of a commit are counted in `tasks`.
pub(crate) fn commit_channel(ledger: Arc<dyn Ledger>, tasks: TaskGroup) -> (CommitQueue, Committer) {
    let commit = move |batch| -> CommitFuture {
        let ledger = Arc::clone(&ledger);
        Box::pin(async move { ledger.commit_decisions(batch).await })
    };
    channel(Box::new(commit), tasks, QUEUE_SIZE)
}

fn channel(commit: Box<Commit>, tasks: TaskGroup, size: usize) -> (CommitQueue, Committer) {
    let (sender, receiver) = mpsc::channel(size);
    let outcomes = Arc::new(Semaphore::new(OUTCOME_SHARE));
    (CommitQueue { sender, outcomes }, Committer { receiver, commit, tasks, last: 0 })
}

impl CommitQueue {
    /// Commits one entry; returns once it is durable, or not stored for the reason of the outcome.
    ///
    /// # Errors
    /// [`RoutingError::Unavailable`] if the queue is full or the commit failed. After a failed commit the entry may be
    /// stored: the same entry again tells.
    pub(crate) async fn commit(&self, entry: NewEntry) -> Result<EntryOutcome, RoutingError> {
        self.submit(entry)?.outcome().await
    }

    /// Queues one entry; entries are committed in the order in which they are queued.
    ///
    /// # Errors
    /// [`RoutingError::Unavailable`] if the queue is full or closed.
    pub(crate) fn submit(&self, entry: NewEntry) -> Result<Submitted, RoutingError> {
        self.queue(entry, None)
    }

    /// Queues a reported outcome. Outcomes come in bulk: they have a share of the queue, so that decisions find room.
    ///
    /// # Errors
    /// [`RoutingError::Unavailable`] if the share is used up, or the queue is full or closed.
    pub(crate) fn submit_outcome(&self, entry: NewEntry) -> Result<Submitted, RoutingError> {
        let share = Arc::clone(&self.outcomes).try_acquire_owned();
        let share = share.map_err(|_| RoutingError::unavailable(UnavailableCause::QueueFull))?;
        self.queue(entry, Some(share))
    }

    /// How many entries wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    fn queue(&self, entry: NewEntry, share: Option<OwnedSemaphorePermit>) -> Result<Submitted, RoutingError> {
        let (sender, answer) = oneshot::channel();
        let pending = Pending { entry, reply: Reply { sender, _share: share } };
        self.sender.try_send(pending).map_err(|error| {
            RoutingError::unavailable(match error {
                mpsc::error::TrySendError::Full(_) => UnavailableCause::QueueFull,
                mpsc::error::TrySendError::Closed(_) => UnavailableCause::Closing,
            })
        })?;
        Ok(Submitted(answer))
    }
}

impl Submitted {
    /// Returns once the entry is durable, or not stored.
    ///
    /// # Errors
    /// As of [`CommitQueue::commit`].
    pub(crate) async fn outcome(self) -> Result<EntryOutcome, RoutingError> {
        // Without an answer the committer has ended.
        self.0.await.unwrap_or(Err(UnavailableCause::Closing)).map_err(RoutingError::unavailable)
    }
}

impl Committer {
    /// Commits until `stop`, then what is queued.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut group = Vec::with_capacity(GROUP_SIZE);
        loop {
            tokio::select! {
                biased;
                received = self.receiver.recv_many(&mut group, GROUP_SIZE) => {
                    if received == 0 {
                        return;
                    }
                }
                () = stop.cancelled() => break,
            }
            self.gather(&mut group).await;
            self.commit(&mut group).await;
        }
        self.receiver.close();
        while self.receiver.recv_many(&mut group, GROUP_SIZE).await > 0 {
            self.commit(&mut group).await;
        }
    }

    /// Waits shortly until the group is as large as the last one: callers that were answered together come again
    /// together. A lone caller never waits.
    async fn gather(&mut self, group: &mut Vec<Pending>) {
        let wanted = self.last.min(GROUP_SIZE);
        if group.len() >= wanted {
            return;
        }
        let more = async {
            while group.len() < wanted {
                let missing = wanted - group.len();
                if self.receiver.recv_many(group, missing).await == 0 {
                    return;
                }
            }
        };
        // What was received before the time is over stays in the group.
        let _elapsed = tokio::time::timeout(GATHER_TIME, more).await;
    }

    async fn try_commit(&self, batch: &Arc<DecisionBatch>) -> Committed {
        let entries = batch.entries.len();
        // The call as well as its future: neither may end the committer, or every later caller would be refused.
        let commit = async { (self.commit)(Arc::clone(batch)).await };
        match AssertUnwindSafe(commit).catch_unwind().await {
            Ok(Ok(outcomes)) => Committed::Stored(outcomes),
            Ok(Err(error)) => {
                tracing::warn!(%error, entries, "commit of decisions failed; callers repeat");
                Committed::Failed { is_transient: error.is_transient() }
            }
            Err(_) => {
                self.tasks.record_panic(TASK);
                Committed::Failed { is_transient: false }
            }
        }
    }

    /// Commits the group and answers its callers. If repeating does not help, the group is halved: an entry that cannot be
    /// stored fails alone.
    async fn commit(&mut self, group: &mut Vec<Pending>) {
        self.last = group.len();
        // The next part is the last one: entries stay in their order.
        let mut parts = vec![group.split_off(0)];
        let (mut failures, mut answers) = (0, Answers::default());
        while let Some(part) = parts.pop() {
            let Some(mut failed) = self.commit_part(part, &mut answers).await else { continue };
            failures += 1;
            if failed.len() < 2 || failures > MAX_FAILURES {
                fail(failed.into_iter().map(|one| one.reply));
                continue;
            }
            let rest = failed.split_off(failed.len() / 2);
            parts.extend([rest, failed]);
        }
    }

    /// Commits a part of a group and answers its callers; returns it if it fails and repeating does not help.
    async fn commit_part(&self, part: Vec<Pending>, answers: &mut Answers) -> Option<Vec<Pending>> {
        let (entries, replies): (Vec<_>, Vec<_>) = part.into_iter().map(|one| (one.entry, one.reply)).unzip();
        let count = entries.len();
        let batch = Arc::new(DecisionBatch { entries });
        let mut committed = self.try_commit(&batch).await;
        // The same group, so that a commit whose answer was lost stores nothing twice.
        if let Committed::Failed { is_transient: true } = committed {
            answers.may_be_lost = true;
            committed = self.try_commit(&batch).await;
        }
        let outcomes = match committed {
            Committed::Stored(outcomes) if outcomes.len() == count => outcomes,
            Committed::Stored(outcomes) => {
                tracing::error!(
                    entries = count,
                    outcomes = outcomes.len(),
                    "group of decisions misanswered: this is a bug"
                );
                fail(replies);
                return None;
            }
            Committed::Failed { is_transient: true } => {
                fail(replies);
                return None;
            }
            Committed::Failed { is_transient: false } => {
                answers.may_be_lost = true;
                let entries = Arc::unwrap_or_clone(batch).entries;
                return Some(entries.into_iter().zip(replies).map(|(entry, reply)| Pending { entry, reply }).collect());
            }
        };
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // A caller that has gone finds its decision stored when it asks again.
            let _gone = reply.sender.send(Ok(answers.of(outcome)));
        }
        None
    }
}

/// What the entries of a group are answered with.
#[derive(Default)]
struct Answers {
    /// A commit of the group has failed, and may have stored it all the same.
    may_be_lost: bool,
    /// The places of the outcomes that commits of the group stored: each is new to one caller.
    found: HashSet<u64>,
}

impl Answers {
    /// The answer to an entry. An outcome that an earlier commit of this group stored is a new one to its caller.
    fn of(&mut self, outcome: EntryOutcome) -> EntryOutcome {
        match outcome {
            EntryOutcome::OutcomeStored { position, decision, earlier, repeated: false, is_equal } => {
                self.found.insert(position.seq);
                EntryOutcome::OutcomeStored { position, decision, earlier, repeated: false, is_equal }
            }
            EntryOutcome::OutcomeStored { position, decision, earlier, repeated: true, is_equal: true }
                if self.may_be_lost && self.found.insert(position.seq) =>
            {
                EntryOutcome::OutcomeStored { position, decision, earlier, repeated: false, is_equal: true }
            }
            outcome => outcome,
        }
    }
}

fn fail(replies: impl IntoIterator<Item = Reply>) {
    for reply in replies {
        let _gone = reply.sender.send(Err(UnavailableCause::Ledger));
    }
}

#[cfg(test)]
mod tests;
