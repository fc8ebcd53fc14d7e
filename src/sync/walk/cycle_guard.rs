//! Detects the end of a list, pagination cycles, and list changes during the walk of one window.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::parsed_page::ParsedPage;
use crate::domain::hash::short_hex;
use crate::domain::record::KeyQuality;
use crate::domain::run_reason::RunReason;
use crate::ledger::SyncWindow;
use crate::profile::EndSign;
use crate::sync::key::Ordinals;
use crate::sync::paging::NextPage;

/// Tokens stored with the cursor, for resumed walks; within a run all of them are kept in memory.
const MAX_STORED_TOKENS: usize = 32;

/// Pages requested and returned so far in one walk.
#[derive(Default)]
pub(super) struct CycleGuard {
    tokens: HashSet<String>,
    page_fingerprints: HashSet<String>,
    /// Those of pages of records without an ID, whether or not they are compared.
    contents: HashSet<String>,
    /// Whether the last page had the content of an earlier one.
    has_same_content: bool,
    previous_page: Option<String>,
    pub(super) ordinals: Ordinals,
    consecutive_empty: u32,
    /// Whether an earlier run read the first pages, so that the ordinals do not cover them.
    resumed: bool,
    /// Whether page positions are numbers that must increase.
    numbered: bool,
}

impl CycleGuard {
    /// A guard for a new or resumed window.
    pub(super) fn new(window: &SyncWindow, resumed: bool, numbered: bool) -> Self {
        let tokens = window.seen_tokens.iter().cloned().collect();
        Self { tokens, resumed, numbered, ..Self::default() }
    }

    /// Whether the list changed during the walk such that rows may have been skipped or given a second derived key.
    pub(super) fn list_changed(&self, window: &SyncWindow, parsed: &ParsedPage) -> bool {
        let shrank = matches!((window.total, parsed.total), (Some(before), Some(now)) if now < before);
        shrank || (self.ordinals.is_used() && (self.resumed || total_changed(window, parsed)))
    }

    /// What follows a page: the next one, the end, or a walk without progress, which is a next page that was requested
    /// before, a page equal to an earlier one (some servers return the last page for every later position), or too many
    /// empty pages. Where the provider's total is known, it decides whether such a page is the end; else the stream.
    pub(super) fn after(&mut self, page: &WalkedPage<'_>) -> AfterPage {
        let WalkedPage { position, window, parsed, .. } = *page;
        self.tokens.insert(fingerprint(position));
        // A list that grew by exactly one page legitimately returns a page again.
        if let Some(equal) = self.equal_page(page).filter(|_| !total_changed(window, parsed)) {
            return match window.total {
                Some(total) if page.read_before >= total => AfterPage::RepeatedEnd,
                None if equal == EqualPage::Previous && page.has(EndSign::RepeatedPage) => AfterPage::RepeatedEnd,
                _ => AfterPage::Repeated,
            };
        }
        match &parsed.next {
            NextPage::End => page.end(),
            NextPage::Unreadable if page.is_whole() => AfterPage::End,
            NextPage::Unreadable => AfterPage::Stuck(RunReason::PaginationUnreadable),
            NextPage::At(next) => {
                if let Some(own) = self.leads_back(position, next) {
                    return page.after_next_that_leads_back(own, self.numbered);
                }
                let is_empty = parsed.fetched == 0 && parsed.removed.is_empty();
                self.consecutive_empty = if is_empty { self.consecutive_empty + 1 } else { 0 };
                let too_many = self.consecutive_empty > page.max_empty_pages;
                if too_many { AfterPage::Stuck(RunReason::TooManyEmptyPages) } else { AfterPage::Next }
            }
        }
    }

    /// Whether what the last page holds was read before. Equal records without an ID may be different ones, so this
    /// only counts if the walk cannot go on: else every run would store them once more.
    pub(super) fn is_read_again(&self, after: AfterPage) -> bool {
        match after {
            AfterPage::Repeated | AfterPage::RepeatedEnd => true,
            AfterPage::Stuck(RunReason::PaginationCycle) => self.has_same_content,
            _ => false,
        }
    }

    /// Whether a page with the same keys came before; a page without keys is equal to none.
    fn equal_page(&mut self, page: &WalkedPage<'_>) -> Option<EqualPage> {
        let documents = page.parsed.documents.iter().map(|document| (document.key.as_str(), document.key_quality));
        let others = page.parsed.records.iter().map(|record| {
            let identity = record.identity();
            (identity.key.as_str(), identity.key_quality)
        });
        let rows = page.parsed.rows.iter().map(|row| (row.key.as_str(), row.key_quality));
        let keyed = rows.chain(documents).chain(others);
        let mut keys = keyed.clone().map(|(key, quality)| content_key(key, quality)).peekable();
        self.has_same_content = false;
        let first = *keys.peek()?;
        let without_ids = keyed.clone().all(|(_, quality)| quality == KeyQuality::Derived);
        self.has_same_content = without_ids && !self.contents.insert(fingerprint_of(keys.clone()));
        if without_ids && !page.shows_repetition(keys.clone().all(|key| key == first)) {
            return None;
        }
        let keys = fingerprint_of(keys);
        let is_previous = self.previous_page.replace(keys.clone()).is_some_and(|previous| previous == keys);
        let is_new = self.page_fingerprints.insert(keys);
        (!is_new).then_some(if is_previous { EqualPage::Previous } else { EqualPage::Earlier })
    }

