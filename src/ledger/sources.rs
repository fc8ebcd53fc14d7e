//! The sources of streams, as the ledger knows them: what was stored before streams had sources, and what is erased with a
//! job.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::lease::Lease;
use crate::domain::cursor::{CursorKey, StreamKey};

/// What a job asks for before it reads a source: the rows of the stream that a version without sources stored.
#[derive(Clone, Debug)]
pub struct SourceAdoption<'a> {
    /// The cursor; the name of its stream has a source.
    pub cursor: &'a CursorKey,
    /// The forms in which versions without sources stored a cursor's hash of this source, up to the dot.
    pub source_hashes: [String; 2],
    /// The writer's lease.
    pub lease: &'a Lease,
}

/// The names of the jobs of a namespace that exist, but for the one that is deleted.
pub type ExistingJobs = BTreeSet<Arc<str>>;

/// What was deleted with a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Transactions and documents.
    pub rows: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Recorded runs.
    pub runs: u64,
    /// The rows that were kept.
    pub kept: Vec<KeptRows>,
}

/// Rows that were kept, because other jobs read them too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRows {
    /// Their stream.
    pub stream: StreamKey,
    /// The names of those jobs, in order; at least one.
    pub readers: Vec<String>,
}
