use std::time::Duration;

use http::HeaderValue;

use super::*;
use crate::domain::breaker::Effective;
use crate::domain::time::Mono;
use crate::provider::admission::Admission;
use crate::provider::classify::{ErrorClass, Reading, Wait};
use crate::provider::testkit::{Asked, answer, asking, core, scripted, settings};

type End = Result<Answer, CallError>;

const REFUSED: CallError = CallError::Connect(ConnectProblem::Refused);

fn read() -> Request {
    Request::get("quote", "/")
}

fn of(class: CallClass) -> Request {
    Request { class, ..read() }
}

/// One call through this layer alone, over a provider that ends its tries like this.
async fn call(settings: &Arc<Settings>, request: Request, ends: Vec<End>) -> (End, Asked) {
    let core = core(settings);
    let (inner, asked) = scripted(ends);
    let deadline = core.clock().mono() + Duration::from_mins(2);
    let path = Again::new(inner, core, Arc::clone(settings));
    (path.oneshot(Timed::new(request, deadline)).await, asked)
}

fn tried(asked: &Asked) -> usize {
    asked.lock().unwrap().len()
}

/// The waits between the tries.
fn waits(asked: &Asked) -> Vec<Duration> {
    let asked = asked.lock().unwrap();
    asked.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
}

fn plain() -> Arc<Settings> {
    settings(|_| {})
}

