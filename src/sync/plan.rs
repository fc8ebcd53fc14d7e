//! What to fetch, with every default filled in. Made by the controller from a `SyncJob` and its connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::mask::MaskRules;
use crate::domain::key::ObjectKey;
use crate::ledger::{JobKey, StreamKey};
use crate::provider::profile::{Pagination, Stream, TemplateError};

/// One job's sync, ready to run.
#[derive(Clone, Debug)]
pub struct SyncPlan {
    /// The `SyncJob`.
    pub job: ObjectKey,
    /// Name of the connection, in the same namespace.
    pub connection: String,
    /// The connection's provider id.
    pub provider: String,
    /// `Sandbox` or `Production`.
    pub environment: String,
    /// Name of the stream.
    pub stream_name: String,
    /// Its description.
    pub stream: Arc<Stream>,
    /// The header in which each request carries an id of its own.
    pub correlation: String,
    /// What to walk, one after the other. A job without partitions has one with an empty name.
    pub partitions: Vec<Partition>,
    /// Where the first window starts, and before which nothing is read; unset: the stream's own reach.
    pub start: Option<Timestamp>,
    /// How far a window reaches back before the cursor; unset: the stream's.
    pub lookback: Option<Duration>,
    /// The whole run must end within this.
    pub run_timeout: Duration,
    /// A page with more invalid records than this percentage is not committed; 100 switches that off.
    pub dead_letter_budget_percent: u8,
    /// What is hidden in rows.
    pub mask: MaskRules,
    /// Fetch, transform and validate one page per partition; write neither rows nor cursor.
    pub dry_run: bool,
    /// Caps.
    pub limits: Limits,
}

/// One part of a stream with a cursor of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name: the cursor's key. Empty for the only one.
    pub name: String,
    /// The values in force: the connection's, the job's, its own, and the stream's defaults.
    pub parameters: BTreeMap<String, String>,
}

/// Caps of one run. A run that reaches one is Incomplete, and the next goes on from there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pages per partition and run: a million records at the usual hundred a page.
    pub max_pages: u32,
    /// Empty pages in a row that may each name a next one.
    pub max_empty_pages: u32,
    /// How often a window starts over because the provider's list shrank under it.
    pub max_restarts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pages: 10_000, max_empty_pages: 10, max_restarts: 3 }
    }
}

impl SyncPlan {
    /// Whose cursor a partition's is.
    pub fn job_key(&self, partition: &Partition) -> JobKey {
        JobKey {
            stream: StreamKey {
                namespace: self.job.namespace.to_string(),
                connection: self.connection.clone(),
                provider: self.provider.clone(),
                environment: self.environment.clone(),
                stream: self.stream_name.clone(),
                partition: partition.name.clone(),
            },
            job: self.job.name.to_string(),
        }
    }

    /// What a partition's cursor means: `<source>.<paging>`. Another source (path, account, query) makes the cursor
    /// worthless; another paging only the page number.
    pub fn cursor_hash(&self, partition: &Partition) -> Result<CursorHash, TemplateError> {
        let mut source = Sha256::new();
        let mut part = |text: &str| {
            source.update((text.len() as u64).to_be_bytes());
            source.update(text.as_bytes());
        };
        part(&self.stream.path.path(&partition.parameters)?);
        for (name, value) in &self.stream.query {
            part(name);
            part(&value.value(&partition.parameters)?);
        }
        let paging = match &self.stream.pagination {
            Pagination::Page { parameter, first, size, .. } => format!("{parameter}:{first}:{size}"),
            Pagination::Offset { parameter, first, size, .. } => format!("offset:{parameter}:{first}:{size}"),
            // A token is good for the size that it was given for.
            Pagination::Token { size, .. } => format!("token:{size:?}"),
            Pagination::LastRecordId { parameter, size, .. } => format!("after:{parameter}:{size}"),
            Pagination::NextUrl { .. } | Pagination::LinkHeader { .. } => "link".to_owned(),
            Pagination::None => "none".to_owned(),
        };
        Ok(CursorHash { source: short_hex(source), paging: short_hex(Sha256::new().chain_update(paging)) })
    }
}

/// See [`SyncPlan::cursor_hash`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorHash {
    source: String,
    paging: String,
}

impl CursorHash {
    /// As stored with the cursor.
    pub fn text(&self) -> String {
        format!("{}.{}", self.source, self.paging)
    }

    /// Whether a stored cursor follows the same source.
    pub fn same_source(&self, stored: &str) -> bool {
        stored.split_once('.').is_some_and(|(source, _)| source == self.source)
    }
}

/// The first 64 bits of a digest: for telling apart the few values that one job ever has.
pub(super) fn short_hex(digest: Sha256) -> String {
    hex(&digest.finalize(), 8)
}

/// The first `len` bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8], len: usize) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes.iter().take(len).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
