//! The range of the chain that a listing reads, and how the entries of a time are found in it.
//!
//! There is no index by time: an entry follows those that were decided before it, but for the clocks of the replicas.

use jiff::{SignedDuration, Timestamp};

use super::stored::{ChainEnds, DecisionFilter};

/// Entries read by one statement.
const PIECE: u64 = 2_000;
/// Statements of one call.
const MAX_PIECES: u32 = 25;
/// Twice the difference between the clocks of replicas up to which no entry of a time is missed.
const MARGIN: SignedDuration = SignedDuration::from_hours(1);

/// The entries `low..high` that are still to be read.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Range {
    pub(crate) low: u64,
    pub(crate) high: u64,
    pieces: u32,
}

impl Range {
    /// The entries of the chain below `before`.
    pub(crate) fn new(head: ChainEnds, before: Option<u64>) -> Self {
        let end = head.seq.saturating_add(1);
        Self { low: head.base_seq.saturating_add(1), high: before.map_or(end, |before| before.min(end)), pieces: 0 }
    }

    /// The beginning of the next piece, which ends at `high`; `None` after the last piece of the call.
    pub(crate) fn next_piece(&mut self) -> Option<u64> {
        if self.high <= self.low || self.pieces == MAX_PIECES {
            return None;
        }
        self.pieces += 1;
        Some(self.high.saturating_sub(PIECE).max(self.low))
    }

    /// Where the next call goes on.
    pub(crate) fn next(&self) -> Option<u64> {
        (self.high > self.low).then_some(self.high)
    }

    /// The times from which the range begins and ends, with the margin.
    pub(crate) fn bounds(filter: &DecisionFilter) -> (Option<Timestamp>, Option<Timestamp>) {
        let from = filter.from.map(|from| from.checked_sub(MARGIN).unwrap_or(Timestamp::MIN));
        let to = filter.to.map(|to| to.checked_add(MARGIN).unwrap_or(Timestamp::MAX));
        (from, to)
    }
}

/// A binary search for the first entry that is not before a time.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Seek {
    low: u64,
    high: u64,
}

impl Seek {
    /// Searches the entries of a range.
    pub(crate) const fn new(range: Range) -> Self {
        Self { low: range.low, high: range.high }
    }

    /// The entry to look at; `None` when it is found.
    pub(crate) const fn probe(self) -> Option<u64> {
        if self.low < self.high { Some(self.low + (self.high - self.low) / 2) } else { None }
    }

    /// Notes whether the entry that was looked at is before the time.
    pub(crate) const fn narrow(&mut self, at: u64, is_before: bool) {
        if is_before {
            self.low = at + 1;
        } else {
            self.high = at;
        }
    }

    /// The entry; the end of the range if all are before the time.
    pub(crate) const fn found(self) -> u64 {
        self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(times: &[u64], wanted: u64) -> u64 {
        let head = ChainEnds { seq: times.len() as u64, ..ChainEnds::default() };
        let mut seek = Seek::new(Range::new(head, None));
        while let Some(at) = seek.probe() {
            seek.narrow(at, times[usize::try_from(at).unwrap() - 1] < wanted);
        }
        seek.found()
    }

    #[test]
    fn the_first_entry_of_a_time_is_found_wherever_it_is() {
        let times = [3, 3, 5, 8, 8, 9];
        for (wanted, expected) in [(0, 1), (3, 1), (4, 3), (5, 3), (8, 4), (9, 6), (10, 7)] {
            assert_eq!(found(&times, wanted), expected, "{wanted}");
        }
        assert_eq!(found(&[], 1), 1, "the end of an empty chain");
    }

    #[test]
    fn a_range_is_read_in_pieces_from_its_end_and_goes_on_where_it_stopped() {
        let head = ChainEnds { seq: 100_000, base_seq: 10, ..ChainEnds::default() };
        let mut range = Range::new(head, None);
        let mut pieces = 0;
        while let Some(begin) = range.next_piece() {
            assert_eq!(range.high - begin, PIECE);
            range.high = begin;
            pieces += 1;
        }
        assert_eq!((pieces, range.next()), (MAX_PIECES, Some(100_001 - u64::from(MAX_PIECES) * PIECE)));
        let mut rest = Range::new(head, Some(15));
        assert_eq!((rest.next_piece(), rest.next()), (Some(11), Some(15)));
        rest.high = 11;
        assert_eq!((rest.next_piece(), rest.next()), (None, None));
    }
}
