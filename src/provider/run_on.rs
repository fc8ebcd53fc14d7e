//! Reads run on after their callers have left, so that a caller's haste is not the provider's failure and a provider that
//! hangs is found all the same.
//!
//! A caller leaves at its deadline, at the end of a fallback's share of the time, or by closing its connection. If the
//! provider has the request then, the call goes on, in a task that the shutdown ends: to the provider's answer, which is
//! cached, or to the connection's own time-out. That end is the outcome that the circuit records. No further try is made
//! for callers who have left, and a call that has sent nothing yet ends with its last caller. Calls that run on keep their
//! permit of the bulkhead ([`crate::provider::bulkhead`]), which bounds them.
//!
//! Writes and money calls do not run on: see `min_provider_time` of [`CallContext`].

use std::sync::Arc;

use futures::FutureExt as _;
use prometheus::IntGauge;
use tower::ServiceExt as _;

use crate::domain::time::Mono;
use crate::provider::call::{CallError, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::shared_call::SharedCall;
use crate::provider::trace;

/// The name of the tasks.
const TASK: &str = "run_on_read";

/// How long a caller waits, and whether the call runs on then.
#[derive(Copy, Clone, Debug)]
pub(crate) struct CallerPatience {
    /// When the caller leaves; `None` if it waits for the call, which ends with it.
    deadline: Option<Mono>,
}

impl CallerPatience {
    /// That of the caller of `ctx`.
    pub(crate) fn of(ctx: &CallContext) -> Self {
        Self { deadline: ctx.run_on_until.map(|_| ctx.deadline) }
    }
}

/// Makes the call of `ctx`. It runs on if its caller leaves and the context allows it.
pub(crate) fn start<S>(monitor: &Arc<ConnectionMonitor>, inner: S, ctx: CallContext) -> CallFuture
where
    S: CallService + Clone + Send + 'static,
{
    let patience = CallerPatience::of(&ctx);
    if patience.deadline.is_none() {
        return inner.oneshot(ctx).boxed();
    }
    let progress = Arc::clone(&ctx.progress);
    let call = trace::with_current_span(inner.oneshot(ctx)).boxed().shared();
    wait(Arc::clone(monitor), patience, SharedCall { call, progress }).boxed()
}

/// Waits for the call as long as the caller does. If this future is dropped, the caller has left.
pub(crate) async fn wait(
    monitor: Arc<ConnectionMonitor>,
    patience: CallerPatience,
    shared: SharedCall,
) -> Result<Response, CallError> {
    let clock = monitor.clock();
    let call = shared.call.clone();
    let waiting = WaitingCaller::new(monitor, patience, shared);
    tokio::select! {
        // A response that is ready at the deadline counts.
        biased;
        end = call => end,
        () = clock.sleep_until(patience.deadline.unwrap_or(Mono::MAX)) => waiting.shared.progress.caller_result(),
    }
}

/// A caller that waits for a call; dropped when it leaves.
struct WaitingCaller {
    monitor: Arc<ConnectionMonitor>,
    patience: CallerPatience,
    shared: SharedCall,
}

impl WaitingCaller {
    fn new(monitor: Arc<ConnectionMonitor>, patience: CallerPatience, shared: SharedCall) -> Self {
        shared.progress.callers.join();
        Self { monitor, patience, shared }
    }
}

impl Drop for WaitingCaller {
    fn drop(&mut self) {
        let SharedCall { call, progress } = &self.shared;
        let last = progress.callers.leave();
        let runs_on = last && self.patience.deadline.is_some() && call.peek().is_none() && progress.is_in_flight();
        // Outside a runtime nothing can run on: the process is ending.
        if !runs_on || !progress.callers.start_running_on() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let running = RunningOn::new(self.monitor.metrics().run_on_reads().clone());
        let call = call.clone();
        drop(self.monitor.tasks().spawn_until_drain(TASK, async move {
            let _running = running;
            drop(call.await);
        }));
    }
}

/// Counts a read that runs on.
struct RunningOn(IntGauge);

impl RunningOn {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for RunningOn {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
