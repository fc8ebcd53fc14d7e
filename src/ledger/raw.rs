//! Raw payloads: the bodies of provider responses, masked or encrypted, for as long as their job says; and the dead
//! letters that are replayed from them.
//!
//! Only bodies: no header, no query, no credential of a request. A payload is encrypted before it gets here, for the
//! context that [`RawPayload::context`] names, so that a row copied to another job cannot be decrypted there.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::audit::AuditEntry;
use super::error::LedgerFuture;
use super::lease::Lease;
use super::record::RowIdentity;
use crate::domain::cursor::StreamKey;
use crate::domain::key::ObjectKey;

/// How a payload is stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum RawMode {
    /// Every value is replaced; the structure is kept.
    Masked,
    /// AES-256-GCM with a key of `--key-secret`.
    Encrypted,
}

impl RawMode {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Masked, Self::Encrypted];

    /// The stored value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Masked => "masked",
            Self::Encrypted => "encrypted",
        }
    }
}

/// The body of one response, to be stored with its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPayload {
    /// Its ID: `raw_ref` in rows, events and dead letters.
    pub id: Uuid,
    /// How `body` is stored.
    pub mode: RawMode,
    /// The masked or encrypted body.
    pub body: Bytes,
    /// SHA-256 of `body`.
    pub sha256: [u8; 32],
    /// Size of the body as received, in bytes.
    pub size: u64,
    /// What was requested, as JSON: operation, window and page. Never a parameter of the request.
    pub request: String,
    /// The window that was walked: its kind and its bounds.
    pub window: String,
    /// The page's number in its window.
    pub page_no: u32,
    /// When it is deleted.
    pub expires: Timestamp,
}

impl RawPayload {
    /// The context that a payload is encrypted for: the job, the page and the payload itself.
    pub fn context(job: &ObjectKey, window: &str, page_no: u32, id: Uuid) -> String {
        format!("raw payload\0{}\0{}\0{window}\0{page_no}\0{id}", job.namespace, job.name)
    }
}

/// A raw payload as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRaw {
    /// The stream.
    pub stream: StreamKey,
    /// The job that fetched it.
    pub job: ObjectKey,
    /// The run that fetched it.
    pub run_id: String,
    /// How often the page had been fetched, this time included.
    pub attempt: u32,
    /// The payload.
    pub payload: RawPayload,
    /// When it was stored.
    pub created: Timestamp,
}

/// How much raw data is stored.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RawUsage {
    /// Number of payloads.
    pub payloads: u64,
    /// Their size as stored, in bytes.
    pub bytes: u64,
}

/// Access to raw payloads.
pub trait RawPayloads {
    /// The payload with this ID, unless it expired before `now`.
    fn load_raw(&self, id: Uuid, now: Timestamp) -> LedgerFuture<'_, Option<StoredRaw>>;

    /// How much is stored.
    fn raw_usage(&self) -> LedgerFuture<'_, RawUsage>;

    /// Deletes at most `limit` payloads that expired before `now`; returns the number deleted. One that was stored at a time
    /// after `now` is kept from now on for as long as it was to be kept.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_raw<'a>(&'a self, lease: &'a Lease, now: Timestamp, limit: u32) -> LedgerFuture<'a, u64>;
}

/// Filter for the dead letters of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// The job.
    pub job: ObjectKey,
    /// Only these; empty: all.
    pub ids: Vec<i64>,
    /// Whether resolved ones are listed too.
    pub resolved: bool,
    /// Only those stored before this one.
    pub before: Option<i64>,
}

/// A dead letter of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDeadLetter {
    /// Its number.
    pub id: i64,
    /// The stream.
    pub stream: StreamKey,
    /// The keyed hash of the rejected record.
    pub fingerprint: String,
    /// Why it was rejected; may be a reason that only another version knows.
    pub reason: String,
    /// JSON pointer of the invalid field; empty for the whole record.
    pub path: String,
    /// The record's field names and types.
    pub sample: String,
    /// The run that read it last.
    pub run_id: String,
    /// How often it was read.
    pub seen: u64,
    /// When it was read first.
    pub first: Timestamp,
    /// When it was read last.
    pub last: Timestamp,
    /// When it was resolved.
    pub resolved: Option<Timestamp>,
    /// The payload that it is in, if that was stored.
    pub raw: Option<RawRef>,
}

