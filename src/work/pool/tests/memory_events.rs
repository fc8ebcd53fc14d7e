//! The ledger in memory: raw payloads, dead letters, events and requests, of which the pool needs none.

use jiff::Timestamp;
use uuid::Uuid;

use super::memory_ledger::{MemoryLedger, done, unused};
use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::outbox::{EventFilter, Outbox, OutboxEvent, OutboxUsage, StoredEvent};
use crate::ledger::raw::{DeadLetterFilter, DeadLetters, JobDeadLetter, RawPayloads, RawUsage, StoredRaw};
use crate::ledger::requests::{NewRunRequest, RequestOutcome, RequestState, RunRequests, StoredRunRequest};
use crate::ledger::{Lease, LedgerFuture, RowIdentity, StreamKey};

impl RawPayloads for MemoryLedger {
    fn load_raw(&self, _: Uuid, _: Timestamp) -> LedgerFuture<'_, Option<StoredRaw>> {
        unused()
    }

    fn raw_usage(&self) -> LedgerFuture<'_, RawUsage> {
        unused()
    }

    fn prune_raw<'a>(&'a self, _: &'a Lease, _: Timestamp, _: u32) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl DeadLetters for MemoryLedger {
    fn changed_since<'a>(
        &'a self,
        _: &'a StreamKey,
        _: &'static str,
        _: &'a [RowIdentity],
        _: Timestamp,
    ) -> LedgerFuture<'a, Vec<bool>> {
        unused()
    }

    fn list_dead_letters<'a>(&'a self, _: &'a DeadLetterFilter, _: u32) -> LedgerFuture<'a, Vec<JobDeadLetter>> {
        unused()
    }

    fn resolve_dead_letters<'a>(&'a self, _: &'a ObjectKey, _: &'a [i64], _: &'a AuditEntry) -> LedgerFuture<'a, u64> {
        unused()
    }

    fn prune_dead_letters<'a>(&'a self, _: &'a Lease, _: Timestamp, _: u32) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl Outbox for MemoryLedger {
    fn append_events<'a>(&'a self, _: &'a [OutboxEvent], _: Timestamp) -> LedgerFuture<'a, u64> {
        done(0)
    }

    fn list_events<'a>(&'a self, _: &'a EventFilter, _: u32) -> LedgerFuture<'a, Vec<StoredEvent>> {
        unused()
    }

    fn outbox_usage(&self) -> LedgerFuture<'_, OutboxUsage> {
        unused()
    }

    fn prune_events<'a>(&'a self, _: &'a Lease, _: Timestamp, _: u32, _: Timestamp) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl RunRequests for MemoryLedger {
    fn request_run<'a>(&'a self, _: &'a NewRunRequest, _: &'a AuditEntry) -> LedgerFuture<'a, RequestOutcome> {
        unused()
    }

    fn open_requests<'a>(&'a self, _: Option<&'a ObjectKey>) -> LedgerFuture<'a, Vec<StoredRunRequest>> {
        done(Vec::new())
    }

    fn close_request<'a>(&'a self, _: Uuid, _: RequestState, _: &'a str, _: Timestamp) -> LedgerFuture<'a, bool> {
        unused()
    }

    fn prune_requests<'a>(&'a self, _: &'a Lease, _: Timestamp, _: u32) -> LedgerFuture<'a, u64> {
        unused()
    }
}
