//! What a run would write: the counts and some of the rows of a dry run, compared with what is stored.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::ledger::PageCounts;

/// Collects what the pages of a dry run would write.
#[derive(Default)]
pub struct PreviewSink {
    /// Most rows to keep.
    samples: usize,
    collected: Mutex<Preview>,
}

/// What the pages of a dry run would write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// Rows that would be new, changed and unchanged.
    pub counts: PageCounts,
    /// Masked rows, as events show them.
    pub samples: Vec<Value>,
}

impl PreviewSink {
    /// A sink that keeps at most `samples` rows.
    pub fn new(samples: usize) -> Self {
        Self { samples, collected: Mutex::default() }
    }

    /// Rows that it has room for.
    pub(super) fn room(&self) -> usize {
        self.samples.saturating_sub(self.lock().samples.len())
    }

    /// Adds a page.
    pub(super) fn add(&self, counts: PageCounts, samples: impl IntoIterator<Item = Value>) {
        let room = self.room();
        let mut collected = self.lock();
        collected.counts += counts;
        collected.samples.extend(samples.into_iter().take(room));
    }

    /// What was collected.
    pub fn take(&self) -> Preview {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Preview> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PreviewSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreviewSink").field("samples", &self.samples).finish_non_exhaustive()
    }
}
