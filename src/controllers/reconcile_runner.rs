//! Runs the reconciles of one kind: everything that is the same for all kinds.
//!
//! Queue, leadership check, finalizer, metrics, panic handling, retry backoff, status write and events. What an object
//! needs is decided by its [`Reconciler`], never here.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config, Error as RunError};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use prometheus::{HistogramVec, IntCounterVec};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::cluster::ApiError;
use crate::cluster::events::EventDraft;
use crate::cluster::finalizers;
use crate::cluster::lease::RENEW_INTERVAL;
use crate::cluster::status::{StatusWriter, Timing};
use crate::cluster::{resource::WatchedResource as _, stores::KindStore};
use crate::controllers::{Cleanup, Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Mono;
use crate::metrics::{Metrics, MetricsError};

/// Requeue delay after a panic. A panic is a bug: it would most likely repeat at once.
const PANIC_REQUEUE: Duration = Duration::from_mins(10);

/// Requeue delay of an object whose dependencies are not reconciled yet; the end of that usually enqueues it sooner.
const DEPENDENCY_REQUEUE: Duration = Duration::from_secs(1);

/// Metrics of the reconcilers, under controller-runtime's names so that existing dashboards work.
#[derive(Clone)]
pub struct ReconcileMetrics {
    total: IntCounterVec,
    errors: IntCounterVec,
    panics: IntCounterVec,
    seconds: HistogramVec,
}

impl ReconcileMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            total: metrics.counter(
                "controller_runtime_reconcile_total",
                "Reconciles, by controller and result.",
                &["controller", "result"],
            )?,
            errors: metrics.counter_from_zero(
                "controller_runtime_reconcile_errors_total",
                "Reconciles that ended in an error and are retried.",
                ["controller"],
                Kind::ALL.map(|kind| [kind.as_str()]),
            )?,
            panics: metrics.counter_from_zero(
                "controller_runtime_reconcile_panics_total",
                "Reconciles that panicked: bugs in Busbar.",
                ["controller"],
                Kind::ALL.map(|kind| [kind.as_str()]),
            )?,
            seconds: metrics.histogram(
                "controller_runtime_reconcile_time_seconds",
                "Duration of a reconcile in seconds.",
                &["controller"],
            )?,
        })
    }
}

/// Runs the reconciles of one kind.
pub struct ReconcileRunner<R: Reconciler> {
    ctx: Arc<Ctx>,
    status: StatusWriter<R::Object>,
    metrics: ReconcileMetrics,
    concurrency: u16,
}

impl<R: Reconciler> ReconcileRunner<R> {
    /// A runner that writes through `status`.
    pub fn new(
        ctx: Arc<Ctx>,
        status: StatusWriter<R::Object>,
        metrics: ReconcileMetrics,
        concurrency: u16,
    ) -> Arc<Self> {
        Arc::new(Self { ctx, status, metrics, concurrency })
    }

    /// Reconciles enqueued objects until `stop` is cancelled; then finishes the reconciles in flight.
    pub async fn run(self: Arc<Self>, store: KindStore<R::Object>, stop: CancellationToken) {
        let kind = R::Object::KIND;
        let runs = store.scopes().iter().map(|(namespace, reader)| {
            let queue = self
                .ctx
                .reconcile_queue
                .subscribe(kind, namespace.as_deref())
                .map(|key| {
                    Ok::<_, std::convert::Infallible>(ObjectRef::<R::Object>::new(&key.name).within(&key.namespace))
                })
                .take_until(stop.clone().cancelled_owned());
            let config = Config::default().concurrency(self.concurrency);
            applier(
                |object, runner: Arc<Self>| async move { runner.reconcile(&object).await }.boxed(),
                |object, error, runner| runner.failed(&object, error),
                self.clone(),
                reader.clone(),
                queue,
                config,
            )
            .for_each({
                let runner = Arc::clone(&self);
                move |result| {
                    match result {
                        // Enqueued because it was deleted: drop what is cached of it.
                        Err(RunError::ObjectNotFound(deleted)) => {
                            let key = ObjectKey::new(deleted.namespace.unwrap_or_default(), deleted.name);
                            runner.ctx.reconcile_queue.started(kind, &key);
                            runner.status.forget(&key);
                        }
                        Ok(_) | Err(RunError::ReconcilerFailed(..)) => {}
                        Err(error) => tracing::warn!(%error, "controller queue failed"),
                    }
                    std::future::ready(())
                }
            })
        });
        futures::future::join_all(runs).await;
    }

