//! Cursors of sync jobs and the windows they walk.
//!
//! Cursor texts are opaque here: the sync layer interprets them, the ledger stores them.

/// Between a stream's name and its source. No name of a stream contains it.
const SOURCE_MARK: char = '#';
/// After a job's name in the key of the cursor of its resyncs. No name of an object contains it.
const RESYNC_MARK: &str = "#resync";

/// The stored name of a stream that reads one of several sources, which `source` identifies.
///
/// The source is part of the name, so that the rows of two sources are never one row although their ids are equal, and
/// the schema is that of versions without sources.
pub fn stored_stream(name: &str, source: &str) -> String {
    format!("{name}{SOURCE_MARK}{source}")
}

/// The name of a stream from its stored name.
pub fn stream_name(stored: &str) -> &str {
    stored.split_once(SOURCE_MARK).map_or(stored, |(name, _)| name)
}

/// The job in the key of the cursor of its resyncs, whose windows are apart from the incremental ones.
pub fn resync_job(job: &str) -> String {
    format!("{job}{RESYNC_MARK}")
}

/// The name of a job from that in the key of one of its cursors.
pub fn job_name(stored: &str) -> &str {
    stored.strip_suffix(RESYNC_MARK).unwrap_or(stored)
}

/// Identifies a stream's data. Survives the deletion and re-creation of every object it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Namespace of the connection and of its jobs.
    pub namespace: String,
    /// Name of the connection.
    pub connection: String,
    /// The connection's provider id.
    pub provider: String,
    /// `Sandbox` or `Production`.
    pub environment: String,
    /// Stored name of the stream: its name, with its source where it has several; see [`stored_stream`].
    pub stream: String,
    /// Name of the partition; empty for a job without partitions.
    pub partition: String,
}

/// Identifies a cursor: a stream as one job reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CursorKey {
    /// The stream.
    pub stream: StreamKey,
    /// Name of the `SyncJob`, with a mark where the cursor is that of its resyncs; see [`resync_job`].
    pub job: String,
}

/// A window that is being walked. Its bounds are fixed when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncWindow {
    /// Lower bound (inclusive).
    pub from: String,
    /// Upper bound (inclusive).
    pub to: String,
    /// Pages committed so far.
    pub page_no: u32,
    /// Token of the next page; `None` for the first.
    pub page_token: Option<String>,
    /// The provider's count of records, if it reports one.
    pub total: Option<u64>,
    /// Highest cursor value read so far.
    pub candidate_hwm: Option<String>,
    /// Fingerprints of the tokens requested so far, for cycle detection.
    pub seen_tokens: Vec<String>,
    /// Records read in this window.
    pub rows_in: u64,
    /// Dead letters of this window.
    pub rows_dead: u64,
}

/// The stored position of a job in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CursorState {
    /// Incremented by each committed page; 0 before the first.
    pub version: i64,
    /// Hash of what the cursor's meaning depends on; a cursor with another hash is discarded.
    pub spec_hash: String,
    /// High-water mark: everything up to here is committed.
    pub committed_hwm: Option<String>,
    /// Start of the first window, where the job set one: no later window starts before it.
    pub earliest: Option<String>,
    /// The window being walked; `None` after a run that completed its window.
    pub window: Option<SyncWindow>,
}