/// A reference to a raw payload.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RawRef {
    /// Its ID.
    pub id: Uuid,
    /// How it is stored and until when; `None` after it was deleted.
    pub stored: Option<(RawMode, Timestamp)>,
}

impl JobDeadLetter {
    /// Whether it can be replayed at `now`.
    pub fn replayability(&self, now: Timestamp) -> Replayability {
        Replayability::of(self.raw, now)
    }
}

/// Whether a dead letter can be replayed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Replayability {
    /// Its raw payload is stored.
    Replayable,
    /// No raw payload was stored with it.
    NotStored,
    /// Its raw payload was stored without its values.
    Masked,
    /// Its raw payload was deleted at the end of its retention.
    Expired,
}

impl Replayability {
    /// Whether a dead letter with this payload can be replayed at `now`.
    pub fn of(raw: Option<RawRef>, now: Timestamp) -> Self {
        match raw {
            None => Self::NotStored,
            Some(RawRef { stored: Some((mode, expires)), .. }) if expires > now => match mode {
                RawMode::Encrypted => Self::Replayable,
                RawMode::Masked => Self::Masked,
            },
            Some(_) => Self::Expired,
        }
    }

    /// The value in the API and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replayable => "Replayable",
            Self::NotStored => "RawNotStored",
            Self::Masked => "RawMasked",
            Self::Expired => "RawExpired",
        }
    }
}

/// The dead letters that a page's rows were replayed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedLetters {
    /// Their numbers: marked as resolved in the page's transaction.
    pub ids: Vec<i64>,
    /// Who replayed them.
    pub audit: AuditEntry,
}

/// What became of a replayed dead letter.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// Its record is stored, and it is resolved.
    Replayed,
    /// A newer version of its record is stored: nothing was written, and it is resolved.
    Superseded,
    /// Its record is rejected again, or has no ID and cannot be told from a stored one.
    StillRejected,
    /// No raw payload was stored with it.
    RawNotStored,
    /// Its raw payload has no values.
    RawMasked,
    /// Its raw payload was deleted at the end of its retention.
    RawExpired,
    /// Its raw payload cannot be decrypted: the key is gone.
    KeyMissing,
    /// The job does not read its stream and partition any more, or its stream no longer has the record in the payload.
    SourceChanged,
}

impl ReplayOutcome {
    /// The value in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "Replayed",
            Self::Superseded => "Superseded",
            Self::StillRejected => "StillRejected",
            Self::RawNotStored => "RawNotStored",
            Self::RawMasked => "RawMasked",
            Self::RawExpired => "RawExpired",
            Self::KeyMissing => "KeyMissing",
            Self::SourceChanged => "SourceChanged",
        }
    }

    /// Whether the dead letter is resolved.
    pub const fn resolves(self) -> bool {
        matches!(self, Self::Replayed | Self::Superseded)
    }
}

/// The outcome of one dead letter.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ReplayedLetter {
    /// Its number.
    pub id: i64,
    /// What became of it.
    pub outcome: ReplayOutcome,
}

/// Access to dead letters by job.
pub trait DeadLetters {
    /// Whether a row of the stream is stored that was changed after `since`, for each of these identities in a table.
    fn changed_since<'a>(
        &'a self,
        stream: &'a StreamKey,
        table: &'static str,
        rows: &'a [RowIdentity],
        since: Timestamp,
    ) -> LedgerFuture<'a, Vec<bool>>;

    /// The first `limit` matching dead letters, newest first.
    fn list_dead_letters<'a>(
        &'a self,
        filter: &'a DeadLetterFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<JobDeadLetter>>;

    /// Marks dead letters of the job as resolved by hand; returns the number that were not yet.
    fn resolve_dead_letters<'a>(
        &'a self,
        job: &'a ObjectKey,
        ids: &'a [i64],
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64>;

    /// Deletes at most `limit` dead letters that were resolved before `before`; returns the number deleted.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_dead_letters<'a>(&'a self, lease: &'a Lease, before: Timestamp, limit: u32) -> LedgerFuture<'a, u64>;
}
