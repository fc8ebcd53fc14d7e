//! Cursors, windows, leases, and the page that moves them.
//!
//! Cursor texts are opaque here: the sync layer gives them meaning, the ledger keeps them.

use jiff::Timestamp;

use super::document::DocumentRecord;
use super::record::{DeadLetter, TransactionRecord};
use super::runs::RunId;

/// Whose data a row is. Survives the deletion and re-creation of every object it names.
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
    /// Name of the stream.
    pub stream: String,
    /// Name of the partition; empty for a job without partitions.
    pub partition: String,
}

/// Whose cursor a state is: a stream as one job reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobKey {
    /// The data.
    pub stream: StreamKey,
    /// Name of the `SyncJob`.
    pub job: String,
}

/// What a window is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Follows the cursor and moves it when complete.
    Incremental,
    /// A requested range; never moves the cursor.
    Resync,
    /// A whole new generation.
    Refresh,
}

impl WindowKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Incremental, Self::Resync, Self::Refresh];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incremental => "incremental",
            Self::Resync => "resync",
            Self::Refresh => "refresh",
        }
    }
}

/// A window that is being walked: its ends were pinned when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// What it is for.
    pub kind: WindowKind,
    /// Where it starts (inclusive).
    pub from: String,
    /// Where it ends (inclusive).
    pub to: String,
    /// Pages committed so far.
    pub page_no: u32,
    /// The page to fetch next; `None` for the first.
    pub page_token: Option<String>,
    /// The provider's own count of records, when it tells one.
    pub total: Option<u64>,
    /// Greatest cursor value seen so far.
    pub candidate_hwm: Option<String>,
    /// Fingerprints of the tokens asked for so far, to notice a circle.
    pub seen_tokens: Vec<String>,
    /// Records read in this window.
    pub rows_in: u64,
    /// Records kept aside in this window.
    pub rows_dead: u64,
}

/// Where a job stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CursorState {
    /// Raised by each committed page; 0 before the first.
    pub version: i64,
    /// What the cursor's meaning depends on; a cursor of another hash is not followed.
    pub spec_hash: String,
    /// Everything up to here is in.
    pub committed_hwm: Option<String>,
    /// The window being walked; `None` between runs that completed theirs.
    pub window: Option<Window>,
}

/// Proof that its holder may write, as long as nobody has taken a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it guards.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Grows with every taking; checked inside each page transaction.
    pub fence: i64,
    /// When others may take it.
    pub expires: Timestamp,
}

/// A lease as one sees it who does not hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Who holds it.
    pub holder: String,
    /// Its fence.
    pub fence: i64,
    /// When it runs out, by the holder's wall clock.
    pub expires: Timestamp,
}

/// All that one page transaction does.
#[derive(Clone, Debug)]
pub struct PageCommit<'a> {
    /// Whose cursor.
    pub job: &'a JobKey,
    /// The writer's lease.
    pub lease: &'a Lease,
    /// The run it belongs to; its counters move with the page.
    pub run: RunId,
    /// The state as it shall be; its `version` is the one that the writer knows.
    pub state: &'a CursorState,
    /// Rows, unique by account and key.
    pub rows: &'a [TransactionRecord],
    /// Documents, unique by key.
    pub documents: &'a [DocumentRecord],
    /// Records kept aside.
    pub dead: &'a [DeadLetter],
    /// Records that the page held, duplicates and rejected ones included.
    pub fetched: u64,
    /// Pages that this transaction commits: 1, or 0 when it only moves the state.
    pub pages: u64,
    /// Wall time, written to the rows.
    pub now: Timestamp,
}

/// What a page changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct PageCounts {
    /// New rows.
    pub inserted: u64,
    /// Rows whose content changed.
    pub updated: u64,
    /// Rows that were there already, the same.
    pub unchanged: u64,
}

/// A committed page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PageOutcome {
    /// The state's new version.
    pub version: i64,
    /// What changed.
    pub counts: PageCounts,
}
