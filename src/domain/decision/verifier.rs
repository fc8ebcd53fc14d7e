//! Checks a hash chain entry by entry, and names the first one that is not what was written. Pure.

use super::chain::{ChainHead, Checkpoint, EntryKind, link};
use crate::domain::canonical::Hash;

/// What is wrong with an entry.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum BreakKind {
    /// The entry is missing.
    Gap,
    /// The entry comes after one with the same or a higher number.
    Order,
    /// Its content is not what was hashed.
    Changed,
    /// The entry is missing, and so are all that follow it.
    Truncated,
    /// The entry was added behind the end of the chain, or the recorded end was changed.
    Extra,
    /// The first entries are missing, and no checkpoint says that retention deleted them.
    Unanchored,
}

impl BreakKind {
    /// What it is, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "the entry is missing",
            Self::Order => "the entry is out of order",
            Self::Changed => "the entry was changed",
            Self::Truncated => "the entry and all after it are missing",
            Self::Extra => "the entry does not match the recorded end of the chain",
            Self::Unanchored => "the entries before it are missing, and no checkpoint of the retention names them",
        }
    }
}

/// The first entry that is not what was written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("audit entry {seq} does not verify: {}; compare it with a backup", .what.as_str())]
pub struct BrokenLink {
    /// Its number.
    pub seq: u64,
    /// What is wrong with it.
    pub what: BreakKind,
}

/// Checks a chain. Push its entries in their order, then finish with the recorded head.
#[derive(Clone, Debug)]
pub struct ChainVerifier {
    start: ChainHead,
    last: ChainHead,
    /// Whether a checkpoint was seen that names `start`.
    anchored: bool,
}

impl ChainVerifier {
    /// A chain whose entries up to `start` were deleted; the default head if none were.
    pub const fn new(start: ChainHead) -> Self {
        Self { start, last: start, anchored: start.seq == 0 }
    }

    /// The last entry that was checked.
    pub const fn last(&self) -> ChainHead {
        self.last
    }

    /// Checks the next entry: its number, and its hash over its content and the entry before it.
    ///
    /// # Errors
    /// If the entry is not what was written; the first missing one, if some are missing.
    pub fn push(&mut self, seq: u64, kind: EntryKind, body: &[u8], hash: &Hash) -> Result<(), BrokenLink> {
        let expected = self.last.seq.saturating_add(1);
        if seq < expected {
            return Err(BrokenLink { seq, what: BreakKind::Order });
        }
        if seq > expected {
            let is_first = self.last == self.start;
            let what = if is_first && self.start.seq == 0 { BreakKind::Unanchored } else { BreakKind::Gap };
            return Err(BrokenLink { seq: expected, what });
        }
        if link(&self.last.hash, seq, kind, body) != *hash {
            return Err(BrokenLink { seq, what: BreakKind::Changed });
        }
        if kind == EntryKind::Checkpoint && !self.anchored {
            let Ok(checkpoint) = Checkpoint::decode(body) else {
                return Err(BrokenLink { seq, what: BreakKind::Changed });
            };
            self.anchored = checkpoint.start() == self.start;
        }
        self.last = ChainHead { hash: *hash, seq };
        Ok(())
    }

    /// Checks the end against the recorded head.
    ///
    /// # Errors
    /// If entries are missing at the end or at the start, or if there are more than were recorded.
    pub fn finish(self, head: &ChainHead) -> Result<ChainHead, BrokenLink> {
        let Self { start, last, anchored } = self;
        if last.seq < head.seq {
            return Err(BrokenLink { seq: last.seq.saturating_add(1), what: BreakKind::Truncated });
        }
        if last.seq > head.seq {
            return Err(BrokenLink { seq: head.seq.saturating_add(1), what: BreakKind::Extra });
        }
        if last.hash != head.hash {
            return Err(BrokenLink { seq: last.seq, what: BreakKind::Extra });
        }
        if !anchored {
            return Err(BrokenLink { seq: start.seq.saturating_add(1), what: BreakKind::Unanchored });
        }
        Ok(last)
    }
}
