//! The methods of [`Ledger`](super::store::Ledger), forwarded to those of an engine.
//!
//! An engine has a method of its own for each, in the file of what it is about; these are the same lines for every engine.

/// Implements [`Ledger`](super::store::Ledger) for an engine.
macro_rules! forward_ledger {
    ($engine:ty) => {
        use futures::FutureExt as _;
        use futures::future::BoxFuture;
        use jiff::Timestamp;

        use crate::domain::cursor::{CursorKey, CursorState};
        use crate::domain::key::ObjectKey;
        use crate::domain::run_reason::RunReason;
        use crate::ledger::document::StoredDocument;
        use crate::ledger::error::LedgerFuture;
        use crate::ledger::health::HealthReceiver;
        use crate::ledger::lease::Lease;
        use crate::ledger::page::{PageCommit, PageCounts, PageOutcome};
        use crate::ledger::probes::{ProbeResult, StoredProbe};
        use crate::ledger::record::{ReplaceIdentity, StoredTransaction, TransactionFilter};
        use crate::ledger::runs::{JobHistory, RunEnd, RunStart};
        use crate::ledger::sources::{Erasure, ExistingJobs, SourceAdoption};
        use crate::ledger::store::Ledger;

        impl Ledger for $engine {
            fn load_cursor<'a>(&'a self, key: &'a CursorKey) -> LedgerFuture<'a, Option<CursorState>> {
                self.cursor_load(key).boxed()
            }

            fn commit_pages<'a>(&'a self, pages: Vec<PageCommit<'a>>) -> LedgerFuture<'a, Vec<PageOutcome>> {
                self.pages_commit(pages).boxed()
            }

            fn preview_page<'a>(&'a self, page: PageCommit<'a>) -> LedgerFuture<'a, PageCounts> {
                self.page_preview(page).boxed()
            }

            fn start_run<'a>(&'a self, run: &'a RunStart, lease: &'a Lease) -> LedgerFuture<'a, bool> {
                self.run_start(run, lease).boxed()
            }

            fn skip_run<'a>(&'a self, run: &'a RunStart, reason: RunReason) -> LedgerFuture<'a, ()> {
                self.run_skip(run, reason).boxed()
            }

            fn finish_run<'a>(&'a self, end: &'a RunEnd) -> LedgerFuture<'a, ()> {
                self.run_finish(end).boxed()
            }

            fn job_history<'a>(
                &'a self,
                job: &'a ObjectKey,
                limit: u32,
                now: Timestamp,
            ) -> LedgerFuture<'a, JobHistory> {
                self.job_history_load(job, limit, now).boxed()
            }

            fn is_resync_done<'a>(&'a self, job: &'a ObjectKey, id: &'a str) -> LedgerFuture<'a, bool> {
                self.resync_is_done(job, id).boxed()
            }

            fn adopt_source<'a>(&'a self, adoption: &'a SourceAdoption<'a>) -> LedgerFuture<'a, bool> {
                self.source_adopt(adoption).boxed()
            }

            fn delete_job<'a>(
                &'a self,
                job: &'a ObjectKey,
                existing: &'a ExistingJobs,
                lease: &'a Lease,
            ) -> LedgerFuture<'a, Erasure> {
                self.job_delete(job, existing, lease).boxed()
            }

            fn list_documents<'a>(
                &'a self,
                filter: &'a TransactionFilter,
                limit: u32,
            ) -> LedgerFuture<'a, Vec<StoredDocument>> {
                self.documents(filter, limit).boxed()
            }

            fn list_transactions<'a>(
                &'a self,
                filter: &'a TransactionFilter,
                limit: u32,
            ) -> LedgerFuture<'a, Vec<StoredTransaction>> {
                self.transactions(filter, limit).boxed()
            }

            fn replace_identities<'a>(
                &'a self,
                lease: &'a Lease,
                after: i64,
                limit: u32,
                replace: ReplaceIdentity,
            ) -> LedgerFuture<'a, Option<i64>> {
                self.identities_replace(lease, after, limit, replace).boxed()
            }

            fn count_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64> {
                self.transaction_count(filter).boxed()
            }

            fn count_dead_letters<'a>(&'a self, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64> {
                self.dead_letter_count(filter).boxed()
            }

            fn record_probes<'a>(&'a self, results: &'a [ProbeResult]) -> LedgerFuture<'a, ()> {
                self.probes_record(results).boxed()
            }

            fn prune_probes<'a>(
                &'a self,
                lease: &'a Lease,
                before: Timestamp,
                limit: u32,
                now: Timestamp,
            ) -> LedgerFuture<'a, u64> {
                self.probes_prune(lease, before, limit, now).boxed()
            }

            fn last_probes<'a>(&'a self, connection: &'a ObjectKey, limit: u32) -> LedgerFuture<'a, Vec<StoredProbe>> {
                self.probes_last(connection, limit).boxed()
            }

            fn ping(&self) -> LedgerFuture<'_, ()> {
                self.write_check().boxed()
            }

            fn health(&self) -> HealthReceiver {
                self.health_receiver()
            }

            fn close(&self) -> BoxFuture<'_, ()> {
                self.close_all().boxed()
            }
        }
    };
}

pub(super) use forward_ledger;
