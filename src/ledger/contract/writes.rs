//! Every write of the traits, on a store that holds something for each of them.
//!
//! An engine runs each of them under its own faults: a failed one changes nothing, and the next one works.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::audit::by_age;
use super::dead_requests::{limits, parked, request, worker};
use super::delivery_writes::DeliveryPrepared;
use super::fixtures::{
    TTL, at, audit_entry, books, commit, cursor_key, of_source, page, row, run_id, state, take_named,
};
use super::quotas::{self, owner};
use super::records::of_each_kind;
use super::{decision_fixtures, payout_fixtures, route_changes, windows};
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::key::ObjectKey;
use crate::domain::quota::DayUsage;
use crate::domain::record::{DeadLetter, KeyQuality, TransactionRecord};
use crate::domain::records::{PendingSnapshot, RemovedKey};
use crate::domain::rejection_reason::RejectionReason;
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::ledger::audit::{AuditBatch, UsageKey};
use crate::ledger::credentials::StoredCredential;
use crate::ledger::dead_requests::{DeadRequestOwner, DeadRequestState, NewDeadRequest};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::page::{CommitScope, PageCommit};
use crate::ledger::probes::ProbeResult;
use crate::ledger::record::RowIdentity;
use crate::ledger::runs::{PartitionEnd, RunCounts, RunEnd, RunResult, RunStart, RunTrigger};
use crate::ledger::sources::{ExistingJobs, SourceAdoption};
use crate::ledger::store::Ledger;

pub(crate) use super::guard::Guard;
pub(crate) use super::write_kinds::Write;

/// What the writes refer to.
#[derive(Clone)]
pub(crate) struct Prepared {
    lease: Lease,
    worker: Lease,
    pruner: Lease,
    delivery: DeliveryPrepared,
    pending: NewDeadRequest,
    parked: NewDeadRequest,
}

fn bank() -> ObjectKey {
    ObjectKey::new("ns", "bank-b")
}

/// The same in every store.
fn dead_request(number: u128, next: i64) -> NewDeadRequest {
    let fixed = request(&number.to_string(), next);
    NewDeadRequest { id: Uuid::from_u128(number), request_id: Some(Uuid::from_u128(number)), ..fixed }
}

fn start(n: u128, job: &ObjectKey, second: i64) -> RunStart {
    let (id, job, slot) = (run_id(n), job.clone(), Some(at(second)));
    RunStart { id, job, trigger: RunTrigger::Schedule, slot, dry_run: false, events: Vec::new(), at: at(second) }
}

fn skewed() -> ObjectKey {
    ObjectKey::new("team", "skewed")
}

fn credential(version: i64) -> StoredCredential {
    StoredCredential { version, secret: "bank@7".into(), ciphertext: vec![7; 100] }
}

fn probe(second: i64) -> ProbeResult {
    let (connection, elapsed) = (bank(), Duration::from_millis(3));
    ProbeResult { connection, at: at(second), elapsed, success: true, slow: false, status: Some(200), error: None }
}

