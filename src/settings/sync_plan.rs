//! What a `SyncJob` comes to: stream, partitions, limits and masking, with all defaults filled in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use sha2::{Digest, Sha256};

use crate::domain::event::EventGranularity;
use crate::domain::hash::short_hex;
use crate::domain::key::ObjectKey;
use crate::domain::mask::MaskRules;
pub use crate::domain::sla::SlaLimits;
use crate::profile::{CommitScope, LinkUse, Pagination, Stream, TemplateError};
use crate::settings::auth::{Auth, Placement};
use crate::settings::resolved::Settings;
use crate::settings::validation::Validations;

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
    /// The endpoint of the connection, to which links to a next page must lead.
    pub endpoint: PlanEndpoint,
    /// Name of the header that carries each request's id.
    pub request_id_header: String,
    /// Partitions, walked in order. A job without partitions has one with an empty name.
    pub partitions: Vec<Partition>,
    /// Start of the first window, which is stored with it; nothing before it is read. Unset: the stream's initial range.
    pub start: Option<Timestamp>,
    /// How far a window starts before the cursor; unset: the stream's lookback.
    pub lookback: Option<Duration>,
    /// When rows are written: with each page, or with the last one of a window.
    pub commit_scope: CommitScope,
    /// Timeout of the whole run.
    pub run_timeout: Duration,
    /// A page with a higher percentage of invalid records is not committed; 100 disables the check.
    pub dead_letter_budget_percent: u8,
    /// Masking rules for rows.
    pub mask: MaskRules,
    /// Rules that every record must pass.
    pub validations: Arc<Validations>,
    /// Whether, how and for how long the bodies of responses are stored.
    pub raw: RawRetention,
    /// How many events tell of the records of a page.
    pub events: EventGranularity,
    /// Fetch, transform and validate one page per partition; write neither rows nor cursor.
    pub dry_run: bool,
    /// Limits of the run.
    pub limits: RunLimits,
    /// Service-level thresholds of the runs.
    pub sla: SlaLimits,
    /// The range that this run fetches again. Set only in the plan of a resync: such a run neither reads nor moves the
    /// cursor of the incremental windows.
    pub resync: Option<ResyncPlan>,
    /// Where further partitions come from, read from the ledger when a run starts.
    pub partitions_from: Option<PartitionsFromPlan>,
}

/// Where the requests of a job go, and what is secret in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanEndpoint {
    /// The connection's base URL.
    pub base_url: Url,
    /// Names of the query parameters that hold credentials, in any case.
    pub secret_query: Vec<String>,
}

impl PlanEndpoint {
    /// The endpoint of the connection with these settings.
    pub fn of(connection: &Settings) -> Self {
        let profile = connection.profile();
        let of_auth = profile.auth.iter().flat_map(|auth| &auth.query).map(|query| &query.name);
        let of_key = match connection.auth() {
            Auth::ApiKey { placement: Placement::Query, name, .. } => Some(name),
            _ => None,
        };
        let secret_query = profile.secrets.query.iter().chain(of_auth).chain(of_key).cloned().collect();
        Self { base_url: connection.base_url().clone(), secret_query }
    }
}

/// A range to fetch again, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResyncPlan {
    /// ID of the request; the ledger stores each that was completed.
    pub id: String,
    /// Start of the range, inclusive.
    pub from: Timestamp,
    /// End of the range.
    pub to: Timestamp,
    /// Names of the partitions; empty: all.
    pub partitions: Vec<String>,
}

/// What happens to the bodies of responses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RawRetention {
    /// How they are stored.
    pub mode: RawStorage,
    /// For how long.
    pub ttl: Duration,
}

impl Default for RawRetention {
    fn default() -> Self {
        Self { mode: RawStorage::default(), ttl: Duration::from_hours(720) }
    }
}

/// How the bodies of responses are stored.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum RawStorage {
    /// Encrypted if the operator has a key, else not at all.
    #[default]
    IfKey,
    /// Not at all.
    Off,
    /// With every value masked.
    Masked,
    /// Encrypted with the newest key of the operator.
    Encrypted,
}

/// The records that become partitions: those of a stream of the same namespace, as another job stored them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionsFromPlan {
    /// Name of the job that stores them.
    pub job: String,
    /// Name of its connection.
    pub connection: String,
    /// Name of its stream.
    pub stream: String,
    /// Field of each record: its value is the name of the partition, and the value of a parameter.
    pub field: String,
    /// Parameters of the job, which apply to each partition.
    pub given: BTreeMap<String, String>,
    /// Parameters of the connection's endpoint.
    pub endpoint: BTreeMap<String, String>,
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

    /// The sources of the job: one for each partition, in their order, then one for all that come from another job.
    pub fn source_ids(&self) -> Vec<SourceId> {
        let id = |parts: &[&str]| {
            let mut hash = Sha256::new();
            let (namespace, connection) = (&*self.job.namespace, self.connection.as_str());
            for part in [namespace, connection, self.stream_name.as_str()].iter().chain(parts) {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part.as_bytes());
            }
            SourceId(*hash.finalize().first_chunk::<16>().unwrap_or(&[0; 16]))
        };
        let listed = self.partitions.iter().map(|partition| {
            let source = self.source(partition).unwrap_or_default();
            id(&[partition.name.as_str(), source.as_str()])
        });
        let others = self.partitions_from.iter().map(|from| {
            let given: Vec<&str> =
                from.given.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
            id(&[&["partitions from", &*from.connection, &*from.stream, &*from.field], given.as_slice()].concat())
        });
        listed.chain(others).collect()
    }

    /// Hash of what a partition's cursor depends on: `<source>.<paging>`. A different source (path, account, query, body)
    /// invalidates the cursor; different paging, or another reading of the records, only the page position.
    pub fn cursor_hash(&self, partition: &Partition) -> Result<CursorHash, TemplateError> {
        let mut source = Sha256::new();
        let mut part = |text: &str| {
            source.update((text.len() as u64).to_be_bytes());
            source.update(text.as_bytes());
        };
        part(&self.stream.path.path(&self.stream.path_values(&partition.parameters, None))?);
        for (name, value) in &self.stream.query {
            // A parameter without a value is omitted.
            let Ok(value) = value.value(&partition.parameters) else { continue };
            part(name);
            part(&value);
        }
        if let Some(body) = &self.stream.body {
            let (_, content) = body.expand(&self.stream.parameters, &partition.parameters, None);
            part(&String::from_utf8_lossy(&content));
        }
        let paging = match &self.stream.pagination {
            Pagination::Page { parameter, first, size, .. } => format!("{parameter}:{first}:{size}"),
            Pagination::Offset { parameter, first, size, .. } => format!("offset:{parameter}:{first}:{size}"),
            // A token is valid for the page size it was issued for.
            Pagination::Token { size, .. } => format!("token:{size:?}"),
            Pagination::LastRecordId { parameter, size, .. } => format!("after:{parameter}:{size}"),
            Pagination::NextUrl { link, .. } | Pagination::LinkHeader { link, .. } => match link {
                LinkUse::Follow => "link".to_owned(),
                LinkUse::TakeParams { parameters } => format!("link:{}", parameters.join(":")),
            },
            Pagination::None => "none".to_owned(),
        };
        // What is read of a record, and what becomes of it: half of a window must not be read with another key or mask.
        let reading =
            format!("{:?} {:?} {:?}", self.stream.expanded(&partition.parameters), self.mask, self.commit_scope);
        let paging = Sha256::new().chain_update(paging).chain_update("\n").chain_update(reading);
        Ok(CursorHash { source: short_hex(source), paging: short_hex(paging) })
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
