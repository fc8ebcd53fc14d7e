//! What a `SyncJob` comes to: stream, partitions, limits and masking, with all defaults filled in. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::domain::hash::short_hex;
use crate::domain::key::ObjectKey;
use crate::domain::mask::MaskRules;
use crate::profile::{Pagination, Stream, TemplateError};

/// A job's sync, ready to run.
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
    /// Name of the header that carries each request's id.
    pub request_id_header: String,
    /// Partitions, walked in order. A job without partitions has one with an empty name.
    pub partitions: Vec<Partition>,
    /// Start of the first window; nothing before it is read. Unset: the stream's initial range.
    pub start: Option<Timestamp>,
    /// How far a window starts before the cursor; unset: the stream's lookback.
    pub lookback: Option<Duration>,
    /// Timeout of the whole run.
    pub run_timeout: Duration,
    /// A page with a higher percentage of invalid records is not committed; 100 disables the check.
    pub dead_letter_budget_percent: u8,
    /// Masking rules for rows.
    pub mask: MaskRules,
    /// Fetch, transform and validate one page per partition; write neither rows nor cursor.
    pub dry_run: bool,
    /// Limits of the run.
    pub limits: RunLimits,
}

/// A part of a stream with its own cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name, part of the cursor's key. Empty for a single partition.
    pub name: String,
    /// Effective parameters, merged from the connection, the job, the partition and the stream's defaults.
    pub parameters: BTreeMap<String, String>,
}

/// Limits of one run. A run that reaches one is Incomplete; the next run continues from there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Pages per partition and run: a million records at the usual hundred a page.
    pub max_pages: u32,
    /// Consecutive empty pages that each name a next page.
    pub max_empty_pages: u32,
    /// Restarts of a window because the provider's list changed during the walk.
    pub max_restarts: u32,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { max_pages: 10_000, max_empty_pages: 10, max_restarts: 3 }
    }
}

/// Identifies what one partition of a job reads, among all jobs: two partitions with the same one would write the same
/// rows. Not stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId([u8; 16]);

impl SyncPlan {
    /// What the values of the partition's parameters select, as one text: equal exactly for the same records. `None` if
    /// the stream has one source only.
    pub fn source(&self, partition: &Partition) -> Option<String> {
        let values = self.stream.source(&partition.parameters)?;
        // With lengths: "a" = "b=c" must differ from "a=b" = "c".
        let parts = values.into_iter().flat_map(|(name, value)| [name, value]);
        Some(parts.map(|part| format!("{}:{part}", part.len())).collect::<Vec<_>>().concat())
    }

    /// The sources of the job, one for each partition, in their order.
    pub fn source_ids(&self) -> Vec<SourceId> {
        let id = |partition: &Partition| {
            let mut hash = Sha256::new();
            let source = self.source(partition).unwrap_or_default();
            let (namespace, connection) = (&*self.job.namespace, self.connection.as_str());
            for part in [namespace, connection, self.stream_name.as_str(), partition.name.as_str(), source.as_str()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part.as_bytes());
            }
            SourceId(*hash.finalize().first_chunk::<16>().unwrap_or(&[0; 16]))
        };
        self.partitions.iter().map(id).collect()
    }

    /// Hash of what a partition's cursor depends on: `<source>.<paging>`. A different source (path, account, query)
    /// invalidates the cursor; different paging only the page position.
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
            // A token is valid for the page size it was issued for.
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
    /// The form stored with the cursor.
    pub fn text(&self) -> String {
        format!("{}.{}", self.source, self.paging)
    }

    /// The same with a keyed hash of the source, which may be a path with the number of an account.
    #[must_use]
    pub fn keyed(&self, digest: impl FnOnce(&str) -> String) -> Self {
        Self { source: digest(&self.source), paging: self.paging.clone() }
    }

    /// The stored form `stored` of the same source with this hash of it.
    pub fn with_paging_of(&self, stored: &str) -> String {
        format!("{}.{}", self.source, stored.split_once('.').map_or("", |(_, paging)| paging))
    }

    /// The hash of the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a stored cursor has the same source.
    pub fn same_source(&self, stored: &str) -> bool {
        stored.split_once('.').is_some_and(|(source, _)| source == self.source)
    }
}
