//! Reconcilers: observe → decide → act → report, the same four steps for every kind.
//!
//! A [`Reconciler`] implements the four steps for one kind; [`reconcile_runner`] runs them: it times them, catches
//! panics, applies retry backoff, writes the status when it is due and publishes the events that belong to it. `decide`
//! is pure and total: an invalid spec is a status, never an error. An error means that the API server or the ledger
//! failed, and is retried with backoff. A provider fault is not a reconcile error.

pub mod bankroute;
pub mod breakerpolicy;
pub mod collector;
pub mod conditions;
pub mod job_runner;
pub mod providerconnection;
pub mod reconcile_runner;
pub mod resolution_cache;
pub mod resolutions;
pub mod syncjob;
#[cfg(test)]
mod testkit;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::api::v1alpha1::ProviderConnection;
use crate::clock::Clock;
use crate::cluster::ApiError;
use crate::cluster::events::{EventDraft, EventRecorder};
use crate::cluster::lease::Leadership;
use crate::cluster::object_check::ObjectCheck;
use crate::cluster::reconcile_backoff::ReconcileBackoff;
use crate::cluster::resource::HasStatus;
use crate::cluster::secrets::SecretReader;
use crate::cluster::stores::Stores;
use crate::controllers::bankroute::metrics::FailoverCounts;
use crate::controllers::job_runner::JobRunner;
use crate::controllers::resolutions::Resolutions;
use crate::domain::event::OutboxEvent;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;
use crate::ledger::{Ledger, LedgerError};
use crate::profile::Profiles;
use crate::provider::registry::Registry;
use crate::resolve::{JobSupport, OperatorOptions};
use crate::routing::DecisionService;
use crate::work::event_outbox::EventOutbox;
use crate::work::pool::SyncPool;
use crate::work::probes::ProbeHandle;
use crate::work::reconcile_queue::ReconcileQueue;

/// Dependencies shared by all reconcilers.
pub struct Ctx {
    /// Watch caches of the four kinds.
    pub stores: Stores,
    /// Reads Secrets with `get`; they are not watched.
    pub secrets: SecretReader,
    /// Asks whether a connection is still what the store says.
    pub connection_check: ObjectCheck<ProviderConnection>,
    /// API server client of the reconcilers.
    pub client: kube::Client,
    /// Publishes events.
    pub events: EventRecorder,
    /// Retry backoff per object.
    pub backoff: Arc<ReconcileBackoff>,
    /// Whether this replica may reconcile.
    pub leadership: Leadership,
    /// Live connections.
    pub registry: Registry,
    /// Triggers unscheduled probes.
    pub prober: ProbeHandle,
    /// Runs sync jobs.
    pub pool: SyncPool,
    /// Runs them as Kubernetes Jobs, where that is possible.
    pub jobs: Option<JobRunner>,
    /// Whether it is, or why not.
    pub job_support: JobSupport,
    /// Durable state: runs, cursors, tokens.
    pub ledger: Arc<dyn Ledger>,
    /// Enqueues objects for a reconcile.
    pub reconcile_queue: ReconcileQueue,
    /// Provider profiles loaded at start.
    pub profiles: Arc<Profiles>,
    /// What the objects were resolved to.
    pub resolutions: Arc<Resolutions>,
    /// The failovers of the routes.
    pub failovers: FailoverCounts,
    /// Appends the events of banks and routes to the ledger.
    pub outbox: EventOutbox,
    /// The decision service: what operations staff and the forecast add to the routes; `None` in some tests.
    pub routing: Option<Arc<DecisionService>>,
    /// Source of time.
    pub clock: Clock,
}

impl Ctx {
    /// What the operator's flags permit a spec to use.
    pub fn operator_options(&self) -> OperatorOptions<'_> {
        OperatorOptions {
            has_key: self.registry.can_store_refresh_tokens(),
            addresses: self.registry.clients().rules(),
            jobs: self.job_support,
        }
    }
}

