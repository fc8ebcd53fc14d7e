//! `busbar sync plan`: fetches what a run would fetch, into a throw-away ledger, and compares it with the real one.
//!
//! The real ledger is opened read-only: nothing of it changes, neither rows nor cursors nor leases. So a plan takes the
//! provider's quota and nothing else, and may be made while a run goes on.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::error::{RunEnded, SyncError};
use super::pool_run::{RunToMake, run_in_pool};
use super::process::SyncProcess;
use super::scratch::ScratchLedger;
use super::stored::{Content, Difference, Rows, filter_of};
use super::target::SyncTarget;
use crate::app::output::{print, print_line};
use crate::app::table::{left, right, table};
use crate::cli::sync::{SyncPlanArgs, SyncTargetArgs};
use crate::domain::event::EventGranularity;
use crate::ledger::{self, Ledger, LedgerError, OpenMode, RunId, RunResult, RunTrigger};
use crate::profile::Stream;
use crate::settings::sync_plan::{Partition, RawRetention, RawStorage, RunLimits, SyncPlan};
use crate::sync::RunReport;
use crate::sync::account_tokens::{AccountTokens, TokenKey};
use crate::sync::cursor::{self, WindowStart};
use crate::work::pool::RunRequest;

/// Fetches, compares and prints.
pub(super) async fn plan(process: &SyncProcess, args: &SyncTargetArgs, what: &SyncPlanArgs) -> Result<(), SyncError> {
    let target = SyncTarget::load(process, args, &what.job, None).await?;
    let real = existing(args).await?;
    let scratch = ScratchLedger::create().await?;
    let bounded = bounded(process, &target.plan, &scratch, real.as_deref(), what.pages).await?;
    let request = RunRequest { run: RunId(Uuid::new_v4()), trigger: RunTrigger::Manual, slot: None };
    let run = RunToMake { ledger: &scratch.ledger, request, resumes: false };
    let outcome = run_in_pool(process, &target, Arc::new(bounded), run, std::future::pending()).await?;
    let filter = filter_of(&target.plan);
    let fetched = Rows::read(&*scratch.ledger, &filter, None).await?;
    let stored = match &real {
        Some(real) => Rows::read(&**real, &filter, Some(&fetched)).await?,
        None => Rows::default(),
    };
    show(&target.plan, &outcome.report, &fetched, &stored, what)?;
    scratch.ledger.close().await;
    if let Some(real) = real {
        real.close().await;
    }
    match outcome.report.result {
        // A plan reads a few pages only.
        RunResult::Succeeded | RunResult::Incomplete => Ok(()),
        result => {
            let reason = outcome.report.reason.map(crate::domain::run_reason::RunReason::as_str);
            Err(SyncError::Ended(RunEnded { result, reason }))
        }
    }
}

/// The real ledger; `None` if it does not exist yet.
async fn existing(args: &SyncTargetArgs) -> Result<Option<Arc<dyn Ledger>>, SyncError> {
    if args.ledger.is_missing() {
        return Ok(None);
    }
    match ledger::open(&args.ledger(), OpenMode::ReadOnly).await {
        Ok(ledger) => Ok(Some(ledger)),
        Err(LedgerError::SchemaOutdated) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The plan of a run that reads what the next run would read, at most so many pages of each partition.
async fn bounded(
    process: &SyncProcess,
    plan: &SyncPlan,
    scratch: &ScratchLedger,
    real: Option<&dyn Ledger>,
    pages: u32,
) -> Result<SyncPlan, SyncError> {
    // What is thrown away needs neither raw payloads nor events.
    let raw = RawRetention { mode: RawStorage::Off, ..plan.raw };
    let limits = RunLimits { max_pages: pages, ..plan.limits };
    let mut plan = SyncPlan { limits, raw, events: EventGranularity::None, dry_run: false, ..plan.clone() };
    let Some(real) = real else { return Ok(plan) };
    scratch.share_tokens(process, real).await?;
    if let Some(from) = plan.partitions_from.take() {
        plan.partitions.extend(crate::sync::partitions::stored(&plan, &from, real).await.map_err(|error| {
            SyncError::Ended(RunEnded { result: RunResult::Failed, reason: Some(error.reason.as_str()) })
        })?);
    }
    let lease = scratch.lease(process).await?;
    let now = process.clock.now().wall;
    let key = AccountTokens::new(process.keys.clone()).key(&*scratch.ledger, &lease, now).await?;
    let mut starts = BTreeSet::new();
    for partition in &plan.partitions {
        starts.insert(start_of(&plan, partition, &key, real, now).await?);
    }
    // One start for all partitions: the earliest. A partition that is ahead of it reads some records again.
    plan.start = starts.into_iter().next().flatten().or(plan.start);
    Ok(plan)
}

/// Where the next window of a partition starts; `None` if it has no cursor.
async fn start_of(
    plan: &SyncPlan,
    partition: &Partition,
    key: &TokenKey,
    real: &dyn Ledger,
    now: jiff::Timestamp,
) -> Result<Option<jiff::Timestamp>, SyncError> {
    let Some(state) = real.load_cursor(&cursor::source_key(plan, partition, key)).await? else { return Ok(None) };
    let (committed, earliest) = (state.committed_hwm.as_deref(), state.earliest.as_deref());
    if committed.is_none() {
        return Ok(None);
    }
    let stream: Arc<Stream> = plan.stream.expanded(&partition.parameters);
    let start = WindowStart { committed, earliest, start: plan.start, lookback: plan.lookback };
    let window = cursor::open_window(&stream, start, now).ok();
    Ok(window.and_then(|window| cursor::parse_cursor(&window.from, cursor::granularity(&stream)).ok()))
}

fn show(plan: &SyncPlan, report: &RunReport, read: &Rows, stored: &Rows, args: &SyncPlanArgs) -> Result<(), SyncError> {
    let counts = &report.counts;
    let cut = if report.result == RunResult::Incomplete { "; more pages exist (--pages)" } else { "" };
    print_line(&format!(
        "plan {}: {} partitions, {} pages, {} records fetched, {} rejected, {} duplicates{cut}",
        plan.job, report.partitions, counts.pages, counts.fetched, counts.rejected, report.duplicates
    ))?;
    for (name, Difference { new, changed, same }) in read.compared_to(stored) {
        print_line(&format!("{name}: {new} new, {changed} changed, {same} same"))?;
    }
    let samples = usize::try_from(args.samples).unwrap_or(usize::MAX);
    if samples > 0 && !read.0.is_empty() {
        print(&sample(read, samples))?;
    }
    print_line("nothing was written")?;
    Ok(())
}

/// The first rows, masked as they would be stored.
fn sample(read: &Rows, samples: usize) -> String {
    let columns = [
        left("TABLE"),
        left("PARTITION"),
        left("KEY"),
        left("BOOKED"),
        right("AMOUNT"),
        left("CURRENCY"),
        left("ACCOUNT"),
        left("NARRATION"),
    ];
    let rows = read.0.iter().take(samples).map(|(key, content)| {
        let (booked, amount, currency, account, narration) = match content {
            Content::Transaction(row) => (
                row.booked.on.to_string(),
                row.amount.to_string(),
                row.currency.clone(),
                row.account.clone(),
                row.narration.clone().unwrap_or_default(),
            ),
            Content::Record(_) => Default::default(),
        };
        let (partition, id) = (key.partition.clone(), key.key.clone());
        [key.table.to_owned(), partition, id, booked, amount, currency, account, narration]
    });
    table(columns, rows)
}
