//! Replay: every recorded decision is made again from its snapshot and its request, and compared with the record.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::domain::canonical::sha256;
use crate::domain::decision::{DecisionRecord, EntryKind, Hash, ReplayError, Snapshot, replay};
use crate::ledger::decisions::ChainEntry;
use crate::ledger::{Ledger, LedgerError};
use crate::tasks::TaskGroup;

/// Records of one read: some megabytes.
const PAGE: u32 = 8_192;
/// Decoded snapshots that are kept: decisions that follow each other share one.
const MAX_SNAPSHOTS: usize = 4_096;

/// A decision that does not come out as recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Number of its record in the chain.
    pub seq: u64,
    /// ID of the decision, if the record can be read.
    pub id: Option<Uuid>,
    /// What differs.
    pub problem: String,
}

/// What a replay found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplayReport {
    /// Decisions and overrides that were replayed.
    pub decisions: u64,
    /// Those that came out otherwise.
    pub mismatches: u64,
    /// Snapshots that they were replayed from.
    pub snapshots: u64,
    /// The first mismatch.
    pub first: Option<Mismatch>,
}

impl ReplayReport {
    /// Adds the report of records that follow.
    fn add(&mut self, next: Self) {
        self.decisions += next.decisions;
        self.mismatches += next.mismatches;
        self.first = self.first.take().or(next.first);
    }
}

/// A decoded snapshot; `Err`: why it cannot be used.
type Decoded = Result<Arc<Snapshot>, &'static str>;

/// A record with its snapshot.
struct Task {
    entry: ChainEntry,
    snapshot: Decoded,
}

/// Replays every decision of `ledger` on `threads` threads. A snapshot is decoded once for the decisions that share it.
///
/// # Errors
/// If the ledger cannot be read.
pub async fn replay_all(
    ledger: &dyn Ledger,
    threads: NonZeroUsize,
    tasks: &TaskGroup,
) -> Result<ReplayReport, LedgerError> {
    let mut report = ReplayReport::default();
    let mut snapshots: HashMap<Hash, Decoded> = HashMap::new();
    let mut running: Vec<JoinHandle<ReplayReport>> = Vec::new();
    // What is appended meanwhile is left to the next replay.
    let head = ledger.chain_head().await?;
    let mut after = head.base_seq;
    while after < head.seq {
        // The next page is read while the threads work on the last one.
        let page = ledger.chain(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq.max(after.saturating_add(1));
        let mut work = Vec::with_capacity(page.len());
        for entry in page.into_iter().filter(|entry| is_decision(entry.kind) || entry.unreadable.is_some()) {
            let id = entry.columns.snapshot.unwrap_or_default();
            let snapshot = if let Some(known) = snapshots.get(&id) {
                known.clone()
            } else {
                let decoded = decode(&id, ledger.snapshot(id).await?);
                if snapshots.len() >= MAX_SNAPSHOTS {
                    snapshots.clear();
                }
                report.snapshots += 1;
                snapshots.insert(id, decoded.clone());
                decoded
            };
            work.push(Task { entry, snapshot });
        }
        join(&mut running, &mut report).await;
        let share = work.len().div_ceil(threads.get()).max(1);
        while !work.is_empty() {
            let rest = work.split_off(share.min(work.len()));
            let part = std::mem::replace(&mut work, rest);
            running.push(tasks.spawn_blocking("replay", move || replay_part(&part)));
        }
    }
    join(&mut running, &mut report).await;
    Ok(report)
}

const fn is_decision(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::Decision | EntryKind::Override)
}

fn decode(id: &Hash, bytes: Option<Vec<u8>>) -> Decoded {
    let bytes = bytes.ok_or("its snapshot is missing")?;
    if sha256(&bytes) != *id {
        return Err("its snapshot was changed");
    }
    Snapshot::decode(&bytes).map(Arc::new).map_err(|_| "its snapshot cannot be read")
}

async fn join(running: &mut Vec<JoinHandle<ReplayReport>>, report: &mut ReplayReport) {
    for part in running.drain(..) {
        // A panic is counted by the group of tasks; what it had in hand did not come out as recorded.
        let ended = part.await.unwrap_or_else(|_| ReplayReport { mismatches: 1, ..ReplayReport::default() });
        report.add(ended);
    }
}

fn replay_part(part: &[Task]) -> ReplayReport {
    let mut report =
        ReplayReport { decisions: u64::try_from(part.len()).unwrap_or(u64::MAX), ..ReplayReport::default() };
    for task in part {
        if let Err((id, problem)) = replay_one(task) {
            report.mismatches += 1;
            report.first = report.first.take().or(Some(Mismatch { seq: task.entry.seq, id, problem }));
        }
    }
    report
}

fn replay_one(Task { entry, snapshot }: &Task) -> Result<(), (Option<Uuid>, String)> {
    if let Some(column) = entry.unreadable {
        return Err((None, format!("its column {column} cannot be read")));
    }
    let record = DecisionRecord::decode(&entry.body).map_err(|error| (entry.columns.id, error.to_string()))?;
    let id = Some(record.id);
    let snapshot = snapshot.as_ref().map_err(|problem| (id, (*problem).to_owned()))?;
    if entry.columns.snapshot != Some(record.snapshot) {
        return Err((id, "its column snapshot differs from the record".to_owned()));
    }
    replay(&record, snapshot).map(drop).map_err(|error: ReplayError| (id, error.to_string()))
}
