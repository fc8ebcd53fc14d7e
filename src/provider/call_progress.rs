//! The progress of one call, which decides what the call's result is when its deadline passes.
//!
//! Inner layers write it, the cut-off and the breaker read it. A call that reaches its deadline while it waits for a
//! token has not failed at the provider, which has not seen it; and one whose caller left the provider almost no time
//! says nothing about the provider.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::time::Mono;
use crate::provider::call::{CallError, Response};
use crate::provider::waiting_callers::WaitingCallers;
use crate::settings::ErrorClass;

type End = Result<Response, CallError>;

/// What a call is waiting for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
enum CallPhase {
    /// A try is with the provider. Also the phase before any layer reports one: what may have been sent must not be
    /// reported as unsent.
    InFlight = 0,
    /// It waits for quota, or for its next try.
    Queued = 1,
    /// It has its quota and waits for an access token.
    AwaitingToken = 2,
    /// The provider responds, and we have no memory left to read on, or no thread to parse.
    AwaitingCapacity = 3,
}

impl CallPhase {
    const fn from_u8(phase: u8) -> Self {
        match phase {
            1 => Self::Queued,
            2 => Self::AwaitingToken,
            3 => Self::AwaitingCapacity,
            _ => Self::InFlight,
        }
    }
}

/// The progress of one call, shared by its tries.
#[derive(Debug, Default)]
pub struct CallProgress {
    /// When the last try was sent, in nanoseconds of the clock; 0 before the first.
    sent_at: AtomicU64,
    /// The current [`CallPhase`].
    phase: AtomicU8,
    /// The [`CallPhase`] after a try has ended: a 401 may require another token.
    phase_between_tries: AtomicU8,
    /// How long the call has waited for our own memory and threads, in nanoseconds.
    capacity_wait: AtomicU64,
    /// The caller's deadline left the provider too little time to count against it.
    cut_short: AtomicBool,
    /// The result of the previous try, while the next one is awaited or in flight.
    previous: Mutex<Option<End>>,
    /// Who waits for the call.
    pub(crate) callers: WaitingCallers,
}

impl CallProgress {
    /// The call waits for quota.
    pub(crate) fn on_queued(&self) {
        self.set_phase(CallPhase::Queued);
    }

    /// The call has its quota; it may still have to wait for a token.
    pub(crate) fn on_quota_granted(&self, needs_token: bool) {
        let phase = if needs_token { CallPhase::AwaitingToken } else { CallPhase::InFlight };
        self.phase_between_tries.store(phase as u8, Ordering::Relaxed);
        self.set_phase(phase);
    }

    /// A try is sent to the provider.
    pub(crate) fn on_sent(&self, now: Mono) {
        self.sent_at.store(now.nanos().max(1), Ordering::Relaxed);
        self.set_phase(CallPhase::InFlight);
    }

    /// The response is not read on until there is memory or a thread for it.
    pub(crate) fn on_capacity_wait(&self) {
        self.set_phase(CallPhase::AwaitingCapacity);
    }

    /// It is read on after `waited`, which is not the provider's latency.
    pub(crate) fn on_capacity_granted(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.capacity_wait.fetch_add(waited, Ordering::Relaxed);
        if self.sent_at.load(Ordering::Relaxed) > 0 {
            self.sent_at.fetch_add(waited, Ordering::Relaxed);
        }
        self.set_phase(CallPhase::InFlight);
    }

    /// Whether the call waits for our own memory or threads.
    pub(crate) fn is_awaiting_capacity(&self) -> bool {
        self.phase() == CallPhase::AwaitingCapacity
    }

    /// How long the call has waited for our own memory and threads.
    pub(crate) fn capacity_wait(&self) -> Duration {
        Duration::from_nanos(self.capacity_wait.load(Ordering::Relaxed))
    }

    /// The try has ended. Must not be called for a try that was dropped: the provider may have processed it.
    pub(crate) fn on_try_ended(&self) {
        self.phase.store(self.phase_between_tries.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// When the last try was sent. Time spent waiting for quota, for a token or between two tries is not the provider's
    /// latency.
    pub(crate) fn sent_at(&self) -> Option<Mono> {
        Some(self.sent_at.load(Ordering::Relaxed)).filter(|at| *at > 0).map(Mono::from_nanos)
    }

    /// Whether the call waits for a token, with nothing in flight.
    pub(crate) fn is_awaiting_token(&self) -> bool {
        self.phase() == CallPhase::AwaitingToken
    }

    /// Whether the provider may have the request, and its response is awaited.
    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.phase(), CallPhase::InFlight | CallPhase::AwaitingCapacity)
    }

    /// The result for a caller whose own deadline has passed. The call may run on: nothing of it changes.
    pub(crate) fn caller_result(&self) -> End {
        let unsent = match self.phase() {
            CallPhase::AwaitingToken => CallError::NoToken { status: None, class: ErrorClass::Timeout },
            CallPhase::Queued => CallError::QuotaExhausted { retry_in: Duration::ZERO },
            CallPhase::AwaitingCapacity => return Err(CallError::Overloaded),
            CallPhase::InFlight => return Err(CallError::Timeout),
        };
        self.lock().clone().unwrap_or(Err(unsent))
    }

