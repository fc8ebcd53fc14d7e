//! The shell around a reconcile: everything about it that is the same for all kinds.

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
use crate::cluster::finalizers;
use crate::cluster::lease::RENEW_EVERY;
use crate::cluster::status::{StatusWriter, Timing};
use crate::cluster::stores::{KindStore, Watched as _};
use crate::controllers::{Cleaned, Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::metrics::{Metrics, MetricsError};

/// A reconcile that panicked is a defect: the object is left alone this long.
const AFTER_PANIC: Duration = Duration::from_mins(10);

/// What others depend on is looked at first, so this long is long; its end pokes most of them sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Series of the reconcilers, named as Go operators name theirs.
#[derive(Clone)]
pub struct ShellMetrics {
    total: IntCounterVec,
    errors: IntCounterVec,
    panics: IntCounterVec,
    seconds: HistogramVec,
}

impl ShellMetrics {
    /// Registers the series.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            total: metrics.counter(
                "controller_runtime_reconcile_total",
                "Reconciles, by controller and result.",
                &["controller", "result"],
            )?,
            errors: metrics.counter(
                "controller_runtime_reconcile_errors_total",
                "Reconciles that ended in an error and are retried.",
                &["controller"],
            )?,
            panics: metrics.counter(
                "controller_runtime_reconcile_panics_total",
                "Reconciles that panicked: defects of Busbar.",
                &["controller"],
            )?,
            seconds: metrics.seconds(
                "controller_runtime_reconcile_time_seconds",
                "Time of a reconcile.",
                &["controller"],
            )?,
        })
    }
}

/// Runs the reconciles of one kind.
pub struct Shell<R: Reconciler> {
    ctx: Arc<Ctx>,
    status: StatusWriter<R::Object>,
    metrics: ShellMetrics,
    concurrency: u16,
}

impl<R: Reconciler> Shell<R> {
    /// A shell that writes through `status`.
    pub fn new(ctx: Arc<Ctx>, status: StatusWriter<R::Object>, metrics: ShellMetrics, concurrency: u16) -> Arc<Self> {
        Arc::new(Self { ctx, status, metrics, concurrency })
    }

    /// The writer of this kind's status.
    pub fn status(&self) -> &StatusWriter<R::Object> {
        &self.status
    }

    /// Reconciles what is poked, until `stop` resolves; then finishes what is under way.
    pub async fn run(self: Arc<Self>, store: KindStore<R::Object>, stop: CancellationToken) {
        let kind = R::Object::KIND;
        let runs = store.scopes().iter().map(|(namespace, reader)| {
            let queue = self
                .ctx
                .pokes
                .subscribe(kind, namespace.as_deref())
                .map(|key| {
                    Ok::<_, std::convert::Infallible>(ObjectRef::<R::Object>::new(&key.name).within(&key.namespace))
                })
                .take_until(stop.clone().cancelled_owned());
            let config = Config::default().concurrency(self.concurrency);
            applier(
                |object, shell: Arc<Self>| async move { shell.reconcile(&object).await }.boxed(),
                |object, error, shell| shell.failed(&object, error),
                self.clone(),
                reader.clone(),
                queue,
                config,
            )
            .for_each({
                let shell = Arc::clone(&self);
                move |end| {
                    match end {
                        // Poked for its end: nothing of it is to be remembered.
                        Err(RunError::ObjectNotFound(gone)) => {
                            shell.status.forget(&ObjectKey::new(gone.namespace.unwrap_or_default(), gone.name));
                        }
                        Ok(_) | Err(RunError::ReconcilerFailed(..)) => {}
                        Err(error) => tracing::warn!(%error, "controller"),
                    }
                    std::future::ready(())
                }
            })
        });
        futures::future::join_all(runs).await;
    }

    async fn reconcile(&self, object: &R::Object) -> Result<Action, ReconcileError> {
        if !self.ctx.leadership.holds(self.ctx.clock.mono()) {
            // The API server is out of reach or another leads: nothing is decided until that is clear.
            return Ok(Action::requeue(RENEW_EVERY));
        }
        let key = object.key();
        let controller = R::Object::KIND.as_str();
        // Not `name`: the JSON form gives a span's own name under that key.
        let request_id = uuid::Uuid::new_v4();
        let span = tracing::info_span!("reconcile", kind = controller, object = %key, %request_id);
        let started = self.ctx.clock.mono();
        let result = AssertUnwindSafe(self.steps(object))
            .catch_unwind()
            .instrument(span)
            .await
            .unwrap_or(Err(ReconcileError::Panicked));
        if matches!(result, Err(ReconcileError::Api(ApiError::NotLeading))) {
            // The lease went while it was at work: it is for whoever leads now to say what is true.
            return Ok(Action::requeue(RENEW_EVERY));
        }
        let took = self.ctx.clock.mono().since(started);
        self.metrics.seconds.with_label_values(&[controller]).observe(took.as_secs_f64());
        let label = if result.is_ok() { "success" } else { "error" };
        self.metrics.total.with_label_values(&[controller, label]).inc();
        if result.is_ok() {
            for (kind, key) in self.ctx.failures.succeeded(R::Object::KIND, &key) {
                self.ctx.pokes.poke(kind, &key);
            }
        }
        result
    }

