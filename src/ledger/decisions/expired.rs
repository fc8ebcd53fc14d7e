//! The beginning of the chain that is past its retention, and the checkpoint in its place.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::columns::EntryColumns;
use super::row::NewRow;
use super::stored::ChainEnds;
use crate::domain::decision::{Checkpoint, EntryKind, Hash, link};

/// Finds how many entries from the beginning of the chain are past their retention.
///
/// An entry of a time ahead of the clock was written by a wrong one; it is as old as the entries behind it.
#[derive(Debug)]
pub(crate) struct ExpiredPrefix {
    before: i64,
    latest: i64,
    is_over: bool,
    found: Option<Checkpoint>,
    /// There is something else than checkpoints among them.
    is_worth_it: bool,
    /// The same of those that were pushed since.
    pending: bool,
}

impl ExpiredPrefix {
    /// Entries are expired from `before` on, in milliseconds; later than `latest` none can be.
    pub(crate) const fn new(before: i64, latest: i64) -> Self {
        Self { before, latest, is_over: false, found: None, is_worth_it: false, pending: false }
    }

    /// Adds the next entry of the chain.
    pub(crate) fn push(&mut self, kind: EntryKind, seq: u64, at_ms: i64, hash: Hash) {
        self.is_over |= at_ms >= self.before && at_ms <= self.latest;
        if self.is_over {
            return;
        }
        self.pending |= kind != EntryKind::Checkpoint;
        if at_ms < self.before {
            self.is_worth_it |= self.pending;
            // Numbers begin with 1, so that of the last one is how many were deleted in all.
            self.found = Some(Checkpoint { count: seq, hash, seq });
        }
    }

    /// The entries to delete. `None` if there are only checkpoints: each deletion adds one, so it would never end.
    pub(crate) fn found(self) -> Option<Checkpoint> {
        self.found.filter(|_| self.is_worth_it)
    }
}

/// Not before any stored day of a daily limit that is over everywhere at `before`, whatever the zone of the limit and its
/// currency.
pub(crate) fn last_limit_day(before: Timestamp) -> String {
    let day = before.to_zoned(TimeZone::UTC).date().saturating_sub(Span::new().days(2));
    // A currency follows, whose letters are before this character.
    format!("{day} ~")
}

/// The row of a checkpoint at the end of the chain.
pub(crate) fn checkpoint_row(head: &mut ChainEnds, checkpoint: &Checkpoint, now: Timestamp) -> NewRow<'static> {
    let body = checkpoint.encode();
    let seq = head.seq + 1;
    let hash = link(&head.hash, seq, EntryKind::Checkpoint, &body);
    (head.seq, head.hash) = (seq, hash);
    NewRow { seq, hash, ..NewRow::of_columns(EntryKind::Checkpoint, EntryColumns::at(now), body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last entry to delete, with 100 as the time of the retention and 1000 as the latest that can be.
    fn found(entries: &[(EntryKind, i64)]) -> Option<u64> {
        let mut prefix = ExpiredPrefix::new(100, 1_000);
        for (seq, (kind, at)) in (11..).zip(entries) {
            prefix.push(*kind, seq, *at, [0; 32]);
        }
        prefix.found().map(|found| found.seq)
    }

    #[test]
    fn the_beginning_of_the_chain_is_expired_up_to_the_first_younger_entry() {
        use EntryKind::{Checkpoint, Decision, Outcome};
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[(Decision, 100)]), None);
        assert_eq!(found(&[(Decision, 1), (Outcome, 99), (Decision, 100), (Decision, 5)]), Some(12));
        assert_eq!(found(&[(Checkpoint, 1), (Checkpoint, 2)]), None, "never only checkpoints");
        assert_eq!(found(&[(Checkpoint, 1), (Decision, 2), (Checkpoint, 3)]), Some(13));
        assert_eq!(found(&[(Decision, 2_000), (Decision, 9)]), Some(12), "ahead of an older one");
        assert_eq!(found(&[(Decision, 9), (Decision, 2_000), (Decision, 500)]), Some(11), "ahead of no older one");
    }
}