    /// Whether the next page is not after the page at `position`: `true` if it is that page.
    fn leads_back(&self, position: &str, next: &str) -> Option<bool> {
        let back = if self.numbered {
            next.parse::<u64>().ok() <= position.parse::<u64>().ok()
        } else {
            self.tokens.contains(&fingerprint(next))
        };
        back.then_some(next == position)
    }
}

/// What a page is equal to.
#[derive(Copy, Clone, PartialEq, Eq)]
enum EqualPage {
    Previous,
    Earlier,
}

/// A page of a walk, and what is known of its list.
#[derive(Copy, Clone)]
pub(super) struct WalkedPage<'a> {
    /// Its number, offset or token.
    pub(super) position: &'a str,
    /// The window before it.
    pub(super) window: &'a SyncWindow,
    pub(super) parsed: &'a ParsedPage,
    /// The records of the window before it.
    pub(super) read_before: u64,
    /// The signs of the end that the stream declares.
    pub(super) end_as: &'a [EndSign],
    /// The requested page size, if there is one.
    pub(super) size: Option<u64>,
    pub(super) max_empty_pages: u32,
}

/// What follows a page.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum AfterPage {
    /// The next page.
    Next,
    /// The list is complete.
    End,
    /// The list is complete; the page is an earlier one again.
    RepeatedEnd,
    /// The list ends before the provider's total.
    Short,
    /// The page is an earlier one again, and the list is not known to be complete.
    Repeated,
    /// The page was read, but leads to no other, and the list is not known to be complete.
    Stuck(RunReason),
}

impl WalkedPage<'_> {
    /// The records of the window up to the page's end.
    pub(super) fn read(&self) -> u64 {
        self.read_before.saturating_add(self.parsed.fetched)
    }

    /// The provider's total: the last one that can be one.
    pub(super) fn total(&self) -> Option<u64> {
        self.parsed.total.or(self.window.total).filter(|total| *total >= self.read())
    }

    /// Whether the provider's total is read. On a full page it may be the number of the records so far, unless the page
    /// before had the same.
    fn is_whole(&self) -> bool {
        let may_count_read =
            !self.is_short() && (self.window.total.is_none() || total_changed(self.window, self.parsed));
        !may_count_read && self.total().is_some_and(|total| self.read() >= total)
    }

    fn is_short(&self) -> bool {
        self.size.is_some_and(|size| self.parsed.fetched < size)
    }

    /// Whether a page of records without an ID that came before is that page again, rather than equal records: not while
    /// the provider's total says that there are more, and not if it is a full page of one record again and again.
    fn shows_repetition(&self, is_uniform: bool) -> bool {
        let is_before_total = self.window.total.is_some_and(|total| self.read_before < total);
        !is_before_total && (!is_uniform || self.is_short())
    }

    fn has(&self, sign: EndSign) -> bool {
        self.end_as.contains(&sign)
    }

    fn end(&self) -> AfterPage {
        if self.total().is_some_and(|total| self.read() < total) { AfterPage::Short } else { AfterPage::End }
    }

    /// Some servers name the last page again, or the first one, as the next.
    fn after_next_that_leads_back(&self, own: bool, numbered: bool) -> AfterPage {
        match self.total() {
            Some(total) if self.read() >= total => AfterPage::End,
            Some(_) if own => AfterPage::Short,
            None if self.has(EndSign::SameNext) && (own || numbered) => AfterPage::End,
            None if self.has(EndSign::ShortPage) && self.is_short() => AfterPage::End,
            _ => AfterPage::Stuck(RunReason::PaginationCycle),
        }
    }
}

/// Whether the provider's total differs from the previous page's.
fn total_changed(window: &SyncWindow, parsed: &ParsedPage) -> bool {
    matches!((window.total, parsed.total), (Some(before), Some(now)) if now != before)
}

/// Stores with the cursor that `position` was requested.
pub(super) fn record_position(window: &mut SyncWindow, position: &str) {
    window.seen_tokens.push(fingerprint(position));
    let surplus = window.seen_tokens.len().saturating_sub(MAX_STORED_TOKENS);
    window.seen_tokens.drain(..surplus);
}

/// The same window, reset to its first page. Without the number of its pages, the next one drops what is staged: what a
/// walk of a patch stream staged may have been withdrawn since. What a list staged stays, because it may be the first
/// part of a window that was split.
pub(super) fn restarted(window: SyncWindow, drops_staged: bool) -> SyncWindow {
    let page_no = if drops_staged { 0 } else { window.page_no };
    SyncWindow { page_no, page_token: None, total: None, seen_tokens: Vec::new(), rows_in: 0, ..window }
}

/// The key without the number of the record among its equals, if it is derived from the record's content: when a page
/// is read again, its records have other numbers.
fn content_key(key: &str, quality: KeyQuality) -> &str {
    match key.rsplit_once('-') {
        Some((content, _)) if quality == KeyQuality::Derived => content,
        _ => key,
    }
}

/// The fingerprint of a page's keys, of which there may be megabytes.
fn fingerprint_of<'k>(keys: impl Iterator<Item = &'k str>) -> String {
    short_hex(keys.fold(Sha256::new(), |hash, key| hash.chain_update(key).chain_update("\n")))
}

fn fingerprint(text: &str) -> String {
    short_hex(Sha256::new().chain_update(text))
}
