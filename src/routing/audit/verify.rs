//! Verification of the hash chain: each link, the columns that queries use, the snapshots that decisions name, and the
//! payouts that are followed.

use std::collections::{BTreeMap, VecDeque};

use super::problem::{BrokenRecord, RecordProblem};
use crate::domain::canonical::{hex, sha256};
use crate::domain::decision::{self, ChainVerifier, DecisionRecord, EntryKind, Hash, RecordKind, Snapshot};
use crate::ledger::decisions::{ChainEnds, ChainEntry, EntryColumns};
use crate::ledger::payouts::PayoutEntry;
use crate::ledger::{Ledger, LedgerError};

/// Records of one read.
const PAGE: u32 = 1_000;
/// Snapshots whose verification is remembered; beyond it they are read again.
const MAX_SNAPSHOTS: usize = 4_096;
/// Retention may remove the oldest records while they are read; then the walk starts again.
const ATTEMPTS: usize = 5;

/// What a verification found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditVerdict {
    /// Records that were verified.
    pub entries: u64,
    /// Decisions and overrides among them.
    pub decisions: u64,
    /// Number of the last record that retention has removed; 0 before the first time.
    pub checkpoint: u64,
    /// Number of the last record of the chain when the verification began.
    pub head: u64,
    /// Its hash.
    pub head_hash: Hash,
    /// The first record that does not verify; `None`: the chain is intact.
    pub broken: Option<BrokenRecord>,
}

/// Verifies the chain of `ledger`, as of now: what is appended meanwhile is left to the next verification.
///
/// # Errors
/// If the ledger cannot be read. A broken chain is no error but a verdict.
pub async fn verify(ledger: &dyn Ledger) -> Result<AuditVerdict, LedgerError> {
    let mut head = ledger.chain_head().await?;
    for _ in 1..ATTEMPTS {
        let verdict = walk(ledger, head).await?;
        let now = ledger.chain_head().await?;
        if verdict.broken.is_none() || now.base_seq == head.base_seq {
            return Ok(verdict);
        }
        head = now;
    }
    walk(ledger, head).await
}

/// One walk from the checkpoint to `head`.
async fn walk(ledger: &dyn Ledger, head: ChainEnds) -> Result<AuditVerdict, LedgerError> {
    let start = decision::ChainHead { seq: head.base_seq, hash: head.base_hash };
    let end = decision::ChainHead { seq: head.seq, hash: head.hash };
    let mut walk =
        Walk { verifier: ChainVerifier::new(start), snapshots: KnownRoutes::default(), entries: 0, decisions: 0 };
    let mut after = head.base_seq;
    let broken = 'walk: loop {
        let page = ledger.chain(after, PAGE).await?;
        let Some(last) = page.last() else { break None };
        // Each page begins after the one before, whatever the rows say.
        let next = last.seq.max(after.saturating_add(1));
        for entry in &page {
            // A record beyond the head was appended meanwhile, unless the head says that there is none.
            if entry.seq > head.seq && ledger.chain_head().await?.seq >= entry.seq {
                break 'walk None;
            }
            if let Err(broken) = walk.entry(ledger, entry).await? {
                break 'walk Some(broken);
            }
        }
        after = next;
    };
    let Walk { verifier, entries, decisions, .. } = walk;
    let broken = broken.or_else(|| verifier.finish(&end).err().map(BrokenRecord::from));
    Ok(AuditVerdict { entries, decisions, checkpoint: head.base_seq, head: head.seq, head_hash: head.hash, broken })
}

struct Walk {
    verifier: ChainVerifier,
    /// Snapshots that were found intact: many decisions name one.
    snapshots: KnownRoutes,
    entries: u64,
    decisions: u64,
}

impl Walk {
    async fn entry(
        &mut self,
        ledger: &dyn Ledger,
        entry: &ChainEntry,
    ) -> Result<Result<(), BrokenRecord>, LedgerError> {
        if let Some(column) = entry.unreadable {
            let column = column.strip_prefix("decision_log.").unwrap_or(column);
            return Ok(Err(BrokenRecord { seq: entry.seq, problem: RecordProblem::Column(column) }));
        }
        if let Err(broken) = self.verifier.push(entry.seq, entry.kind, &entry.body, &entry.hash) {
            return Ok(Err(broken.into()));
        }
        let broken = |problem| Ok(Err(BrokenRecord { seq: entry.seq, problem }));
        if matches!(entry.kind, EntryKind::Decision | EntryKind::Override) {
            let record = match DecisionRecord::decode(&entry.body) {
                Ok(record) => record,
                Err(error) => return broken(RecordProblem::Unreadable(error.to_string())),
            };
            if let Some(column) = other_column(&entry.columns, &decision_columns(&record, &entry.columns)) {
                return broken(RecordProblem::Column(column));
            }
            if (entry.kind == EntryKind::Override) != (record.kind == RecordKind::Override) {
                return broken(RecordProblem::Column("kind"));
            }
            if let Err(problem) = self.snapshot(ledger, entry, &record).await? {
                return broken(problem);
            }
            self.decisions += 1;
        } else if entry.kind != EntryKind::Checkpoint {
            let Some(columns) = EntryColumns::of_body(entry.kind, &entry.body) else {
                return broken(RecordProblem::Unreadable("its body cannot be decoded".to_owned()));
            };
            if let Some(column) = other_column(&entry.columns, &columns) {
                return broken(RecordProblem::Column(column));
            }
            if let Some(problem) = changed_payout(ledger, entry).await? {
                return broken(problem);
            }
        }
        self.entries += 1;
        Ok(Ok(()))
    }