    async fn steps(&self, object: &R::Object) -> Result<Action, ReconcileError> {
        if object.meta().deletion_timestamp.is_some() {
            return self.end(object).await;
        }
        if let Some(mark) = R::FINALIZER
            && finalizers::carries(object, mark) != R::wants_cleaning(object)
        {
            // Before anything else: what is written from here on is already bound to be cleaned, or bound to stay.
            self.mark(object, mark, R::wants_cleaning(object)).await?;
        }
        if self.must_wait(object) {
            return Ok(Action::requeue(LOOK_AGAIN));
        }
        let previous = self.status.current(object);
        let observed = R::observe(&self.ctx, object).await?;
        let now = self.ctx.clock.now();
        let Decision { status, steps, notes, next } = R::decide(object, previous.as_deref(), &observed, now);
        R::act(&self.ctx, object, observed, steps).await?;
        let mut wait = jittered(next, now.mono);
        let due = status.map(|s| (self.status.timing(object, previous.as_deref(), &s), s));
        if !matches!(due, Some((Timing::Now, _))) {
            self.status.found(object, previous.as_deref());
        }
        if let Some((timing, status)) = due {
            match timing {
                Timing::Unchanged => {}
                Timing::In(pause) => wait = wait.min(pause),
                Timing::Now => match self.status.write(object, &status).await {
                    Ok(()) => {
                        for note in &notes {
                            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                            let reason = note.reason.as_str();
                            if note.warning {
                                tracing::warn!(namespace, name, reason, "{}", note.message);
                            } else {
                                tracing::info!(namespace, name, reason, "{}", note.message);
                            }
                            self.ctx.events.publish(object, note).await;
                        }
                    }
                    // Gone, or replaced by another of the same name: the watch brings what is there now.
                    Err(error) if error.is_not_found() || error.is_conflict() => {
                        tracing::debug!(%error, "the object went away under the reconcile");
                    }
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Ok(Action::requeue(wait))
    }

    /// Whether something that decides about this object is there, and was not looked at by this process yet.
    fn must_wait(&self, object: &R::Object) -> bool {
        let Ctx { stores, failures, .. } = &*self.ctx;
        R::depends_on(object).iter().any(|(kind, key)| failures.undecided(*kind, key) && stores.contains(*kind, key))
    }

    /// The object is on its way out; its end will be told by the watch.
    async fn end(&self, object: &R::Object) -> Result<Action, ReconcileError> {
        let Some(mark) = R::FINALIZER.filter(|mark| finalizers::carries(object, mark)) else {
            return Ok(Action::requeue(crate::controllers::IDLE));
        };
        if R::wants_cleaning(object) {
            if let Cleaned::NotYet(pause) = R::clean(&self.ctx, object).await? {
                return Ok(Action::requeue(pause));
            }
            tracing::info!("cleaned up after the object");
        }
        self.mark(object, mark, false).await?;
        Ok(Action::requeue(crate::controllers::IDLE))
    }

    async fn mark(&self, object: &R::Object, mark: &str, present: bool) -> Result<(), ApiError> {
        let Ctx { client, leadership, clock, .. } = &*self.ctx;
        finalizers::set(client, || leadership.leave(clock.mono()), object, (mark, present)).await
    }

    fn failed(&self, object: &R::Object, error: &ReconcileError) -> Action {
        let key = object.key();
        let controller = R::Object::KIND.as_str();
        self.metrics.errors.with_label_values(&[controller]).inc();
        if matches!(error, ReconcileError::Panicked) {
            self.metrics.panics.with_label_values(&[controller]).inc();
            tracing::error!(kind = controller, namespace = %key.namespace, name = %key.name, "{error}");
            return Action::requeue(AFTER_PANIC);
        }
        let (streak, pause) =
            self.ctx.failures.failed(R::Object::KIND, &key, &object.uid().unwrap_or_default(), rand::random());
        // Said once per streak; the retries repeat it.
        if streak == 1 && self.ctx.failures.worth_telling(R::Object::KIND, &key, self.ctx.clock.mono()) {
            tracing::warn!(kind = controller, namespace = %key.namespace, name = %key.name, %error, "reconcile failed; trying again");
        } else {
            tracing::debug!(kind = controller, namespace = %key.namespace, name = %key.name, %error, streak, "reconcile failed again");
        }
        Action::requeue(pause)
    }
}

/// Long waits are spread by up to a third, so that objects which came together do not stay together.
fn jittered(wait: Duration, now: Mono) -> Duration {
    if wait < Duration::from_mins(10) {
        return wait;
    }
    let third = wait / 3;
    let spread = u32::try_from(now.nanos() / 1000 % 1000).unwrap_or(0);
    wait.saturating_sub(third) + third * spread / 1000
}

#[cfg(test)]
mod tests;
