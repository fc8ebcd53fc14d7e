//! Reconcilers: observe → decide → act → report, the same four steps for every kind.
//!
//! A [`Reconciler`] says how one kind does the four steps; [`shell`] runs them: times, catches panics, spaces retries,
//! writes the status when it is due and publishes the notes that belong to it. `decide` is pure and total: a bad spec
//! is a status, never an error. An error is trouble with the API server or the ledger, and is retried with back-off;
//! trouble with a provider is neither.

pub mod bankroute;
pub mod breakerpolicy;
pub mod collector;
pub mod conditions;
pub mod providerconnection;
pub mod resolve;
pub mod shell;
pub mod syncjob;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::cluster::ApiError;
use crate::cluster::events::{Events, Note};
use crate::cluster::failures::Failures;
use crate::cluster::lease::Leadership;
use crate::cluster::secrets::Secrets;
use crate::cluster::status::Reported;
use crate::cluster::stores::Stores;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;
use crate::ledger::{Ledger, LedgerError};
use crate::provider::profile::Profiles;
use crate::provider::registry::Registry;
use crate::work::poke::Pokes;
use crate::work::pool::SyncPool;
use crate::work::probes::ProbeHandle;

/// What every reconciler has at hand.
pub struct Ctx {
    /// The mirrors of our four kinds.
    pub stores: Stores,
    /// Secrets, by `get`.
    pub secrets: Secrets,
    /// The API server, for reconciles.
    pub client: kube::Client,
    /// Publishes events.
    pub events: Events,
    /// Failure streaks.
    pub failures: Arc<Failures>,
    /// Whether this replica may reconcile.
    pub leadership: Leadership,
    /// Live connections.
    pub registry: Registry,
    /// Asks for probes out of turn.
    pub prober: ProbeHandle,
    /// Runs syncs.
    pub pool: SyncPool,
    /// What must survive.
    pub ledger: Arc<dyn Ledger>,
    /// Wakes reconcilers.
    pub pokes: Pokes,
    /// Known providers.
    pub profiles: Arc<Profiles>,
    /// Time.
    pub clock: Clock,
}

/// A reconcile could not do its work; it is tried again with back-off.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused or did not answer.
    #[error("API server: {0}")]
    Api(#[from] ApiError),
    /// The ledger refused or did not answer.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// A defect of ours: the reconcile panicked.
    #[error("a defect in Busbar: the reconcile panicked")]
    Panicked,
}

/// What `decide` found.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<S, P> {
    /// What the status should say; `None` while there is nothing true to say yet (a first verdict is on its way).
    pub status: Option<S>,
    /// What to do, in order.
    pub steps: Vec<P>,
    /// Events that belong to this change of status; published only with its write.
    pub notes: Vec<Note>,
    /// When to look again although nothing called.
    pub next: Duration,
}

/// Nothing is due: look again after this long, jittered, in case a wake-up was lost.
pub const IDLE: Duration = Duration::from_mins(45);
/// The user must act: on change, and this often.
pub const USER_MUST_ACT: Duration = Duration::from_hours(6);

/// Whether the end of an object may go on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// Nothing is left to clean.
    Done,
    /// Something still runs; look again after this long, or when it pokes.
    NotYet(Duration),
}

/// How one kind is reconciled.
pub trait Reconciler: Send + Sync + 'static {
    /// The finalizer that objects of the kind carry while they have something to clean; none for most kinds.
    const FINALIZER: Option<&'static str> = None;

    /// Whether there is something to clean when this object goes.
    fn wants_cleaning(_object: &Self::Object) -> bool {
        false
    }

    /// Cleans up after an object on its way out that carries the finalizer. Done again after a crash.
    fn clean(_ctx: &Ctx, _object: &Self::Object) -> impl Future<Output = Result<Cleaned, ReconcileError>> + Send {
        std::future::ready(Ok(Cleaned::Done))
    }

    /// Objects that decide about this one. While one of them exists and this process has not decided about it yet, nothing
    /// is said of this one: after a restart it would be what is not known yet, and a moment later what was known before.
    fn depends_on(_object: &Self::Object) -> Vec<(Kind, ObjectKey)> {
        Vec::new()
    }

    /// The kind.
    type Object: Reported;
    /// What `observe` saw.
    type Observed: Send + Sync;
    /// One idempotent step.
    type Step: Send + Sync;

    /// Reads stores, Secrets, ledger and live state. No judgement, no writes.
    fn observe(ctx: &Ctx, object: &Self::Object)
    -> impl Future<Output = Result<Self::Observed, ReconcileError>> + Send;

    /// Judges. Pure and total. `previous` is the newest status known.
    fn decide(
        object: &Self::Object,
        previous: Option<&<Self::Object as Reported>::Status>,
        observed: &Self::Observed,
        now: Now,
    ) -> Decision<<Self::Object as Reported>::Status, Self::Step>;

    /// Does the steps. Each may be done again without harm.
    fn act(
        ctx: &Ctx,
        object: &Self::Object,
        observed: Self::Observed,
        steps: Vec<Self::Step>,
    ) -> impl Future<Output = Result<(), ReconcileError>> + Send;
}
