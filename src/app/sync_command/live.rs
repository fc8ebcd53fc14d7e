//! `busbar check live --sync`: a whole run against a real provider, which persists, and a summary of what is stored.
//!
//! Two runs: the second reads the same again, so a row that it inserts is a duplicate of one of the first. The ledger is a
//! throw-away one unless `--ledger` names another. No content of a record is printed.

use std::sync::Arc;

use uuid::Uuid;

use super::error::{RunEnded, SyncError};
use super::pool_run::{RunToMake, run_in_pool};
use super::process::SyncProcess;
use super::scratch::ScratchLedger;
use super::stored::{Content, Rows, filter_of};
use super::target::SyncTarget;
use crate::api::v1alpha1::common::LocalRef;
use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::sync_job::SyncJobSpec;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::mask::mask_numbers;
use crate::ledger::encryption::Keyring;
use crate::ledger::{self, Ledger, LedgerUrl, OpenMode, RunId, RunResult, RunTrigger};
use crate::provider::registry::{Registry, RegistryOptions};
use crate::resolve::sync_job::sync_job;
use crate::settings::Settings;
use crate::settings::addresses::AddressRules;
use crate::settings::sync_plan::SyncPlan;
use crate::sync::RunReport;
use crate::work::pool::RunRequest;

/// What to sync.
pub(crate) struct LiveSync {
    /// The provider's settings, with credentials.
    pub(crate) settings: Arc<Settings>,
    /// The addresses that may be called.
    pub(crate) addresses: AddressRules,
    /// The stream; `None`: `transactions`, or the first that can be synced.
    pub(crate) stream: Option<String>,
    /// The parameters of the stream.
    pub(crate) parameters: std::collections::BTreeMap<String, String>,
    /// The ledger to write; `None`: one that is thrown away.
    pub(crate) ledger: Option<LedgerUrl>,
}

/// Runs the sync twice; returns the lines of the summary.
pub(crate) async fn persist(sync: LiveSync) -> Result<Vec<String>, SyncError> {
    let process = SyncProcess::new(None, Keyring::default())?;
    let job = ObjectKey::new("check", "live");
    let plan = plan_of(&job, &sync)?;
    let options = RegistryOptions {
        addresses: sync.addresses.clone(),
        tasks: process.tasks.effects.clone(),
        ..RegistryOptions::default()
    };
    let registry = Registry::new(process.clock, &process.metrics, options)?;
    let target = SyncTarget::of_settings(registry, &job, Arc::clone(&sync.settings), plan);
    let scratch = match &sync.ledger {
        Some(_) => None,
        None => Some(ScratchLedger::create().await?),
    };
    let ledger = match (&sync.ledger, &scratch) {
        (Some(url), _) => ledger::open(url, OpenMode::Migrate).await?,
        (None, Some(scratch)) => Arc::clone(&scratch.ledger),
        (None, None) => return Err(SyncError::Lost),
    };
    let summary = summary(&process, &target, &ledger).await;
    ledger.close().await;
    let place = sync.ledger.as_ref().map_or("a throw-away ledger", |_| "the ledger of --ledger");
    let mut lines = summary?;
    lines.push(format!("sync: ok (persisted to {place})"));
    Ok(lines)
}

async fn summary(
    process: &SyncProcess,
    target: &SyncTarget,
    ledger: &Arc<dyn Ledger>,
) -> Result<Vec<String>, SyncError> {
    let first = run(process, target, ledger).await?;
    let second = run(process, target, ledger).await?;
    let rows = Rows::read(&**ledger, &filter_of(&target.plan), None).await?;
    let counts = &first.counts;
    let mut lines = vec![format!(
        "sync counts: {} fetched, {} new, {} changed, {} same, {} rejected, {} pages; {} rows stored",
        counts.fetched,
        counts.inserted,
        counts.updated,
        counts.unchanged,
        counts.rejected,
        counts.pages,
        rows.0.len()
    )];
    let again = &second.counts;
    lines.push(format!(
        "sync duplicates: {} within pages; read again: {} inserted, {} changed, {} same",
        first.duplicates, again.inserted, again.updated, again.unchanged
    ));
    let masking = Masking::of(&rows);
    lines.push(format!(
        "sync masking: {} of {} account numbers masked; {} texts checked, {} with a number as long as an account's",
        masking.masked, masking.accounts, masking.texts, masking.unmasked_texts
    ));
    if masking.unmasked_texts > 0 || masking.masked < masking.accounts {
        return Err(SyncError::Unmasked);
    }
    Ok(lines)
}

/// Makes one run; an error if it did not succeed.
async fn run(process: &SyncProcess, target: &SyncTarget, ledger: &Arc<dyn Ledger>) -> Result<RunReport, SyncError> {
    let request = RunRequest { run: RunId(Uuid::new_v4()), trigger: RunTrigger::Manual, slot: None };
    let run = RunToMake { ledger, request, resumes: false };
    let outcome = run_in_pool(process, target, Arc::new(target.plan.clone()), run, std::future::pending()).await?;
    match outcome.report.result {
        RunResult::Succeeded => Ok(outcome.report),
        result => Err(SyncError::Ended(RunEnded {
            result,
            reason: outcome.report.reason.map(crate::domain::run_reason::RunReason::as_str),
        })),
    }
}

/// The plan of a job without an object.
fn plan_of(job: &ObjectKey, sync: &LiveSync) -> Result<SyncPlan, SyncError> {
    let streams = &sync.settings.profile().streams;
    let first = || streams.keys().next().cloned();
    let default = || streams.contains_key("transactions").then(|| "transactions".to_owned()).or_else(first);
    let stream = sync.stream.clone().or_else(default).unwrap_or_default();
    let spec = SyncJobSpec {
        connection_ref: LocalRef::to("live"),
        stream: Some(stream.as_str().into()),
        interval: Some("1h".into()),
        parameters: Some(Parameters(sync.parameters.clone())),
        ..SyncJobSpec::default()
    };
    sync_job(job, &spec, &sync.settings).map_err(|cause| SyncError::Spec {
        kind: Kind::SyncJob,
        key: job.clone(),
        cause,
    })
}

/// Whether stored rows hold what must be masked.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Masking {
    accounts: u64,
    masked: u64,
    texts: u64,
    unmasked_texts: u64,
}

impl Masking {
    fn of(rows: &Rows) -> Self {
        let mut masking = Self::default();
        for content in rows.0.values() {
            let Content::Transaction(row) = content else { continue };
            masking.accounts += 1;
            masking.masked += u64::from(is_masked(&row.account));
            for text in [&row.counterparty, &row.narration].into_iter().flatten() {
                masking.texts += 1;
                masking.unmasked_texts += u64::from(!is_masked(text));
            }
        }
        masking
    }
}

/// Whether masking the numbers of a text again would change nothing.
fn is_masked(text: &str) -> bool {
    mask_numbers(text) == text
}