    async fn reconcile(&self, object: &R::Object) -> Result<Action, ReconcileError> {
        let key = object.key();
        self.ctx.reconcile_queue.started(R::Object::KIND, &key);
        if !self.ctx.leadership.is_leader(self.ctx.clock.mono()) {
            // The API server is unreachable or another replica leads: decide nothing until leadership is certain.
            return Ok(Action::requeue(RENEW_INTERVAL));
        }
        let controller = R::Object::KIND.as_str();
        // Not `name`: the JSON form gives a span's own name under that key.
        let request_id = uuid::Uuid::new_v4();
        let span = tracing::info_span!("reconcile", kind = controller, object = %key, %request_id);
        let started = self.ctx.clock.mono();
        let result = AssertUnwindSafe(self.run_steps(object))
            .catch_unwind()
            .instrument(span)
            .await
            .unwrap_or(Err(ReconcileError::Panicked));
        if matches!(result, Err(ReconcileError::Api(ApiError::NotLeading))) {
            // The lease was lost during the reconcile: the new leader writes the status.
            return Ok(Action::requeue(RENEW_INTERVAL));
        }
        if let Err(ReconcileError::Deferred(delay)) = result {
            return Ok(Action::requeue(delay));
        }
        let took = self.ctx.clock.mono().since(started);
        self.metrics.seconds.with_label_values(&[controller]).observe(took.as_secs_f64());
        let label = if result.is_ok() { "success" } else { "error" };
        self.metrics.total.with_label_values(&[controller, label]).inc();
        if result.is_ok() {
            for (kind, key) in self.ctx.backoff.succeeded(R::Object::KIND, &key) {
                self.ctx.reconcile_queue.enqueue(kind, &key);
            }
        }
        result
    }