#[tokio::test(start_paused = true)]
async fn three_retries_come_after_one_two_and_four_seconds_and_jitter_and_pacing_only_add() {
    let settings = settings(|draft| draft.retry.min_pacing = Duration::from_millis(50));
    let (end, asked) = call(&settings, read(), vec![Ok(answer(503))]).await;
    let end = end.unwrap();
    assert_eq!((end.status.as_u16(), end.meta.tries), (503, 4));
    let waits = waits(&asked);
    assert_eq!(waits.len(), 3);
    for (wait, seconds) in waits.into_iter().zip([1, 2, 4]) {
        let step = Duration::from_secs(seconds);
        let most = step + step / JITTER + Duration::from_millis(52);
        assert!(wait >= step + Duration::from_millis(50) && wait <= most, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_the_tries_and_says_how_many_there_were() {
    let (end, asked) = call(&plain(), read(), vec![Err(REFUSED), Ok(answer(502)), Ok(answer(200))]).await;
    assert_eq!(end.unwrap().meta.tries, 3);
    assert_eq!(tried(&asked), 3);
}

#[tokio::test(start_paused = true)]
async fn only_what_may_end_otherwise_is_tried_again() {
    let again = [
        Ok(answer(500)),
        Ok(answer(408)),
        Ok(answer(425)),
        Ok(answer(429)),
        Err(REFUSED),
        Err(CallError::Timeout),
        Err(CallError::Malformed),
        Err(CallError::Connect(ConnectProblem::Reset)),
        Err(CallError::NoToken { status: Some(503), class: ErrorClass::Connect }),
    ];
    for end in again {
        let (_, asked) = call(&plain(), read(), vec![end.clone()]).await;
        assert_eq!(tried(&asked), 4, "{end:?}");
    }
    let never = [
        Ok(answer(200)),
        Ok(answer(302)),
        Ok(answer(400)),
        Ok(answer(401)),
        Ok(answer(403)),
        Ok(answer(404)),
        Ok(answer(410)),
        Ok(answer(422)),
        Err(CallError::CircuitOpen { retry_in: None }),
        Err(CallError::Suspended),
        Err(CallError::TooLarge { limit: 1 }),
        Err(CallError::CredentialsRefused { status: 401 }),
        Err(CallError::Connect(ConnectProblem::Expired)),
        Err(CallError::Request("x")),
        Err(CallError::QuotaExhausted { retry_in: Duration::ZERO }),
    ];
    for end in never {
        let (_, asked) = call(&plain(), read(), vec![end.clone()]).await;
        assert_eq!(tried(&asked), 1, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_one_try_and_money_is_never_tried_again_blindly() {
    for class in [CallClass::Probe, CallClass::Money] {
        for end in [Ok(answer(503)), Ok(answer(429)), Err(CallError::Timeout)] {
            let (_, asked) = call(&plain(), of(class), vec![end.clone()]).await;
            assert_eq!(tried(&asked), 1, "{class:?} {end:?}");
        }
    }
    // Nobody was there to take it.
    let (end, asked) = call(&plain(), of(CallClass::Money), vec![Err(REFUSED), Ok(answer(200))]).await;
    assert_eq!((end.unwrap().status.as_u16(), tried(&asked)), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn a_write_is_tried_again_if_it_may_be_done_twice() {
    let post = Request { method: Method::POST, ..of(CallClass::Write) };
    let put = Request { method: Method::PUT, ..of(CallClass::Write) };
    let mut keyed = post.clone();
    keyed.headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("1"));
    for (request, tries) in [(post, 1), (put, 4), (keyed, 4)] {
        let (_, asked) = call(&plain(), request, vec![Ok(answer(503))]).await;
        assert_eq!(tried(&asked), tries);
    }
}

#[tokio::test(start_paused = true)]
async fn the_providers_wish_wins_if_it_is_longer_and_is_never_shortened() {
    for (seconds, least) in [(30, 30), (0, 1)] {
        let (_, asked) = call(&plain(), read(), vec![Ok(asking(429, seconds)), Ok(answer(200))]).await;
        let wait = waits(&asked)[0];
        assert!(wait >= Duration::from_secs(least) && wait < Duration::from_secs(least + 1), "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_date_is_waited_for_and_one_in_the_past_is_no_wish() {
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for (offset, least) in [(20_i64, 20), (-3600, 1)] {
        let mut busy = answer(503);
        busy.reading.wait = Some(Wait::Until(start + jiff::SignedDuration::from_secs(offset)));
        let (_, asked) = call(&plain(), read(), vec![Ok(busy), Ok(answer(200))]).await;
        let wait = waits(&asked)[0];
        assert!(wait >= Duration::from_secs(least) && wait < Duration::from_secs(least + 1), "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_does_not_fit_ends_the_call_at_once_with_what_was_said() {
    let clock = crate::clock::Clock::system();
    for seconds in [120, 3600, u64::MAX] {
        let (end, asked) = call(&plain(), read(), vec![Ok(asking(429, seconds))]).await;
        assert_eq!((end.unwrap().reading.class, tried(&asked)), (Class::RateLimited, 1));
    }
    assert_eq!(clock.mono().since(Mono::ZERO), Duration::ZERO, "nothing was slept for nothing");
    // And who does not want to wait so long says so.
    let hasty = Request { max_wait: Some(Duration::from_secs(10)), ..read() };
    let (_, asked) = call(&plain(), hasty.clone(), vec![Ok(asking(429, 11))]).await;
    assert_eq!(tried(&asked), 1);
    let (_, asked) = call(&plain(), hasty, vec![Ok(asking(429, 9)), Ok(answer(200))]).await;
    assert_eq!(tried(&asked), 2);
}

#[tokio::test(start_paused = true)]
async fn who_never_waits_tries_at_once_and_as_often_as_he_asked() {
    let request = Request { no_wait: true, tries: Some(2), ..read() };
    let (_, asked) = call(&plain(), request.clone(), vec![Ok(answer(503))]).await;
    assert_eq!(waits(&asked), [Duration::ZERO]);
    let (_, asked) = call(&plain(), request, vec![Ok(answer(429))]).await;
    assert_eq!(tried(&asked), 1, "a 429 cannot be tried again without a wait");
    let more = Request { tries: Some(99), ..read() };
    let (_, asked) = call(&plain(), more, vec![Ok(answer(503))]).await;
    assert_eq!(tried(&asked), 4, "the connection's own bound stands");
}

#[tokio::test(start_paused = true)]
async fn a_daily_quota_is_waited_for_only_if_its_end_is_known() {
    let quota = |wait| {
        let mut answer = answer(403);
        answer.reading = Reading { class: Class::Quota, wait, ..Reading::default() };
        Ok(answer)
    };
    let (_, asked) = call(&plain(), read(), vec![quota(None)]).await;
    assert_eq!(tried(&asked), 1);
    let (_, asked) =
        call(&plain(), read(), vec![quota(Some(Wait::For(Duration::from_secs(5)))), Ok(answer(200))]).await;
    assert_eq!(tried(&asked), 2);
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_the_retries_of_all_calls_together() {
    // The breaker's own rules are not what is tested.
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 0;
        draft.breaker.unhealthy = crate::domain::breaker::OnUnhealthy::Ignore;
    });
    let core = core(&settings);
    let (inner, asked) = scripted([Ok(answer(503))]);
    let again = Again::new(inner, Arc::clone(&core), Arc::clone(&settings));
    let path = Admission::new(again, Arc::clone(&core), Arc::clone(&settings));
    let calls =
        (0..100).map(|_| path.clone().oneshot(Timed::new(read(), core.clock().mono() + Duration::from_mins(2))));
    let ends = futures::future::join_all(calls).await;
    assert_eq!(ends.len(), 100);
    assert_eq!(tried(&asked), 120, "a hundred calls and a fifth of them once more");
    let off = crate::provider::testkit::settings(|draft| draft.retry.budget_percent = 0);
    let (_, asked) = call(&off, read(), vec![Ok(answer(503))]).await;
    assert_eq!(tried(&asked), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_try_that_succeeds_is_one_success_and_three_calls_of_three_tries_are_three_outcomes() {
    let settings = settings(|draft| {
        draft.retry.retries = 2;
        draft.breaker.consecutive_failures = 3;
    });
    let core = core(&settings);
    let path = |ends: Vec<End>| {
        let (inner, asked) = scripted(ends);
        let again = Again::new(inner, Arc::clone(&core), Arc::clone(&settings));
        (Admission::new(again, Arc::clone(&core), Arc::clone(&settings)), asked)
    };
    let timed = || Timed::new(read(), core.clock().mono() + Duration::from_mins(2));
    let outcomes = || {
        let mut counts = core.lock().counts.outcomes();
        counts.sort_unstable();
        counts
    };
    let (mending, _) = path(vec![Ok(answer(503)), Ok(answer(200))]);
    assert_eq!(mending.oneshot(timed()).await.unwrap().meta.tries, 2);
    assert_eq!(outcomes(), [("success", 1)]);
    let (failing, asked) = path(vec![Ok(answer(503))]);
    for calls in 1..=3 {
        assert_eq!(core.observed(&settings).effective, Effective::Closed);
        assert_eq!(failing.clone().oneshot(timed()).await.unwrap().meta.tries, 3);
        assert_eq!(outcomes(), [("failure", calls), ("success", 1)]);
    }
    assert_eq!(tried(&asked), 9);
    assert_eq!(core.observed(&settings).effective, Effective::Open, "three outcomes, three tries each");
    assert_eq!(core.series().retries("generic"), 7);
    // `circuit_open` is never tried again.
    assert!(matches!(failing.oneshot(timed()).await, Err(CallError::CircuitOpen { .. })));
    assert_eq!(tried(&asked), 9);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_during_the_wait_ends_the_call_with_what_was_said() {
    let settings = settings(|draft| draft.breaker.consecutive_failures = 1);
    let core = core(&settings);
    let path = |ends: Vec<End>, retries: u32| {
        let of_its_own = crate::provider::testkit::settings(|draft| {
            draft.breaker.consecutive_failures = 1;
            draft.retry.retries = retries;
        });
        let (inner, asked) = scripted(ends);
        let again = Again::new(inner, Arc::clone(&core), Arc::clone(&of_its_own));
        (Admission::new(again, Arc::clone(&core), of_its_own), asked)
    };
    let timed = || Timed::new(read(), core.clock().mono() + Duration::from_mins(2));
    let (patient, asked) = path(vec![Ok(answer(503)), Ok(answer(200))], 3);
    let patient = tokio::spawn(patient.oneshot(timed()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (hasty, _) = path(vec![Ok(answer(503))], 0);
    assert_eq!(hasty.oneshot(timed()).await.unwrap().status, 503);
    assert_eq!(core.observed(&settings).effective, Effective::Open);
    let end = patient.await.unwrap().unwrap();
    assert_eq!((end.status.as_u16(), end.meta.tries, tried(&asked)), (503, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn of_all_classes_only_a_passing_trouble_and_a_limit_that_is_renewed_are_tried_again() {
    for class in Class::ALL {
        let again = matches!(class, Class::Retry | Class::RateLimited | Class::Quota);
        // The class decides, whatever the status; and being told when to come again makes no class worth it.
        for status in [200, 400, 503] {
            let mut end = answer(status);
            end.reading = Reading { class, wait: Some(Wait::For(Duration::from_secs(1))), ..Reading::default() };
            let (_, asked) = call(&plain(), read(), vec![Ok(end)]).await;
            assert_eq!(tried(&asked), if again { 4 } else { 1 }, "{class:?} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_tries_outlast_its_lease_is_not_lost() {
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.breaker.open.base = Duration::from_secs(10);
        draft.breaker.half_open.lease = Duration::from_secs(6);
    });
    let core = core(&settings);
    let (inner, _) =
        scripted(vec![Ok(answer(500)), Ok(answer(500)), Ok(answer(500)), Ok(answer(500)), Ok(answer(200))]);
    let once = || Request { tries: Some(1), ..read() };
    let path =
        Admission::new(Again::new(inner, Arc::clone(&core), Arc::clone(&settings)), core.clone(), settings.clone());
    let timed = |request| Timed::new(request, Mono::MAX);
    let effective = || core.observed(&settings).effective;
    assert_eq!(path.clone().oneshot(timed(once())).await.unwrap().status, 500);
    assert_eq!(effective(), Effective::Open);
    tokio::time::advance(Duration::from_secs(10)).await;
    let started = core.clock().mono();
    // 1, 2 and 4 seconds between its tries, while somebody lets time pass for the breaker, as the registry does.
    let ticks = async {
        loop {
            core.clock().sleep_until(core.clock().mono() + Duration::from_millis(500)).await;
            core.tick();
            let other = path.clone().oneshot(timed(once())).await;
            assert!(matches!(other, Err(CallError::CircuitOpen { .. })), "one trial at a time: {other:?}");
        }
    };
    let trial = path.clone().oneshot(timed(read()));
    let end = tokio::select! { end = trial => end.unwrap(), () = ticks => unreachable!() };
    assert_eq!((end.status.as_u16(), end.meta.tries), (200, 4));
    assert!(core.clock().mono().since(started) > Duration::from_secs(6));
    assert_eq!(effective(), Effective::Closed, "its success counts");
}