/// A failed reconcile; it is retried with backoff.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server rejected the request or did not respond.
    #[error("API server: {0}")]
    Api(#[from] ApiError),
    /// The ledger failed or did not respond.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The object or its Secret is being changed: nothing was decided, and it is reconciled again after this delay.
    #[error("object or Secret changed during the reconcile; reconciled again")]
    Deferred(Duration),
    /// The reconcile panicked: a bug in Busbar.
    #[error("internal error: the reconcile panicked; report this bug with the log")]
    Panicked,
}

/// Result of `decide`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<S, P> {
    /// The status to write; `None` leaves it as it is (e.g. the first verification is still pending).
    pub status: Option<S>,
    /// Steps for `act`, in order.
    pub steps: Vec<P>,
    /// Events of this status change; published only if the status is written.
    pub events: Vec<EventDraft>,
    /// Delay until the next reconcile if nothing enqueues the object sooner.
    pub requeue_after: Duration,
}

/// Requeue delay of an object with nothing due: a jittered resync, in case a change notification was lost.
pub const DEFAULT_REQUEUE: Duration = Duration::from_mins(45);
/// Requeue delay of a stalled object: only a change of its spec repairs it, and that enqueues it.
pub const STALLED_REQUEUE: Duration = Duration::from_hours(6);

/// Result of a finalizer's cleanup.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing is left to clean up; the finalizer can be removed.
    Done,
    /// Work is still running; check again after this delay, or when its end enqueues the object.
    Pending(Duration),
}

/// The four reconcile steps of one kind.
pub trait Reconciler: Send + Sync + 'static {
    /// Finalizer of the kind, set while [`needs_cleanup`](Self::needs_cleanup) holds; most kinds have none.
    const FINALIZER: Option<&'static str> = None;

    /// Whether deleting this object requires a cleanup.
    fn needs_cleanup(_object: &Self::Object) -> bool {
        false
    }

    /// Cleans up after a deleted object that has the finalizer. Idempotent: repeated after a crash.
    fn cleanup(_ctx: &Ctx, _object: &Self::Object) -> impl Future<Output = Result<Cleanup, ReconcileError>> + Send {
        std::future::ready(Ok(Cleanup::Done))
    }

    /// Objects whose state this one's status depends on. Until this process has reconciled each existing one, this
    /// object is requeued: otherwise a restart would report Unknown first and the former status a moment later.
    fn depends_on(_object: &Self::Object) -> Vec<(Kind, ObjectKey)> {
        Vec::new()
    }

    /// The custom resource.
    type Object: HasStatus;
    /// Result of `observe`.
    type Observed: Send + Sync;
    /// One idempotent step of `act`.
    type Step: Send + Sync;

    /// Reads stores, Secrets, ledger and live state. Makes no decision and writes nothing.
    fn observe(ctx: &Ctx, object: &Self::Object)
    -> impl Future<Output = Result<Self::Observed, ReconcileError>> + Send;

    /// Computes status, steps and events. Pure and total. `previous` is the newest known status.
    fn decide(
        object: &Self::Object,
        previous: Option<&<Self::Object as HasStatus>::Status>,
        observed: &Self::Observed,
        now: Now,
    ) -> Decision<<Self::Object as HasStatus>::Status, Self::Step>;

    /// The events to store of a status that is about to be written, by comparison with the newest known one. Pure:
    /// their IDs are the same if the write fails and the reconcile is repeated.
    fn outbox_events(
        _object: &Self::Object,
        _previous: Option<&<Self::Object as HasStatus>::Status>,
        _status: &<Self::Object as HasStatus>::Status,
    ) -> Vec<OutboxEvent> {
        Vec::new()
    }

    /// Counts what a written status reported, in metrics: once per transition, unlike `decide` and `act`, which are
    /// repeated until the status is written.
    fn reported(_ctx: &Ctx, _object: &Self::Object, _events: &[EventDraft]) {}

    /// Executes the steps. Each is idempotent.
    fn act(
        ctx: &Ctx,
        object: &Self::Object,
        observed: Self::Observed,
        steps: Vec<Self::Step>,
    ) -> impl Future<Output = Result<(), ReconcileError>> + Send;
}
