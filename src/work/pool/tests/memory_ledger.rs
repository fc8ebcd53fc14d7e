//! A ledger in memory for the pool alone: with a file, time would not stand still while it is written.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::quota::DayUsage;
use crate::domain::records::Table;
use crate::domain::run_reason::RunReason;
use crate::ledger::audit::{Audit, AuditBatch, AuditEntry, AuditPruning, PrunedAudit, StoredAudit, Usage, UsageKey};
use crate::ledger::dead_requests::{
    DeadRequest, DeadRequestCounts, DeadRequestFilter, DeadRequestLimits, DeadRequestOwner, DeadRequestState,
    DeadRequests, NewDeadRequest, RetryOutcome,
};
use crate::ledger::document::StoredDocument;
use crate::ledger::health::HealthReceiver;
use crate::ledger::lease_holder::memory::MemoryLeases;
use crate::ledger::money_totals::MoneyTotal;
use crate::ledger::queries::{Queries, StoredDeadLetter, StoredRecord, StoredRun};
use crate::ledger::quotas::{QuotaOwner, Quotas};
use crate::ledger::record::{ReplaceIdentity, StoredTransaction, TransactionFilter};
use crate::ledger::{
    CredentialStore, CursorKey, CursorState, EpochStore, Erasure, ExistingJobs, JobHistory, Lease, LeaseOutcome,
    LeaseStore, Ledger, LedgerEpoch, LedgerError, LedgerFuture, PageCommit, PageCounts, PageOutcome, ProbeResult,
    RunEnd, RunStart, SourceAdoption, StoredCredential, StoredLease, StoredProbe,
};

/// Keeps leases; takes a while for each page, and counts how many are written at a time.
pub(super) struct MemoryLedger {
    pub(super) leases: MemoryLeases,
    clock: Clock,
    write: Duration,
    writing: AtomicUsize,
    most: AtomicUsize,
    /// The number of pages of each transaction.
    commits: Mutex<Vec<usize>>,
    /// The key of account tokens.
    credential: Mutex<Option<StoredCredential>>,
}

impl MemoryLedger {
    /// A ledger that needs `write` for a page.
    pub(super) fn new(clock: Clock, write: Duration) -> Arc<Self> {
        Arc::new(Self {
            leases: MemoryLeases::default(),
            clock,
            write,
            writing: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            commits: Mutex::default(),
            credential: Mutex::default(),
        })
    }

    /// The number of pages of each transaction, in their order.
    pub(super) fn commits(&self) -> Vec<usize> {
        self.commits.lock().unwrap().clone()
    }

    /// The largest number of pages that were written at a time.
    pub(super) fn most_writing(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// What the pool never asks for.
pub(super) fn unused<'a, T: Send + 'a>() -> LedgerFuture<'a, T> {
    async { Err(LedgerError::SchemaOutdated) }.boxed()
}

pub(super) fn done<'a, T: Send + 'a>(value: T) -> LedgerFuture<'a, T> {
    async { Ok(value) }.boxed()
}

impl LeaseStore for MemoryLedger {
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<StoredLease>,
    ) -> LedgerFuture<'a, LeaseOutcome> {
        self.leases.acquire_lease(name, holder, ttl, now, stale)
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> LedgerFuture<'a, bool> {
        self.leases.renew_lease(lease, ttl, now)
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> LedgerFuture<'a, ()> {
        self.leases.release_lease(lease)
    }
}

impl Ledger for MemoryLedger {
    fn load_cursor<'a>(&'a self, _: &'a CursorKey) -> LedgerFuture<'a, Option<CursorState>> {
        done(None)
    }

    fn commit_pages<'a>(&'a self, pages: Vec<PageCommit<'a>>) -> LedgerFuture<'a, Vec<PageOutcome>> {
        async move {
            self.commits.lock().unwrap().push(pages.len());
            let now = self.writing.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.clock.sleep_until(self.clock.mono() + self.write).await;
            self.writing.fetch_sub(1, Ordering::SeqCst);
            let outcome =
                |page: &PageCommit<'_>| PageOutcome { version: page.state.version + 1, counts: PageCounts::default() };
            Ok(pages.iter().map(outcome).collect())
        }
        .boxed()
    }

    fn preview_page<'a>(&'a self, _: PageCommit<'a>) -> LedgerFuture<'a, PageCounts> {
        done(PageCounts::default())
    }

