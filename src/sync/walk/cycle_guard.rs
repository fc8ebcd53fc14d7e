//! Detects pagination cycles and list changes during the walk of one window.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::parsed_page::ParsedPage;
use crate::domain::hash::short_hex;
use crate::domain::run_reason::RunReason;
use crate::ledger::SyncWindow;
use crate::settings::sync_plan::RunLimits;
use crate::sync::key::Ordinals;

/// Tokens stored with the cursor, for resumed walks; within a run all of them are kept in memory.
const MAX_STORED_TOKENS: usize = 32;

/// Pages requested and returned so far in one walk.
#[derive(Default)]
pub(super) struct CycleGuard {
    tokens: HashSet<String>,
    page_fingerprints: HashSet<String>,
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

    /// Detects a walk without progress: a next page that was requested before, a page equal to an earlier one (some
    /// servers return the last page for every later position), or too many empty pages.
    pub(super) fn check_progress(
        &mut self,
        position: &str,
        window: &SyncWindow,
        parsed: &ParsedPage,
        limits: &RunLimits,
    ) -> Option<RunReason> {
        self.tokens.insert(fingerprint(position));
        let documents = parsed.documents.iter().map(|document| document.key.as_str());
        let mut keys = parsed.rows.iter().map(|row| row.key.as_str()).chain(documents).peekable();
        let repeated = keys.peek().is_some() && !self.page_fingerprints.insert(fingerprint_of(keys));
        // A list that grew by exactly one page legitimately returns a page again.
        if repeated && !total_changed(window, parsed) {
            return Some(RunReason::PaginationCycle);
        }
        let next = parsed.next.as_deref()?;
        let forward = !self.numbered || next.parse::<u64>().ok() > position.parse::<u64>().ok();
        if !forward || self.tokens.contains(&fingerprint(next)) {
            return Some(RunReason::PaginationCycle);
        }
        self.consecutive_empty = if parsed.fetched == 0 { self.consecutive_empty + 1 } else { 0 };
        (self.consecutive_empty > limits.max_empty_pages).then_some(RunReason::TooManyEmptyPages)
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

/// The same window, reset to its first page.
pub(super) fn restarted(window: SyncWindow) -> SyncWindow {
    SyncWindow { page_no: 0, page_token: None, total: None, seen_tokens: Vec::new(), rows_in: 0, ..window }
}

/// The fingerprint of a page's keys, of which there may be megabytes.
fn fingerprint_of<'k>(keys: impl Iterator<Item = &'k str>) -> String {
    short_hex(keys.fold(Sha256::new(), |hash, key| hash.chain_update(key).chain_update("\n")))
}

fn fingerprint(text: &str) -> String {
    short_hex(Sha256::new().chain_update(text))
}