    /// Whether the snapshot of a decision is there and unchanged.
    async fn snapshot(
        &mut self,
        ledger: &dyn Ledger,
        entry: &ChainEntry,
        record: &DecisionRecord,
    ) -> Result<Result<(), RecordProblem>, LedgerError> {
        if self.snapshots.get(&record.snapshot).is_none() {
            let Some(bytes) = ledger.snapshot(record.snapshot).await? else {
                return Ok(Err(RecordProblem::SnapshotMissing(hex(&record.snapshot))));
            };
            if sha256(&bytes) != record.snapshot {
                return Ok(Err(RecordProblem::SnapshotChanged(hex(&record.snapshot))));
            }
            match Snapshot::decode(&bytes) {
                Ok(snapshot) => self.snapshots.insert(record.snapshot, snapshot.route),
                Err(error) => return Ok(Err(RecordProblem::Unreadable(format!("its snapshot: {error}")))),
            }
        }
        let route = self.snapshots.get(&record.snapshot);
        Ok(if entry.columns.route.as_ref() == route { Ok(()) } else { Err(RecordProblem::Column("route")) })
    }
}

/// The routes of the snapshots that were last found intact: a ledger may hold millions of snapshots.
#[derive(Default)]
struct KnownRoutes {
    routes: BTreeMap<Hash, String>,
    /// Oldest first.
    order: VecDeque<Hash>,
}

impl KnownRoutes {
    fn get(&self, snapshot: &Hash) -> Option<&String> {
        self.routes.get(snapshot)
    }

    fn insert(&mut self, snapshot: Hash, route: String) {
        if self.order.len() >= MAX_SNAPSHOTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.routes.remove(&oldest);
        }
        if self.routes.insert(snapshot, route).is_none() {
            self.order.push_back(snapshot);
        }
    }
}

/// The columns that the record of a decision calls for. The route is in its snapshot.
fn decision_columns(record: &DecisionRecord, stored: &EntryColumns) -> EntryColumns {
    let request = &record.request;
    EntryColumns {
        id: Some(record.id),
        at: record.at,
        namespace: Some(request.namespace.clone()),
        payout_id: Some(request.payout_id.clone()),
        attempt_no: Some(request.attempt_no),
        route: stored.route.clone(),
        candidate: Some(record.candidate.clone()),
        request_hash: Some(request.hash()),
        snapshot: Some(record.snapshot),
        about: record.supersedes,
        reserved: record.reserved.clone(),
    }
}

/// The first column that differs from its record: lists and look-ups go by columns, the hash by the record.
fn other_column(stored: &EntryColumns, recorded: &EntryColumns) -> Option<&'static str> {
    [
        ("id", stored.id == recorded.id),
        ("at_ms", stored.at == recorded.at),
        ("namespace", stored.namespace == recorded.namespace),
        ("payout_id", stored.payout_id == recorded.payout_id),
        ("attempt_no", stored.attempt_no == recorded.attempt_no),
        ("route", stored.route == recorded.route),
        ("candidate", stored.candidate == recorded.candidate),
        ("request_hash", stored.request_hash == recorded.request_hash),
        ("snapshot", stored.snapshot == recorded.snapshot),
        ("about", stored.about == recorded.about),
        ("reserved_amount", stored.reserved == recorded.reserved),
    ]
    .into_iter()
    .find_map(|(column, equal)| (!equal).then_some(column))
}

/// Whether the row of a payout is another than the last record about it says. Earlier records are of earlier versions, or of
/// a payout of that ID that retention has deleted.
async fn changed_payout(ledger: &dyn Ledger, entry: &ChainEntry) -> Result<Option<RecordProblem>, LedgerError> {
    let Some(PayoutEntry::Change(change)) = PayoutEntry::decode(&entry.body) else { return Ok(None) };
    let stored = match ledger.payout(&change.namespace, &change.payout_id).await {
        Ok(stored) => stored,
        Err(LedgerError::Corrupt { .. }) => return Ok(Some(RecordProblem::PayoutChanged(change.payout_id))),
        Err(error) => return Err(error),
    };
    let is_last = |seq: u64, version: u64| seq <= entry.seq && version == change.version;
    let changed = stored
        .is_some_and(|stored| is_last(stored.seq, stored.version) && sha256(&stored.payout.encode()) != change.body);
    Ok(changed.then_some(RecordProblem::PayoutChanged(change.payout_id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_remembers_the_last_snapshots_only() {
        let id = |n: usize| sha256(n.to_string().as_bytes());
        let mut known = KnownRoutes::default();
        for n in 0..=MAX_SNAPSHOTS {
            known.insert(id(n), format!("route-{n}"));
        }
        assert_eq!((known.routes.len(), known.order.len()), (MAX_SNAPSHOTS, MAX_SNAPSHOTS));
        assert_eq!(known.get(&id(0)), None, "the oldest one is read again");
        assert_eq!(known.get(&id(1)).map(String::as_str), Some("route-1"));
        assert_eq!(known.get(&id(MAX_SNAPSHOTS)), Some(&format!("route-{MAX_SNAPSHOTS}")));
    }
}