    fn start_run<'a>(&'a self, _: &'a RunStart, _: &'a Lease) -> LedgerFuture<'a, bool> {
        done(true)
    }

    fn skip_run<'a>(&'a self, _: &'a RunStart, _: RunReason) -> LedgerFuture<'a, ()> {
        unused()
    }

    fn finish_run<'a>(&'a self, _: &'a RunEnd) -> LedgerFuture<'a, ()> {
        done(())
    }

    fn job_history<'a>(&'a self, _: &'a ObjectKey, _: u32, _: Timestamp) -> LedgerFuture<'a, JobHistory> {
        done(JobHistory::default())
    }

    fn is_resync_done<'a>(&'a self, _: &'a ObjectKey, _: &'a str) -> LedgerFuture<'a, bool> {
        done(false)
    }

    fn adopt_source<'a>(&'a self, _: &'a SourceAdoption<'a>) -> LedgerFuture<'a, bool> {
        done(false)
    }

    fn delete_job<'a>(&'a self, _: &'a ObjectKey, _: &'a ExistingJobs, _: &'a Lease) -> LedgerFuture<'a, Erasure> {
        unused()
    }

    fn list_transactions<'a>(&'a self, _: &'a TransactionFilter, _: u32) -> LedgerFuture<'a, Vec<StoredTransaction>> {
        unused()
    }

    fn list_documents<'a>(&'a self, _: &'a TransactionFilter, _: u32) -> LedgerFuture<'a, Vec<StoredDocument>> {
        unused()
    }

    fn replace_identities<'a>(
        &'a self,
        _: &'a Lease,
        _: i64,
        _: u32,
        _: ReplaceIdentity,
    ) -> LedgerFuture<'a, Option<i64>> {
        done(None)
    }

    fn count_transactions<'a>(&'a self, _: &'a TransactionFilter) -> LedgerFuture<'a, u64> {
        unused()
    }

    fn count_dead_letters<'a>(&'a self, _: &'a TransactionFilter) -> LedgerFuture<'a, u64> {
        unused()
    }

    fn record_probes<'a>(&'a self, _: &'a [ProbeResult]) -> LedgerFuture<'a, ()> {
        unused()
    }

    fn prune_probes<'a>(&'a self, _: &'a Lease, _: Timestamp, _: u32, _: Timestamp) -> LedgerFuture<'a, u64> {
        unused()
    }

    fn last_probes<'a>(&'a self, _: &'a ObjectKey, _: u32) -> LedgerFuture<'a, Vec<StoredProbe>> {
        unused()
    }

    fn ping(&self) -> LedgerFuture<'_, ()> {
        done(())
    }

    fn health(&self) -> HealthReceiver {
        tokio::sync::watch::channel(crate::ledger::health::LedgerHealth::default()).1
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

impl Queries for MemoryLedger {
    fn newest_records<'a>(
        &'a self,
        _: &'static Table,
        _: &'a TransactionFilter,
        _: u32,
    ) -> LedgerFuture<'a, Vec<StoredRecord>> {
        unused()
    }

    fn count_records<'a>(&'a self, _: &'static Table, _: &'a TransactionFilter) -> LedgerFuture<'a, u64> {
        unused()
    }

    fn partition_values<'a>(&'a self, _: &'a ObjectKey, _: &'a str, _: u32) -> LedgerFuture<'a, Vec<String>> {
        unused()
    }

    fn newest_documents<'a>(&'a self, _: &'a TransactionFilter, _: u32) -> LedgerFuture<'a, Vec<StoredDocument>> {
        unused()
    }

    fn newest_dead_letters<'a>(&'a self, _: &'a TransactionFilter, _: u32) -> LedgerFuture<'a, Vec<StoredDeadLetter>> {
        unused()
    }

    fn money_totals(&self) -> LedgerFuture<'_, Vec<MoneyTotal>> {
        unused()
    }

    fn newest_runs<'a>(&'a self, _: Option<&'a str>, _: Option<&'a str>, _: u32) -> LedgerFuture<'a, Vec<StoredRun>> {
        unused()
    }
}

impl CredentialStore for MemoryLedger {
    fn load_credential<'a>(&'a self, _: &'a ObjectKey) -> LedgerFuture<'a, Option<StoredCredential>> {
        done(self.credential.lock().unwrap().clone())
    }

