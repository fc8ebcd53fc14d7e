//! The course of one call: where it stands, so that the end of its time is charged to whoever took it.
//!
//! Layers below tell, the cut-off above asks. A call that runs out of time while it waits for a token has not failed at
//! the provider, which has not even seen it; and one whose caller gave the provider a moment only says nothing of it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::time::Mono;
use crate::provider::call::{Answer, CallError};
use crate::provider::classify::ErrorClass;

type End = Result<Answer, CallError>;

/// Nobody has told: taken for [`WIRE`], because what may have been sent must not be called unsent.
const UNTOLD: u8 = 0;
/// It waits for its turn.
const QUEUE: u8 = 1;
/// It has its turn and waits for a token.
const TOKEN: u8 = 2;
/// A try is with the provider.
const WIRE: u8 = 3;

/// The course of one call, shared by its tries.
#[derive(Debug, Default)]
pub struct Course {
    /// When its last try went to the provider, in nanoseconds of the clock; 0 before the first.
    tried_at: AtomicU64,
    stage: AtomicU8,
    /// What it goes back to when a try has ended: a 401 may make another token wanted.
    ready: AtomicU8,
    cut_short: AtomicBool,
    /// How the last try ended, while another one is awaited or under way.
    before: Mutex<Option<End>>,
}

impl Course {
    /// It waits for its turn in the quota.
    pub(crate) fn queue(&self) {
        self.stage.store(QUEUE, Ordering::Relaxed);
    }

    /// Its turn has come; what it may still wait for is a token.
    pub(crate) fn ready(&self, wants_token: bool) {
        let ready = if wants_token { TOKEN } else { UNTOLD };
        self.ready.store(ready, Ordering::Relaxed);
        self.stage.store(ready, Ordering::Relaxed);
    }

    /// A try goes to the provider.
    pub(crate) fn sent(&self, now: Mono) {
        self.tried_at.store(now.nanos().max(1), Ordering::Relaxed);
        self.stage.store(WIRE, Ordering::Relaxed);
    }

    /// The try is back. Not to be told of one that was dropped: it may have been taken up.
    pub(crate) fn back(&self) {
        self.stage.store(self.ready.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// When the last try went to the provider. Waiting for a turn, for a token or between two tries is not the provider's
    /// slowness.
    pub(crate) fn tried_at(&self) -> Option<Mono> {
        Some(self.tried_at.load(Ordering::Relaxed)).filter(|at| *at > 0).map(Mono::from_nanos)
    }

    /// Whether it waits for a token, with nothing on its way.
    pub(crate) fn waits_for_token(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == TOKEN
    }

    /// Keeps how a try ended while the next one is awaited.
    pub(crate) fn keep(&self, end: End) {
        *self.lock() = Some(end);
        self.queue();
    }

    /// How the try before ended, if there was one.
    pub(crate) fn take(&self) -> Option<End> {
        self.lock().take()
    }

    /// The end of a call whose time is over. With nothing on its way it is what the provider said before, or why
    /// nothing was sent. A provider that had less than `patience` since the last try went out is not blamed.
    pub(crate) fn out_of_time(&self, now: Mono, patience: Option<Duration>) -> End {
        let unsent = match self.stage.load(Ordering::Relaxed) {
            TOKEN => CallError::NoToken { status: None, class: ErrorClass::Timeout },
            QUEUE => CallError::QuotaExhausted { retry_in: Duration::ZERO },
            _ => {
                let had = self.tried_at().map(|at| now.since(at));
                if let (Some(patience), Some(had)) = (patience, had)
                    && had < patience
                {
                    self.cut_short.store(true, Ordering::Relaxed);
                }
                return Err(CallError::Timeout);
            }
        };
        self.take().unwrap_or(Err(unsent))
    }

    /// What counts of a call that ended with `end`; nothing, where its caller took the time to answer from the provider
    /// and no earlier try says anything.
    pub(crate) fn counts<T>(
        &self,
        end: Result<&Answer, &CallError>,
        judge: impl Fn(Result<&Answer, &CallError>) -> T,
    ) -> Option<T> {
        if self.cut_short.load(Ordering::Relaxed) {
            return self.lock().as_ref().map(|before| judge(before.as_ref()));
        }
        Some(judge(end))
    }

    fn lock(&self) -> MutexGuard<'_, Option<End>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::testkit::answer;

    const NOW: Mono = Mono::from_nanos(5_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn error(course: &Course) -> CallError {
        course.out_of_time(NOW, None).unwrap_err()
    }

    #[test]
    fn time_that_ends_before_a_try_went_out_is_told_by_what_was_waited_for() {
        let course = Course::default();
        assert_eq!(error(&course), CallError::Timeout, "who tells nothing may have sent something");
        course.queue();
        assert_eq!(error(&course), CallError::QuotaExhausted { retry_in: Duration::ZERO });
        course.ready(true);
        let no_token = CallError::NoToken { status: None, class: ErrorClass::Timeout };
        assert_eq!(error(&course), no_token);
        course.sent(NOW);
        assert_eq!(error(&course), CallError::Timeout);
        // Refused with 401, perhaps: the next token is awaited.
        course.back();
        assert_eq!(error(&course), no_token);
        course.ready(false);
        assert_eq!(error(&course), CallError::Timeout);
    }

    #[test]
    fn while_nothing_is_on_its_way_the_try_before_is_the_end() {
        let course = Course::default();
        course.keep(Ok(answer(503)));
        assert_eq!(course.out_of_time(NOW, None).unwrap().status, 503);
        course.keep(Ok(answer(503)));
        course.ready(true);
        assert_eq!(course.out_of_time(NOW, None).unwrap().status, 503);
        course.keep(Ok(answer(503)));
        course.sent(NOW);
        assert_eq!(error(&course), CallError::Timeout);
    }

    #[test]
    fn a_provider_that_had_less_than_the_patience_is_judged_by_the_try_before_alone() {
        let counted = |had: Duration, before: Option<End>| {
            let course = Course::default();
            if let Some(before) = before {
                course.keep(before);
            }
            course.sent(Mono::from_nanos(NOW.nanos() - u64::try_from(had.as_nanos()).unwrap()));
            let end = course.out_of_time(NOW, Some(SECOND));
            course.counts(end.as_ref(), |end| end.map(|answer| answer.status.as_u16()).map_err(Clone::clone))
        };
        assert_eq!(counted(SECOND / 2, None), None);
        assert_eq!(counted(SECOND / 2, Some(Ok(answer(503)))), Some(Ok(503)));
        assert_eq!(counted(SECOND, None), Some(Err(CallError::Timeout)));
    }
}
