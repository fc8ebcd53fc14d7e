//! Small pages that share a commit: one transaction with all their rows, events and dead letters, and the position after
//! the last one.
//!
//! A commit waits for the disk, which takes longer than to request and store a page of a few records. A process that is
//! killed meanwhile requests the pages of the group again; of pages with [`SMALL_PAGE`] records or more, only one.

use std::time::Duration;

use jiff::Timestamp;

use super::parsed_page::ParsedPage;
use crate::domain::cursor::SyncWindow;
use crate::domain::time::Mono;
use crate::ledger::CommitScope;

/// Fewest records of a page that is committed by itself.
pub(super) const SMALL_PAGE: u64 = 50;
/// Records of a group at which it is committed.
const MAX_RECORDS: u64 = 500;
/// Pages of a group at which it is committed.
const MAX_PAGES: usize = 16;
/// How long the first page of a group waits for others.
const MAX_WAIT: Duration = Duration::from_millis(50);
/// The resolution of stored times.
const STEP: Duration = Duration::from_millis(1);

/// A page that was read, and the cursor's window after it.
pub(super) struct ReadPage {
    /// `None`: the window ends with the page.
    pub(super) window: Option<SyncWindow>,
    pub(super) parsed: ParsedPage,
    pub(super) scope: CommitScope,
}

/// Pages of one window that are not committed, in their order.
#[derive(Default)]
pub(super) struct PageGroup {
    pages: Vec<ReadPage>,
    /// When the first of them was read.
    since: Option<Mono>,
    /// The time that the page before was stored with.
    stored: Option<Timestamp>,
}

impl PageGroup {
    /// Adds a page that was read now.
    pub(super) fn push(&mut self, page: ReadPage, now: Mono) {
        self.since.get_or_insert(now);
        self.pages.push(page);
    }

    /// Until when the pages may wait for another one; `None` if they are committed now.
    pub(super) fn waits_until(&self) -> Option<Mono> {
        let is_small = self.pages.last()?.parsed.fetched < SMALL_PAGE;
        let records: u64 = self.pages.iter().map(|page| page.parsed.fetched).sum();
        let waits = is_small && records < MAX_RECORDS && self.pages.len() < MAX_PAGES;
        self.since.filter(|_| waits).map(|since| since + MAX_WAIT)
    }

    /// The time to store the next page with: after that of the page before it, also in one transaction. What was read later is
    /// known to be newer.
    pub(super) fn time(&mut self, now: Timestamp) -> Timestamp {
        let time = self.stored.map_or(now, |stored| now.max(stored + STEP));
        self.stored = Some(time);
        time
    }

    /// Takes the pages, to commit them.
    pub(super) fn take(&mut self) -> Vec<ReadPage> {
        self.since = None;
        std::mem::take(&mut self.pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(fetched: u64) -> ReadPage {
        ReadPage { window: None, parsed: ParsedPage { fetched, ..ParsedPage::default() }, scope: CommitScope::Page }
    }

    #[test]
    fn small_pages_wait_for_each_other_and_large_ones_for_none() {
        let waits = |records: &[u64]| {
            let mut group = PageGroup::default();
            for fetched in records {
                group.push(page(*fetched), Mono::ZERO);
            }
            group.waits_until().is_some()
        };
        assert!(!waits(&[]));
        for (records, expected) in [(0, true), (SMALL_PAGE - 1, true), (SMALL_PAGE, false), (100, false)] {
            assert_eq!(waits(&[records]), expected, "{records}");
        }
        assert!(waits(&[49; 10]) && !waits(&[49; 11]), "records");
        assert!(waits(&[1; MAX_PAGES - 1]) && !waits(&[1; MAX_PAGES]), "pages");
        assert!(!waits(&[1, 200]), "a large page takes the small ones with it");
    }

    #[test]
    fn no_two_pages_are_stored_at_one_time() {
        let (mut group, now) = (PageGroup::default(), Timestamp::UNIX_EPOCH);
        let times = [now, now, now, now + Duration::from_secs(1), now].map(|now| group.time(now).as_millisecond());
        assert_eq!(times, [0, 1, 2, 1_000, 1_001]);
    }

    #[test]
    fn the_first_page_decides_how_long_a_group_waits() {
        let mut group = PageGroup::default();
        for later in [0, 20, 40] {
            group.push(page(1), Mono::ZERO + Duration::from_millis(later));
        }
        assert_eq!(group.waits_until(), Some(Mono::ZERO + MAX_WAIT));
        assert_eq!(group.take().len(), 3);
        group.push(page(1), Mono::ZERO + Duration::from_secs(1));
        assert_eq!(group.waits_until(), Some(Mono::ZERO + Duration::from_secs(1) + MAX_WAIT));
    }
}
