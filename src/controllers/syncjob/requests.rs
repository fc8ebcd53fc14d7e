//! What is asked of a job beside its schedule: `spec.resync`, and runs and resyncs that were requested over HTTP.
//!
//! Both are facts of the ledger: a request is an open row until its run has ended, and each completed resync is stored, so
//! that neither a restart nor a second replica serves one twice or loses one.

use uuid::Uuid;

use crate::api::v1alpha1::sync_job::SyncJobSpec;
use crate::domain::key::ObjectKey;
use crate::ledger::requests::{RequestState, RequestedRun, StoredRunRequest, WEBHOOK_SUBJECT};
use crate::ledger::{Ledger, LedgerError, RunId};
use crate::settings::sync_plan::ResyncPlan;
use crate::work::pool::JobView;

/// What is asked of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedWork {
    /// The run to start for the oldest request over HTTP that has none.
    pub run: Option<RunId>,
    /// Whether a webhook asks for that run.
    pub is_webhook: bool,
    /// The resync to serve next: that of the spec, then the oldest over HTTP.
    pub resync: Option<PendingResync>,
    /// Requests that are served or cannot be.
    pub closings: Vec<Closing>,
}

/// A resync that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingResync {
    /// The range.
    pub plan: ResyncPlan,
    /// The ID of its first run, for a resync over HTTP: the correlation ID of the request.
    pub run: Option<RunId>,
}

/// A request to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// ID of the request.
    pub id: Uuid,
    /// The state that it gets.
    pub state: RequestState,
    /// The result of its run, or why it was refused.
    pub outcome: &'static str,
}

/// Reads what is asked of the job; `resync` is that of its spec.
pub(super) async fn read(
    ledger: &dyn Ledger,
    key: &ObjectKey,
    spec: &SyncJobSpec,
    resync: Option<ResyncPlan>,
    runs: &JobView,
) -> Result<RequestedWork, LedgerError> {
    let mut work = RequestedWork::default();
    let open = ledger.open_requests(Some(key)).await?;
    // A dry run writes nothing, so it would complete a resync without having read it into the ledger.
    if let Some(plan) = resync.filter(|_| !spec.dry_run)
        && !ledger.is_resync_done(key, &plan.id).await?
    {
        work.resync = Some(PendingResync { plan, run: None });
    }
    for StoredRunRequest { request, .. } in open {
        if let Some(outcome) = refusal(spec, &request.requested) {
            work.closings.push(Closing { id: request.id, state: RequestState::Refused, outcome });
            continue;
        }
        let run = runs.last.iter().find(|run| run.id == request.run);
        let done = |outcome| Closing { id: request.id, state: RequestState::Done, outcome };
        match request.requested {
            RequestedRun::Run => match run.map(|run| run.result) {
                Some(Some(result)) => work.closings.push(done(result.as_str())),
                Some(None) => {}
                None if is_active(runs, request.run) => {}
                None if work.run.is_some() => {}
                None => {
                    work.run = Some(request.run);
                    work.is_webhook = request.subject == WEBHOOK_SUBJECT;
                }
            },
            RequestedRun::Resync { id, from, to, partitions } => {
                if ledger.is_resync_done(key, &id).await? {
                    work.closings.push(done("Succeeded"));
                } else if work.resync.is_none() {
                    let first = run.is_none() && !is_active(runs, request.run);
                    let plan = ResyncPlan { id, from, to, partitions };
                    work.resync = Some(PendingResync { plan, run: first.then_some(request.run) });
                }
            }
        }
    }
    Ok(work)
}

fn is_active(runs: &JobView, run: RunId) -> bool {
    runs.active.as_ref().is_some_and(|active| active.id == run)
}

/// Why a request is refused, as a code for the client: it would wait until the spec changes.
fn refusal(spec: &SyncJobSpec, requested: &RequestedRun) -> Option<&'static str> {
    match requested {
        _ if spec.suspend => Some("suspended"),
        RequestedRun::Resync { .. } if spec.dry_run => Some("dry_run"),
        RequestedRun::Run | RequestedRun::Resync { .. } => None,
    }
}
