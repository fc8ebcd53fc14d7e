//! The quota layer: each try takes one request from every limit that applies, waits for it, or ends the call.
//!
//! It waits only as long as the deadline allows: a longer wait fails at once and reports its length. A probe never
//! waits; without quota it is skipped. Only a call that a user requested is sent during the provider's rate limit, once in
//! a while. A 429 delays all calls of the connection, not one request, because clients that
//! keep sending after a 429 get their keys banned. Only if the profile says that the limit applies to one partition is
//! that partition blocked alone. Requests of daily limits are counted in the ledger before they are sent
//! (`day_quota.rs`).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::CallClass;
use crate::domain::hash;
use crate::domain::quota::WindowId;
use crate::domain::time::Mono;
use crate::profile::RetryAfter;
use crate::provider::call::{CallError, Request, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::monitor::rate_limit::{ObservedResponse, QuotaDenial, QuotaGrant};
use crate::settings::Settings;

/// Calls that waited for a rate limit to end are spread over at most this long.
const MAX_RESUME_JITTER: Duration = Duration::from_millis(500);

/// Makes each try wait for quota.
#[derive(Clone)]
pub struct QuotaService<S> {
    inner: S,
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
}

impl<S> QuotaService<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, monitor: Arc<ConnectionMonitor>, settings: Arc<Settings>) -> Self {
        Self { inner, monitor, settings }
    }
}

impl<S: CallService + Clone + Send + 'static> Service<CallContext> for QuotaService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let (monitor, settings, inner) = (Arc::clone(&self.monitor), Arc::clone(&self.settings), self.inner.clone());
        async move {
            ctx.progress.on_queued();
            let grant = acquire(&monitor, &settings, &ctx).await?;
            ctx.progress.on_quota_granted(settings.auth().token_url().is_some());
            let (class, operation) = (ctx.request.class, Arc::clone(&ctx.request.operation));
            let partition = ctx.request.partition.clone();
            let mut end = inner.oneshot(ctx).await;
            if let Ok(response) = &mut end {
                let (operation, partition) = (&*operation, partition.as_deref());
                let classification = response.classification;
                let observed = ObservedResponse { class, operation, partition, classification, grant };
                // The caller is told what the connection keeps to: a shorter `Retry-After` would lead to a refusal.
                if let Some(pause) = monitor.observe_response(&settings, &observed) {
                    response.classification.retry_after = Some(RetryAfter::Delay(pause));
                }
            }
            end
        }
        .boxed()
    }
}

/// Takes quota for one try; waits for it if the wait fits the call.
pub(crate) async fn acquire(
    monitor: &ConnectionMonitor,
    settings: &Settings,
    ctx: &CallContext,
) -> Result<QuotaGrant, CallError> {
    let rules = settings.quota().filter(|rules| rules.has_daily_limit(&ctx.request.operation));
    let days = rules.zip(monitor.day_quota());
    if let Some((rules, days)) = days {
        days.load(rules, |stored| monitor.restore_quota(rules, stored)).await;
    }
    let started = monitor.clock().mono();
    let latest = latest_start(&ctx.request, ctx.deadline, started);
    let mut queued: Option<QueuedCall<'_>> = None;
    let end = loop {
        let denial = match monitor.acquire_quota(settings, &ctx.request, queued.is_some(), latest) {
            Ok(grant) => break Ok(grant),
            Err(denial) => denial,
        };
        let now = monitor.clock().mono();
        if available_at(denial) >= latest {
            break Err(refusal(denial, now));
        }
        let wake_at = match denial {
            QuotaDenial::RateLimited(at) | QuotaDenial::PartitionBlocked(at) => {
                let jittered = at + resume_jitter(at.since(now));
                if jittered < latest { jittered } else { at }
            }
            QuotaDenial::LimitReached(later) => {
                queued = Some(QueuedCall { monitor, window: later.window_id });
                later.at
            }
        };
        monitor.clock().sleep_until(wake_at).await;
        // After an oversleep, quota taken now would be wasted: no caller waits for the result. Nor would that of a trial
        // count whose lease ended meanwhile.
        let now = monitor.clock().mono();
        if now >= ctx.deadline || !monitor.keeps_trial(ctx.permit) {
            break Err(refusal(denial, now));
        }
    };
    drop(queued);
    if let (Ok(_), Some((rules, days))) = (&end, days) {
        let missing = || monitor.unstored_quota(rules, &ctx.request);
        days.store(missing, |added, totals| monitor.mark_quota_stored(added, totals)).await;
    }
    let waited = monitor.clock().mono().since(started);
    if settings.quota().is_some() || !waited.is_zero() {
        monitor.metrics().quota_wait(settings.provider(), waited);
    }
    end
}

/// When the denial ends.
const fn available_at(denial: QuotaDenial) -> Mono {
    match denial {
        QuotaDenial::RateLimited(at) | QuotaDenial::PartitionBlocked(at) => at,
        QuotaDenial::LimitReached(later) => later.at,
    }
}

/// The error of a call that cannot wait until the denial ends.
fn refusal(denial: QuotaDenial, now: Mono) -> CallError {
    let retry_in = available_at(denial).since(now);
    match denial {
        QuotaDenial::RateLimited(_) => CallError::Throttled { retry_in },
        QuotaDenial::PartitionBlocked(_) | QuotaDenial::LimitReached(_) => CallError::QuotaExhausted { retry_in },
    }
}

/// The latest time at which the try may get its quota.
fn latest_start(request: &Request, deadline: Mono, now: Mono) -> Mono {
    if request.class == CallClass::Probe || request.no_wait {
        return now;
    }
    request.max_wait.map_or(deadline, |longest| deadline.min(now + longest))
}

/// A random part of a tenth of the wait, at most [`MAX_RESUME_JITTER`]. It only lengthens the wait.
fn resume_jitter(wait: Duration) -> Duration {
    let span = (wait / 10).min(MAX_RESUME_JITTER);
    Duration::from_nanos(hash::scale(u64::try_from(span.as_nanos()).unwrap_or(0), rand::random()))
}

/// A call that the quota counts as waiting; dropping it leaves the queue.
struct QueuedCall<'a> {
    monitor: &'a ConnectionMonitor,
    window: WindowId,
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        self.monitor.leave_queue(self.window);
    }
}

#[cfg(test)]
mod tests;