    /// Takes the result of the last try of a call that is dropped, unless another one is in flight.
    pub(crate) fn take_last(&self) -> Option<End> {
        if self.is_in_flight() { None } else { self.take_previous() }
    }

    /// Stores the result of a try while the next one is awaited.
    pub(crate) fn store_previous(&self, end: End) {
        *self.lock() = Some(end);
        self.on_queued();
    }

    /// Takes the result of the previous try, if there was one.
    pub(crate) fn take_previous(&self) -> Option<End> {
        self.lock().take()
    }

    /// The result of a call whose deadline has passed. With nothing in flight it is the result of the previous try, or
    /// else why nothing was sent. A provider that had less than `min_provider_time` since the last try was sent is not
    /// blamed.
    pub(crate) fn on_deadline(&self, now: Mono, min_provider_time: Option<Duration>) -> End {
        let unsent = match self.phase() {
            CallPhase::AwaitingToken => CallError::NoToken { status: None, class: ErrorClass::Timeout },
            CallPhase::Queued => CallError::QuotaExhausted { retry_in: Duration::ZERO },
            CallPhase::AwaitingCapacity => return Err(CallError::Overloaded),
            CallPhase::InFlight => {
                let in_flight = self.sent_at().map(|at| now.since(at));
                if let (Some(minimum), Some(in_flight)) = (min_provider_time, in_flight)
                    && in_flight < minimum
                {
                    self.cut_short.store(true, Ordering::Relaxed);
                }
                return Err(CallError::Timeout);
            }
        };
        self.take_previous().unwrap_or(Err(unsent))
    }

    /// Applies `assess` to the result that says something about the provider: `end`, or the previous try's if the
    /// caller's deadline cut the last one short. `None` if that was the first try.
    pub(crate) fn assess_with<T>(
        &self,
        end: Result<&Response, &CallError>,
        assess: impl Fn(Result<&Response, &CallError>) -> T,
    ) -> Option<T> {
        if self.cut_short.load(Ordering::Relaxed) {
            return self.lock().as_ref().map(|previous| assess(previous.as_ref()));
        }
        Some(assess(end))
    }

    fn phase(&self) -> CallPhase {
        CallPhase::from_u8(self.phase.load(Ordering::Relaxed))
    }

    fn set_phase(&self, phase: CallPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<End>> {
        self.previous.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::testkit::response;

    const NOW: Mono = Mono::from_nanos(5_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn error(progress: &CallProgress) -> CallError {
        progress.on_deadline(NOW, None).unwrap_err()
    }

    #[test]
    fn deadline_error_depends_on_the_phase() {
        let progress = CallProgress::default();
        assert_eq!(error(&progress), CallError::Timeout, "no reported phase: something may have been sent");
        progress.on_queued();
        assert_eq!(error(&progress), CallError::QuotaExhausted { retry_in: Duration::ZERO });
        progress.on_quota_granted(true);
        let no_token = CallError::NoToken { status: None, class: ErrorClass::Timeout };
        assert_eq!(error(&progress), no_token);
        progress.on_sent(NOW);
        assert_eq!(error(&progress), CallError::Timeout);
        // Refused with 401, for example: the next token is awaited.
        progress.on_try_ended();
        assert_eq!(error(&progress), no_token);
        progress.on_quota_granted(false);
        assert_eq!(error(&progress), CallError::Timeout);
    }

    #[test]
    fn deadline_between_tries_returns_the_previous_result() {
        let progress = CallProgress::default();
        progress.store_previous(Ok(response(503)));
        assert_eq!(progress.on_deadline(NOW, None).unwrap().status, 503);
        progress.store_previous(Ok(response(503)));
        progress.on_quota_granted(true);
        assert_eq!(progress.on_deadline(NOW, None).unwrap().status, 503);
        progress.store_previous(Ok(response(503)));
        progress.on_sent(NOW);
        assert_eq!(error(&progress), CallError::Timeout);
    }

    #[test]
    fn a_wait_for_our_own_capacity_is_not_the_providers_time() {
        let progress = CallProgress::default();
        progress.on_sent(NOW);
        progress.on_capacity_wait();
        assert_eq!(error(&progress), CallError::Overloaded);
        progress.on_capacity_granted(SECOND);
        assert_eq!((progress.sent_at(), progress.capacity_wait()), (Some(NOW + SECOND), SECOND));
        assert_eq!(error(&progress), CallError::Timeout);
    }

    #[test]
    fn try_cut_short_is_assessed_by_the_previous_result_only() {
        let assessed = |in_flight: Duration, previous: Option<End>| {
            let progress = CallProgress::default();
            if let Some(previous) = previous {
                progress.store_previous(previous);
            }
            progress.on_sent(Mono::from_nanos(NOW.nanos() - u64::try_from(in_flight.as_nanos()).unwrap()));
            let end = progress.on_deadline(NOW, Some(SECOND));
            progress.assess_with(end.as_ref(), |end| end.map(|response| response.status.as_u16()).map_err(Clone::clone))
        };
        assert_eq!(assessed(SECOND / 2, None), None);
        assert_eq!(assessed(SECOND / 2, Some(Ok(response(503)))), Some(Ok(503)));
        assert_eq!(assessed(SECOND, None), Some(Err(CallError::Timeout)));
    }
}