/// Fills an empty store.
pub(crate) async fn prepare(ledger: &dyn Ledger) -> Prepared {
    let lease = take_named(ledger, "job", "me", at(0)).await;
    take_named(ledger, "ahead", "other", at(1_000_000)).await;
    commit(ledger, &lease, &state(0, "2"), &[row("a", 1), row("b", 2)]).await.unwrap();
    windows::make(ledger, &lease, CommitScope::StageFirst).await.unwrap();
    assert!(ledger.start_run(&start(1, &books(), 10), &lease).await.unwrap());
    assert!(ledger.start_run(&start(2, &skewed(), 1_000_000), &lease).await.unwrap());
    ledger.record_probes(&[probe(0), probe(1), probe(90_000)]).await.unwrap();
    ledger.store_credential(&bank(), &credential(0), at(0)).await.unwrap();
    ledger.append_audit(&[audit_entry("a", 1), audit_entry("b", 100)]).await.unwrap();
    ledger.take_usage(&usage(), 1, 10).await.unwrap();
    ledger.add_quota(&owner("uid-1"), &[quota(1)]).await.unwrap();
    let (worker, pruner) = (worker(ledger, 0).await, take_named(ledger, "pruning", "me", at(0)).await);
    let (pending, gone) = (dead_request(1, 50), dead_request(2, 1));
    ledger.add_dead_request(&pending, limits(10)).await.unwrap();
    ledger.add_dead_request(&gone, limits(10)).await.unwrap();
    ledger.settle_dead_request(&worker, gone.id, &parked(2), at(2)).await.unwrap();
    decision_fixtures::decide(ledger, &route_changes::held_decision()).await;
    ledger.put_scores(&[route_changes::score("bank-b", "1", 1)]).await.unwrap();
    let delivery = DeliveryPrepared::prepare(ledger, &pruner).await;
    Prepared { lease, worker, pruner, delivery, pending, parked: gone }
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of `ReplaceIdentity`")]
fn keyed(record: &TransactionRecord) -> Option<RowIdentity> {
    Some(RowIdentity { account_token: "keyed".into(), record_key: record.key.clone() })
}

const DAY: jiff::civil::Date = jiff::civil::date(2026, 11, 22);

fn quota(other: u32) -> DayUsage {
    quotas::usage(DAY, 0, other)
}

fn usage() -> UsageKey {
    UsageKey { namespace: "ns".into(), connection: "bank-b".into(), profile: "trading".into(), day: DAY }
}

impl Prepared {
    /// Makes one write.
    pub(crate) async fn make(&self, ledger: &dyn Ledger, write: Write) -> Result<(), LedgerError> {
        let (lease, now) = (&self.lease, at(20));
        match write {
            Write::AcquireLease => ledger.acquire_lease("new", "me", TTL, now, None).await.map(drop),
            Write::ShortenLease => ledger.acquire_lease("ahead", "me", TTL, now, None).await.map(drop),
            Write::RenewLease => ledger.renew_lease(lease, TTL, now).await.map(drop),
            Write::ReleaseLease => ledger.release_lease(lease).await,
            Write::CommitPage => self.commit_page(ledger).await,
            Write::CommitPages => self.commit_pages(ledger).await,
            Write::StagePage => windows::make(ledger, lease, CommitScope::StageNext).await,
            Write::MergeWindow => windows::make(ledger, lease, CommitScope::Merge).await,
            Write::StartRun => ledger.start_run(&start(3, &books(), 20), lease).await.map(drop),
            Write::SkipRun => {
                ledger.skip_run(&start(4, &books(), 30), RunReason::StartingDeadlineExceeded).await.map(drop)
            }
            Write::FinishRun => ledger.finish_run(&end(RunResult::Failed, now)).await,
            Write::CorrectHistory => ledger.job_history(&skewed(), 10, now).await.map(drop),
            Write::DeleteJob => ledger.delete_job(&books(), &ExistingJobs::new(), lease).await.map(drop),
            Write::AdoptSource => self.adopt_source(ledger).await,
            Write::ReplaceIdentities => ledger.replace_identities(lease, 0, 1, Arc::new(keyed)).await.map(drop),
            Write::RecordProbes => ledger.record_probes(&[probe(100_000), probe(100_001)]).await,
            Write::PruneProbes => ledger.prune_probes(&self.pruner, at(80_000), 3, at(100_000)).await.map(drop),
            Write::Ping => ledger.ping().await,
            Write::InsertCredential => {
                ledger.store_credential(&bank().sibling("new"), &credential(0), now).await.map(drop)
            }
            Write::ReplaceCredential => ledger.store_credential(&bank(), &credential(1), now).await.map(drop),
            Write::AppendAudit => ledger.append_audit(&[audit_entry("c", 20), audit_entry("d", 21)]).await,
            Write::AppendAuditBatch => {
                let entries = [audit_entry("c", 20), audit_entry("d", 21)];
                let batch = AuditBatch { writer: Uuid::from_u128(7), number: 1, at: now, entries: &entries };
                ledger.append_audit_batch(batch).await
            }
            Write::PruneAudit => ledger.prune_audit(&self.pruner, by_age(at(50), at(200))).await.map(drop),
            Write::TakeUsage => ledger.take_usage(&usage(), 2, 10).await.map(drop),
            Write::AddQuota => ledger.add_quota(&owner("uid-1"), &[quota(2), quotas::usage(DAY, 9, 1)]).await.map(drop),
            Write::PruneQuota => {
                let next = DAY.tomorrow().unwrap();
                ledger.prune_quota(&self.worker, next, next, 10).await.map(drop)
            }
            Write::AddDeadRequest => ledger.add_dead_request(&dead_request(3, 60), limits(10)).await.map(drop),
            Write::RepeatDeadRequest => ledger.add_dead_request(&self.pending, limits(10)).await.map(drop),
            // The clock was an hour ahead when they were stored.
            Write::CorrectDeadRequests => ledger.due_dead_requests(at(-3_600), 10, 10).await.map(drop),
            Write::SettleDeadRequest => {
                ledger.settle_dead_request(&self.worker, self.pending.id, &parked(60), at(60)).await.map(drop)
            }
            Write::ReplayDeadRequest => {
                ledger.replay_dead_request(self.parked.id, "{}", &audit_entry("replay", 70), at(70)).await.map(drop)
            }
            Write::DiscardDeadRequest => {
                ledger.discard_dead_request(self.pending.id, &audit_entry("discard", 70)).await.map(drop)
            }
            Write::PurgeDeadRequests => {
                ledger.purge_dead_requests(&bank(), DeadRequestState::Parked, &audit_entry("purge", 70)).await.map(drop)
            }
            Write::DeleteOrphanedDeadRequests => {
                let owner = DeadRequestOwner { connection: bank(), uid: "uid-1".into() };
                let entry = audit_entry("discard", 70);
                ledger.delete_orphaned_dead_requests(&self.worker, &owner, at(70), &entry).await.map(drop)
            }
            Write::PruneDeadRequests => ledger.prune_dead_requests(&self.worker, at(70), at(70)).await.map(drop),
            Write::CommitDecisions => ledger.commit_decisions(route_changes::every_kind()).await.map(drop),
            Write::CheckpointDecisions => ledger.checkpoint_decisions(&self.pruner, at(50), 10, at(60)).await.map(drop),
            Write::RegisterPayout => payout_fixtures::register_again(ledger).await,
            Write::Delivery(write) => self.delivery.make(ledger, &self.pruner, write).await,
            Write::PutScores => ledger.put_scores(&[route_changes::score("bank-b", "2", 20)]).await,
        }
    }

    /// The rows of a stream become those of its source.
    async fn adopt_source(&self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        let (cursor, source_hashes) = (of_source("books", "s1"), ["h".to_owned(), String::new()]);
        ledger.adopt_source(&SourceAdoption { cursor: &cursor, source_hashes, lease: &self.lease }).await.map(drop)
    }

    /// A page with everything that a page can have.
    async fn commit_page(&self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        let (key, next) = (cursor_key("books", ""), state(1, "3"));
        let (rows, letters) = ([row("b", 3), row("c", 4)], [letter()]);
        let documents = [DocumentRecord {
            kind: DocumentKind::Document,
            key: "d".into(),
            key_quality: KeyQuality::Provider,
            body: "{}".into(),
        }];
        let records = of_each_kind("one");
        let removed = [RemovedKey { account_token: None, key: "a".into() }];
        let pending = PendingSnapshot { account_token: "t1".into(), keys: Vec::new() };
        let page = PageCommit { records: &records, removed: &removed, ..page(&key, &self.lease, &next, &rows) };
        let page = PageCommit { documents: &documents, dead_letters: &letters, pending: Some(&pending), ..page };
        ledger.commit_page(page).await.map(drop)
    }

    async fn commit_pages(&self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        let (key, first, second) = (cursor_key("books", ""), state(1, "3"), state(2, "4"));
        let (rows, more, letters) = ([row("b", 3)], [row("b", 4), row("c", 4)], [letter()]);
        let pages = vec![
            page(&key, &self.lease, &first, &rows),
            PageCommit { dead_letters: &letters, ..page(&key, &self.lease, &second, &more) },
        ];
        ledger.commit_pages(pages).await.map(drop)
    }
}

fn end(result: RunResult, at: Timestamp) -> RunEnd {
    let reason = Some(RunReason::ProviderError);
    let partitions = vec![PartitionEnd { name: "a".into(), failed: true, empty: false }];
    RunEnd {
        id: run_id(1),
        job: books(),
        result,
        reason,
        failure: RunFailure::default(),
        counts: RunCounts::default(),
        partitions,
        resync: None,
        events: Vec::new(),
        at,
    }
}

fn letter() -> DeadLetter {
    DeadLetter {
        reason: RejectionReason::AmountMissing,
        path: "/amount".into(),
        sample: "{}".into(),
        fingerprint: "f".into(),
        index: 0,
        page_no: 1,
    }
}
