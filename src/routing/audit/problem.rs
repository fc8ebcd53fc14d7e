//! What can be wrong with a record of the audit.

use crate::domain::decision::{BreakKind, BrokenLink};

/// The first record that does not verify.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("record {seq}: {problem}")]
pub struct BrokenRecord {
    /// Its number in the chain; of a removed record, the number that is missing.
    pub seq: u64,
    /// What is wrong with it.
    pub problem: RecordProblem,
}

/// What is wrong with a record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordProblem {
    /// The link to its predecessor does not hold.
    #[error("{}", chain_text(*.0))]
    Chain(BreakKind),
    /// A column of the row differs from the record in its body.
    #[error("changed: its column {0} differs from the record that was hashed")]
    Column(&'static str),
    /// The body is hashed as stored, but is no record of this or an earlier version.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// The snapshot that the decision was made from is not there.
    #[error("its snapshot {0} is missing: it was removed")]
    SnapshotMissing(String),
    /// The snapshot's content is not what its ID is the hash of.
    #[error("its snapshot {0} was changed: the content has another hash")]
    SnapshotChanged(String),
    /// The row of the payout is not what the last record about it is the hash of.
    #[error("its payout {0} was changed: the row has another hash")]
    PayoutChanged(String),
}

impl RecordProblem {
    /// A name for machines.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Chain(kind) => match kind {
                BreakKind::Gap => "removed",
                BreakKind::Order => "moved",
                BreakKind::Changed => "changed",
                BreakKind::Truncated => "truncated",
                BreakKind::Unanchored => "unanchored",
                BreakKind::Extra => "added",
            },
            Self::Column(_) => "changed",
            Self::Unreadable(_) => "unreadable",
            Self::SnapshotMissing(_) => "snapshot_missing",
            Self::SnapshotChanged(_) => "snapshot_changed",
            Self::PayoutChanged(_) => "payout_changed",
        }
    }
}

impl From<BrokenLink> for BrokenRecord {
    fn from(BrokenLink { seq, what }: BrokenLink) -> Self {
        Self { seq, problem: RecordProblem::Chain(what) }
    }
}

const fn chain_text(kind: BreakKind) -> &'static str {
    match kind {
        BreakKind::Gap => "missing: it was removed",
        BreakKind::Order => "out of order: it was moved",
        BreakKind::Changed => "changed: it does not match its hash, or was swapped with another record",
        BreakKind::Truncated => "missing: the chain ends before its recorded head",
        BreakKind::Unanchored => {
            "missing: the records before the first one were removed, and no checkpoint of the retention names them"
        }
        BreakKind::Extra => "added: it is beyond the recorded head of the chain",
    }
}