    fn store_credential<'a>(
        &'a self,
        _: &'a ObjectKey,
        credential: &'a StoredCredential,
        _: Timestamp,
    ) -> LedgerFuture<'a, Option<i64>> {
        let mut stored = self.credential.lock().unwrap();
        if stored.as_ref().map_or(0, |stored| stored.version) != credential.version {
            return done(None);
        }
        let version = credential.version + 1;
        *stored = Some(StoredCredential { version, ..credential.clone() });
        done(Some(version))
    }
}

impl Audit for MemoryLedger {
    fn append_audit<'a>(&'a self, _: &'a [AuditEntry]) -> LedgerFuture<'a, ()> {
        unused()
    }

    fn append_audit_batch<'a>(&'a self, _: AuditBatch<'a>) -> LedgerFuture<'a, ()> {
        unused()
    }

    fn list_audit<'a>(&'a self, _: Option<&'a str>, _: Option<i64>, _: u32) -> LedgerFuture<'a, Vec<StoredAudit>> {
        unused()
    }

    fn prune_audit<'a>(&'a self, _: &'a Lease, _: AuditPruning) -> LedgerFuture<'a, PrunedAudit> {
        unused()
    }
}

impl Usage for MemoryLedger {
    fn take_usage<'a>(&'a self, _: &'a UsageKey, _: u64, _: u64) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl Quotas for MemoryLedger {
    fn load_quota<'a>(&'a self, _: &'a QuotaOwner, _: Date) -> LedgerFuture<'a, Vec<DayUsage>> {
        unused()
    }

    fn add_quota<'a>(&'a self, _: &'a QuotaOwner, _: &'a [DayUsage]) -> LedgerFuture<'a, Vec<DayUsage>> {
        unused()
    }

    fn prune_quota<'a>(&'a self, _: &'a Lease, _: Date, _: Date, _: u32) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl DeadRequests for MemoryLedger {
    fn add_dead_request<'a>(&'a self, _: &'a NewDeadRequest, _: DeadRequestLimits) -> LedgerFuture<'a, Option<Uuid>> {
        unused()
    }

    fn due_dead_requests(&self, _: Timestamp, _: u32, _: u32) -> LedgerFuture<'_, Vec<DeadRequest>> {
        unused()
    }

    fn next_dead_request(&self, _: Timestamp) -> LedgerFuture<'_, Option<Timestamp>> {
        unused()
    }

    fn settle_dead_request<'a>(
        &'a self,
        _: &'a Lease,
        _: Uuid,
        _: &'a RetryOutcome,
        _: Timestamp,
    ) -> LedgerFuture<'a, bool> {
        unused()
    }

    fn replay_dead_request<'a>(
        &'a self,
        _: Uuid,
        _: &'a str,
        _: &'a AuditEntry,
        _: Timestamp,
    ) -> LedgerFuture<'a, bool> {
        unused()
    }

    fn discard_dead_request<'a>(&'a self, _: Uuid, _: &'a AuditEntry) -> LedgerFuture<'a, bool> {
        unused()
    }

    fn purge_dead_requests<'a>(
        &'a self,
        _: &'a ObjectKey,
        _: DeadRequestState,
        _: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64> {
        unused()
    }

    fn dead_request_owners(&self) -> LedgerFuture<'_, Vec<DeadRequestOwner>> {
        unused()
    }

    fn delete_orphaned_dead_requests<'a>(
        &'a self,
        _: &'a Lease,
        _: &'a DeadRequestOwner,
        _: Timestamp,
        _: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64> {
        unused()
    }

    fn get_dead_request(&self, _: Uuid) -> LedgerFuture<'_, Option<DeadRequest>> {
        unused()
    }

    fn list_dead_requests<'a>(&'a self, _: &'a DeadRequestFilter, _: u32) -> LedgerFuture<'a, Vec<DeadRequest>> {
        unused()
    }

    fn count_dead_requests(&self) -> LedgerFuture<'_, DeadRequestCounts> {
        unused()
    }

    fn prune_dead_requests<'a>(&'a self, _: &'a Lease, _: Timestamp, _: Timestamp) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl EpochStore for MemoryLedger {
    fn epoch(&self) -> LedgerFuture<'_, LedgerEpoch> {
        unused()
    }

    fn raise_epoch(&self, _: i64) -> LedgerFuture<'_, Option<i64>> {
        unused()
    }

    fn accept_loss(&self) -> LedgerFuture<'_, ()> {
        unused()
    }
}
