use std::future::pending;
use std::time::Duration;

use tower::ServiceExt as _;

use super::*;
use crate::domain::breaker::Effective;
use crate::provider::admission::Admission;
use crate::provider::classify::ErrorClass;
use crate::provider::observe::Core;
use crate::provider::quota::Turn;
use crate::provider::settings::Draft;
use crate::provider::testkit::{answer, below, core, settings};
use crate::provider::timeout::PerTry;

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_total_and_a_probe_at_its_checks_timeout() {
    let settings = settings(|draft| {
        draft.timeouts.total = Duration::from_mins(1);
        draft.health_check.timeout = Duration::from_secs(5);
    });
    let clock = Clock::system();
    let path = Deadline::new(Cutoff::new(below(|_| pending()), clock), clock, settings);
    for (request, seconds) in [
        (Request::get("x", "/"), 60),
        (Request::probe("/"), 5),
        (Request { within: Some(Duration::from_secs(3)), ..Request::get("x", "/") }, 3),
        (Request { within: Some(Duration::from_mins(10)), ..Request::get("x", "/") }, 600),
    ] {
        let started = clock.mono();
        let end = path.clone().oneshot(request).await;
        assert!(matches!(end, Err(CallError::Timeout)));
        let took = clock.mono().since(started);
        assert_eq!(took.as_secs(), seconds, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_at_the_deadline_counts() {
    let clock = Clock::system();
    let path = Cutoff::new(below(|_| async { Ok(answer(200)) }), clock);
    let timed = Timed::new(Request::get("x", "/"), clock.mono());
    assert_eq!(path.oneshot(timed).await.unwrap().status, 200);
}

/// From the deadline to a provider that answers after so long, as the stack has it but for retries; what is between the
/// turn and the provider takes `token`.
struct World {
    core: Arc<Core>,
    settings: Arc<Settings>,
}

impl World {
    fn new(change: impl FnOnce(&mut Draft)) -> Self {
        let settings = settings(|draft| {
            draft.breaker.consecutive_failures = 3;
            change(draft);
        });
        Self { core: core(&settings), settings }
    }

    async fn call(&self, request: Request, token: Duration, provider: Duration) -> Result<u16, CallError> {
        let (core, settings) = (Arc::clone(&self.core), Arc::clone(&self.settings));
        let clock = core.clock();
        let nap = move |time| async move { clock.sleep_until(clock.mono() + time).await };
        let limit = settings.timeouts().request;
        let auth = below(move |timed: Timed| {
            timed.course.ready(!token.is_zero());
            let http = below(move |_| async move {
                nap(provider).await;
                Ok(answer(200))
            });
            async move {
                nap(token).await;
                PerTry::new(http, clock, limit).oneshot(timed).await
            }
        });
        let turn = Turn::new(auth, Arc::clone(&core), Arc::clone(&settings));
        let inner = Admission::new(Cutoff::new(turn, clock), core, Arc::clone(&settings));
        Deadline::new(inner, clock, settings).oneshot(request).await.map(|answer| answer.status.as_u16())
    }

    fn hasty(millis: u64) -> Request {
        Request { within: Some(Duration::from_millis(millis)), ..Request::get("x", "/") }
    }

    fn effective(&self) -> Effective {
        self.core.observed(&self.settings).effective
    }
}

const NONE: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_mins(5);

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_off_while_it_waits_for_a_token_has_sent_nothing_and_says_nothing_of_the_provider() {
    let world = World::new(|_| {});
    for class in [CallClass::Read, CallClass::Money, CallClass::Probe, CallClass::Read] {
        let end = world.call(Request { class, ..Request::get("x", "/") }, LONG, NONE).await.unwrap_err();
        assert_eq!(end, CallError::NoToken { status: None, class: ErrorClass::Timeout });
        assert!(!end.was_sent() && end.wants_token(), "{class:?}");
    }
    assert_eq!(world.effective(), Effective::Closed);
    // The provider itself is another matter.
    for _ in 0..3 {
        assert_eq!(world.call(Request::get("x", "/"), Duration::from_secs(1), LONG).await, Err(CallError::Timeout));
    }
    assert_eq!(world.effective(), Effective::Open);
}

#[tokio::test(start_paused = true)]
async fn time_for_a_token_is_not_the_providers_slowness() {
    let world = World::new(|draft| draft.health_check.timeout = Duration::from_secs(10));
    let second = Duration::from_secs(1);
    assert!(world.call(Request::probe("/"), second * 5, second).await.is_ok());
    let probe = world.core.observed(&world.settings).last_probe.unwrap();
    assert_eq!((probe.success, probe.elapsed.as_secs()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn callers_in_a_hurry_close_no_circuit_to_the_others() {
    let world = World::new(|_| {});
    for _ in 0..20 {
        let end = world.call(World::hasty(100), NONE, Duration::from_millis(150)).await;
        assert_eq!(end, Err(CallError::Timeout), "they are told what happened");
    }
    assert_eq!(world.effective(), Effective::Closed);
    // Nor do they by what is not the provider's time.
    for _ in 0..20 {
        let end = world.call(World::hasty(1500), Duration::from_millis(1400), Duration::from_millis(150)).await;
        assert_eq!(end, Err(CallError::Timeout));
    }
    assert_eq!(world.effective(), Effective::Closed);
    assert!(world.call(Request::get("x", "/"), NONE, Duration::from_millis(150)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_stall_that_the_first_of_several_is_given_counts() {
    // Half of the gateway's three seconds.
    let world = World::new(|_| {});
    for _ in 0..3 {
        assert_eq!(world.call(World::hasty(1500), NONE, LONG).await, Err(CallError::Timeout));
    }
    assert_eq!(world.effective(), Effective::Open);
    // Where a try has less than a second anyhow, its own time counts.
    let world = World::new(|draft| draft.timeouts.request = Duration::from_millis(300));
    for _ in 0..3 {
        assert_eq!(world.call(World::hasty(350), NONE, LONG).await, Err(CallError::Timeout));
    }
    assert_eq!(world.effective(), Effective::Open);
}
