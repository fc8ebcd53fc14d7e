//! What one walk of one window remembers, to notice that it goes in circles or that the list moves under it.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::{Judged, Limits};
use crate::ledger::Window;
use crate::sync::key::Ordinals;
use crate::sync::plan::short_hex;
use crate::sync::report::RunReason;

/// Tokens kept with the cursor, for a walk that is taken up again; within a run all of them are remembered.
const KEPT_TOKENS: usize = 32;

/// The memory of one walk.
#[derive(Default)]
pub(super) struct Guard {
    tokens: HashSet<String>,
    key_prints: HashSet<String>,
    pub(super) ordinals: Ordinals,
    empty_in_row: u32,
    /// An earlier run read the first pages, so the ordinals do not know them.
    joined_late: bool,
    /// Whether a page's name is a number that must grow.
    numbered: bool,
}

impl Guard {
    /// For a window that is new, or taken up again.
    pub(super) fn of(window: &Window, resumed: bool, numbered: bool) -> Self {
        let tokens = window.seen_tokens.iter().cloned().collect();
        Self { tokens, joined_late: resumed, numbered, ..Self::default() }
    }

    /// Whether rows may have been skipped, or counted as twins of themselves, because the list changed meanwhile.
    pub(super) fn moved_under_us(&self, window: &Window, judged: &Judged) -> bool {
        let shrank = matches!((window.total, judged.total), (Some(before), Some(now)) if now < before);
        shrank || (self.ordinals.any() && (self.joined_late || changed(window, judged)))
    }

    /// Whether the walk goes round: a next page that was asked for before, or a page that shows what an earlier one
    /// showed (some servers answer every page past the last with the last).
    pub(super) fn circle(
        &mut self,
        asked: &str,
        window: &Window,
        judged: &Judged,
        limits: &Limits,
    ) -> Option<RunReason> {
        self.tokens.insert(print(asked));
        let documents = judged.documents.iter().map(|document| document.key.as_str());
        let keys: Vec<&str> = judged.rows.iter().map(|row| row.key.as_str()).chain(documents).collect();
        let shown_before = !keys.is_empty() && !self.key_prints.insert(print(&keys.join("\n")));
        // A list that grew by exactly a page shows one again, honestly.
        if shown_before && !changed(window, judged) {
            return Some(RunReason::PaginationCycle);
        }
        let next = judged.next.as_deref()?;
        let forward = !self.numbered || next.parse::<u64>().ok() > asked.parse::<u64>().ok();
        if !forward || self.tokens.contains(&print(next)) {
            return Some(RunReason::PaginationCycle);
        }
        self.empty_in_row = if judged.fetched == 0 { self.empty_in_row + 1 } else { 0 };
        (self.empty_in_row > limits.max_empty_pages).then_some(RunReason::TooManyEmptyPages)
    }
}

/// Whether the provider counts other than before.
fn changed(window: &Window, judged: &Judged) -> bool {
    matches!((window.total, judged.total), (Some(before), Some(now)) if now != before)
}

/// Remembers, with the cursor, that `asked` was asked for.
pub(super) fn remember(window: &mut Window, asked: &str) {
    window.seen_tokens.push(print(asked));
    let surplus = window.seen_tokens.len().saturating_sub(KEPT_TOKENS);
    window.seen_tokens.drain(..surplus);
}

/// The same window from its first page.
pub(super) fn restarted(window: Window) -> Window {
    Window { page_no: 0, page_token: None, total: None, seen_tokens: Vec::new(), rows_in: 0, ..window }
}

fn print(text: &str) -> String {
    short_hex(Sha256::new().chain_update(text))
}