    async fn run_steps(&self, object: &R::Object) -> Result<Action, ReconcileError> {
        if object.meta().deletion_timestamp.is_some() {
            return self.finalize(object).await;
        }
        if let Some(finalizer) = R::FINALIZER
            && finalizers::contains(object, finalizer) != R::needs_cleanup(object)
        {
            // Before anything else, so that data written from here on is covered by the right deletion policy.
            self.set_finalizer(object, finalizer, R::needs_cleanup(object)).await?;
        }
        if self.dependencies_pending(object) {
            return Ok(Action::requeue(DEPENDENCY_REQUEUE));
        }
        let newest = self.status.current(object);
        let previous = newest.get();
        let observed = R::observe(&self.ctx, object).await?;
        let now = self.ctx.clock.now();
        let Decision { status, steps, events, requeue_after } = R::decide(object, previous, &observed, now);
        R::act(&self.ctx, object, observed, steps).await?;
        let mut requeue_after = jittered(requeue_after, now.mono);
        let due = status.map(|s| (self.status.timing(object, previous, &s), s));
        if !matches!(due, Some((Timing::Now, _))) {
            self.status.adopt(object, previous);
        }
        if let Some((timing, status)) = due {
            match timing {
                Timing::Unchanged => {}
                Timing::After(delay) => requeue_after = requeue_after.min(delay),
                Timing::Now => {
                    // Before the status: a crash between the two loses no event.
                    self.ctx.outbox.append(R::outbox_events(object, previous, &status)).await;
                    match self.status.write(object, &status).await {
                        Ok(()) => self.report(object, &events).await,
                        // Deleted, or replaced by another object of the same name: the watch delivers the current
                        // state.
                        Err(error) if error.is_not_found() || error.is_conflict() => {
                            tracing::debug!(%error, "status not written: object deleted or replaced meanwhile");
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(Action::requeue(requeue_after))
    }

    /// Counts, logs and publishes what a written status reported.
    async fn report(&self, object: &R::Object, events: &[EventDraft]) {
        R::reported(&self.ctx, object, events);
        for event in events {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let reason = event.reason.as_str();
            if event.warning {
                tracing::warn!(namespace, name, reason, "{}", event.message);
            } else {
                tracing::info!(namespace, name, reason, "{}", event.message);
            }
            self.ctx.events.publish(object, event).await;
        }
    }

    /// Whether an existing dependency of this object has not been reconciled by this process yet.
    fn dependencies_pending(&self, object: &R::Object) -> bool {
        let Ctx { stores, backoff, .. } = &*self.ctx;
        R::depends_on(object).iter().any(|(kind, key)| backoff.is_undecided(*kind, key) && stores.contains(*kind, key))
    }

    /// Handles an object with a deletion timestamp; the watch reports its removal.
    async fn finalize(&self, object: &R::Object) -> Result<Action, ReconcileError> {
        let Some(finalizer) = R::FINALIZER.filter(|finalizer| finalizers::contains(object, finalizer)) else {
            return Ok(Action::requeue(crate::controllers::DEFAULT_REQUEUE));
        };
        if R::needs_cleanup(object) {
            if let Cleanup::Pending(delay) = R::cleanup(&self.ctx, object).await? {
                return Ok(Action::requeue(delay));
            }
            tracing::info!("cleanup finished; removing the finalizer");
        }
        self.set_finalizer(object, finalizer, false).await?;
        Ok(Action::requeue(crate::controllers::DEFAULT_REQUEUE))
    }

    async fn set_finalizer(&self, object: &R::Object, finalizer: &str, present: bool) -> Result<(), ApiError> {
        let Ctx { client, leadership, clock, .. } = &*self.ctx;
        let written =
            finalizers::set(client, || leadership.write_permit(clock.mono()), object, finalizer, present).await?;
        if let Some(version) = written {
            self.status.note_version(object, version);
        }
        Ok(())
    }

    fn failed(&self, object: &R::Object, error: &ReconcileError) -> Action {
        let key = object.key();
        let controller = R::Object::KIND.as_str();
        self.metrics.errors.with_label_values(&[controller]).inc();
        if matches!(error, ReconcileError::Panicked) {
            self.metrics.panics.with_label_values(&[controller]).inc();
            tracing::error!(kind = controller, namespace = %key.namespace, name = %key.name, "{error}");
            return Action::requeue(PANIC_REQUEUE);
        }
        let (streak, delay) =
            self.ctx.backoff.failed(R::Object::KIND, &key, &object.uid().unwrap_or_default(), rand::random());
        let (namespace, name) = (&*key.namespace, &*key.name);
        // Logged once per failure streak; the retries would only repeat it.
        if streak == 1 && self.ctx.backoff.should_log(R::Object::KIND, &key, self.ctx.clock.mono()) {
            tracing::warn!(kind = controller, namespace, name, %error, "reconcile failed; retrying with backoff");
        } else {
            tracing::debug!(kind = controller, namespace, name, %error, streak, "reconcile failed again; backing off");
        }
        Action::requeue(delay)
    }
}

/// Shortens long delays by up to a third, so that objects created together are not reconciled together.
fn jittered(delay: Duration, now: Mono) -> Duration {
    if delay < Duration::from_mins(10) {
        return delay;
    }
    let third = delay / 3;
    let permille = u32::try_from(now.nanos() / 1000 % 1000).unwrap_or(0);
    delay.saturating_sub(third) + third * permille / 1000
}

#[cfg(test)]
mod tests;
