use futures::future::join_all;

use super::*;
use crate::domain::breaker::Effective;
use crate::domain::quota::{Limit, Scope, Unit};
use crate::provider::admission::Admission;
use crate::provider::classify::{Class, Reading, Wait};
use crate::provider::observe::Verdict;
use crate::provider::settings::Draft;
use crate::provider::testkit::{Asked, answer, asking, core, scripted, settings};
use crate::provider::timeout::PerTry;

const TOTAL: Duration = Duration::from_mins(2);

fn per(requests: u32, unit: Unit) -> Limit {
    Limit { name: "own".to_owned(), scope: Scope::Connection, requests, unit, burst: None, operations: Vec::new() }
}

fn limited(limit: Limit, change: impl FnOnce(&mut Draft)) -> Arc<Settings> {
    settings(|draft| {
        draft.limits = vec![limit];
        change(draft);
    })
}

fn request(class: CallClass) -> Request {
    Request { class, ..Request::get("quote", "/") }
}

struct World<S> {
    path: Turn<S>,
    core: Arc<Core>,
    asked: Asked,
}

/// This layer alone, over a provider that answers like this.
fn world(settings: &Arc<Settings>, ends: Vec<Answer>) -> World<impl Inner + Clone + Send + 'static> {
    let core = core(settings);
    let (inner, asked) = scripted(ends.into_iter().map(Ok));
    let inner = PerTry::new(inner, core.clock(), settings.timeouts().request);
    World { path: Turn::new(inner, Arc::clone(&core), Arc::clone(settings)), core, asked }
}

impl<S: Inner + Clone + Send + 'static> World<S> {
    async fn call(&self, request: Request) -> Result<Answer, CallError> {
        let deadline = self.core.clock().mono() + TOTAL;
        self.path.clone().oneshot(Timed::new(request, deadline)).await
    }

    async fn read(&self) -> Result<Answer, CallError> {
        self.call(request(CallClass::Read)).await
    }

    fn at(&self) -> Vec<u64> {
        self.asked.lock().unwrap().iter().map(Duration::as_secs).collect()
    }

    fn paused_for(&self) -> Option<u64> {
        let now = self.core.clock().now();
        let until = self.core.lock().throttled_until(now.mono)?;
        u64::try_from(until.duration_since(now.wall).as_secs()).ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_at_once_never_exceed_the_limit_and_who_cannot_be_served_is_told_at_once() {
    let world = world(&limited(per(20, Unit::Minute), |_| {}), vec![answer(200)]);
    let started = world.core.clock().mono();
    let calls = (0..100).map(|_| async {
        let end = world.read().await;
        (end, world.core.clock().mono().since(started))
    });
    let ends = join_all(calls).await;
    let served: Vec<_> = ends.iter().filter(|(end, _)| end.is_ok()).map(|(_, at)| at.as_secs()).collect();
    assert_eq!((served.len(), served.iter().filter(|at| **at == 0).count()), (40, 20), "now, and in a minute");
    assert!(served.iter().all(|at| matches!(at, 0 | 60)), "{served:?}");
    for (end, at) in ends.iter().filter(|(end, _)| end.is_err()) {
        assert!(matches!(end, Err(CallError::QuotaExhausted { .. })), "{end:?}");
        assert_eq!(*at, Duration::ZERO, "nobody waits in vain");
    }
    assert_eq!(world.asked.lock().unwrap().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_day_that_is_used_up_is_told_at_once_with_its_end() {
    let world = world(&limited(per(1, Unit::Day), |_| {}), vec![answer(200)]);
    assert!(world.read().await.is_ok());
    let refused = world.read().await.unwrap_err();
    let CallError::QuotaExhausted { retry_in } = refused else { panic!("{refused:?}") };
    assert_eq!(retry_in, Duration::from_hours(24), "the test's clock starts at midnight");
    assert_eq!(world.at(), [0]);
}

#[tokio::test(start_paused = true)]
async fn money_has_its_share_when_reads_have_used_up_theirs() {
    let settings = limited(per(10, Unit::Day), |draft| draft.money_reserve_percent = 20);
    let world = world(&settings, vec![answer(200)]);
    let read = join_all((0..12).map(|_| world.read())).await;
    assert_eq!(read.iter().filter(|end| end.is_ok()).count(), 8);
    // A probe counts against the quota, never against money's share.
    assert!(matches!(world.call(request(CallClass::Probe)).await, Err(CallError::QuotaExhausted { .. })));
    let paid = join_all((0..3).map(|_| world.call(request(CallClass::Money)))).await;
    assert_eq!(paid.iter().filter(|end| end.is_ok()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_429_pauses_the_whole_connection_for_as_long_as_was_asked() {
    let world = world(&settings(|_| {}), vec![asking(429, 30), answer(200)]);
    assert_eq!(world.read().await.unwrap().status, 429);
    assert_eq!(world.paused_for(), Some(30));
    let told = world.core.observed(&world.path.settings).throttled_until.unwrap();
    assert_eq!(told.to_string(), "2026-01-01T00:00:30Z");
    let (read, money) = tokio::join!(world.read(), world.call(request(CallClass::Money)));
    assert!(read.is_ok() && money.is_ok());
    assert_eq!(world.at(), [0, 30, 30], "money waits as well");
    assert_eq!(world.paused_for(), None);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_does_not_fit_the_call_is_told_at_once() {
    let world = world(&settings(|_| {}), vec![asking(429, 3600), answer(200)]);
    assert!(world.read().await.is_ok());
    let hour = Duration::from_hours(1);
    assert_eq!(world.read().await.unwrap_err(), CallError::Throttled { retry_in: hour });
    let impatient = Request { no_wait: true, ..request(CallClass::Read) };
    assert_eq!(world.call(impatient).await.unwrap_err(), CallError::Throttled { retry_in: hour });
    tokio::time::advance(Duration::from_secs(3570)).await;
    let hasty = Request { max_wait: Some(Duration::from_secs(10)), ..request(CallClass::Read) };
    assert!(matches!(world.call(hasty).await, Err(CallError::Throttled { .. })));
    assert!(world.read().await.is_ok());
    assert_eq!(world.at(), [0, 3600]);
}

#[tokio::test(start_paused = true)]
async fn no_pause_is_longer_than_a_day_and_none_is_shortened() {
    let world = world(&settings(|_| {}), vec![asking(429, u64::MAX), asking(429, 5)]);
    assert!(world.read().await.is_ok());
    assert_eq!(world.paused_for(), Some(24 * 3600));
    let wait = Some(Wait::For(TOTAL));
    let limited = Reading { class: Class::RateLimited, wait, ..Reading::default() };
    world.core.heard(&world.path.settings, ("quote", None), limited);
    assert_eq!(world.paused_for(), Some(24 * 3600));
}

#[tokio::test(start_paused = true)]
async fn without_a_hint_the_pause_grows_and_answers_to_older_requests_do_not_make_it_grow() {
    let world = world(&settings(|_| {}), vec![answer(429)]);
    let limited = Reading { class: Class::RateLimited, ..Reading::default() };
    for want in [1, 2, 4, 8, 16, 30, 30] {
        // Three requests under way at once are one reason to slow down.
        for _ in 0..3 {
            world.core.heard(&world.path.settings, ("quote", None), limited);
        }
        assert_eq!(world.paused_for(), Some(want));
        tokio::time::advance(Duration::from_secs(want)).await;
    }
    world.core.heard(&world.path.settings, ("quote", None), Reading::default());
    world.core.heard(&world.path.settings, ("quote", None), limited);
    assert_eq!(world.paused_for(), Some(1), "a good answer begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_names_no_end_is_taken_for_a_daily_one() {
    let mut used_up = answer(200);
    used_up.reading = Reading { class: Class::Quota, ..Reading::default() };
    let world = world(&settings(|_| {}), vec![used_up]);
    tokio::time::advance(Duration::from_hours(20)).await;
    assert!(world.read().await.is_ok());
    assert_eq!(world.paused_for(), Some(4 * 3600));
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_a_turn_is_skipped_and_counted_and_says_nothing() {
    let settings = settings(|draft| draft.breaker.consecutive_failures = 1);
    let world = world(&settings, vec![asking(429, 60)]);
    let path = Admission::new(world.path.clone(), Arc::clone(&world.core), Arc::clone(&settings));
    let probe = || {
        let deadline = world.core.clock().mono() + TOTAL;
        path.clone().oneshot(Timed::new(Request::probe("/"), deadline))
    };
    assert_eq!(probe().await.unwrap().status, 429);
    assert_eq!(world.core.observed(&settings).last_probe.map(|probe| probe.success), Some(false));
    let before = world.core.observed(&settings);
    for _ in 0..3 {
        assert!(matches!(probe().await, Err(CallError::Throttled { .. })));
    }
    let after = world.core.observed(&settings);
    assert_eq!(world.core.clock().mono().since(Mono::ZERO), Duration::ZERO, "it did not wait");
    assert_eq!(
        (after.effective, after.health, after.last_probe),
        (Effective::Closed, before.health, before.last_probe)
    );
    let mut outcomes = world.core.lock().counts.outcomes();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [("ignored", 1), ("skipped", 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_starts_in_a_pause_does_not_wait_for_its_verdict() {
    let settings = settings(|_| {});
    let world = world(&settings, vec![answer(200)]);
    world.core.pause_until("2026-01-01T01:00:00Z".parse().unwrap());
    assert_eq!(world.paused_for(), Some(3600));
    let path = Admission::new(world.path.clone(), Arc::clone(&world.core), Arc::clone(&settings));
    let probe = path.oneshot(Timed::new(Request::probe("/"), Mono::MAX)).await;
    assert!(matches!(probe, Err(CallError::Throttled { .. })));
    assert!(matches!(world.core.observed(&settings).verdict, Verdict::Inconclusive(_)));
    assert_eq!(world.at(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_his_place_to_others() {
    let world = world(&limited(per(1, Unit::Minute), |_| {}), vec![answer(200)]);
    assert!(world.read().await.is_ok());
    let gone = tokio::time::timeout(Duration::from_secs(10), world.read()).await;
    assert!(gone.is_err());
    assert!(world.read().await.is_ok());
    assert_eq!(world.at(), [0, 60]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_is_not_the_providers_slowness() {
    let settings = limited(per(1, Unit::Minute), |draft| {
        draft.breaker.slow_call_percent = 1;
        draft.breaker.minimum_calls = 1;
    });
    let world = world(&settings, vec![answer(200)]);
    let path = Admission::new(world.path.clone(), Arc::clone(&world.core), Arc::clone(&settings));
    for _ in 0..2 {
        let deadline = world.core.clock().mono() + TOTAL;
        assert!(path.clone().oneshot(Timed::new(request(CallClass::Read), deadline)).await.is_ok());
    }
    assert_eq!(world.at(), [0, 60]);
    assert_eq!(world.core.observed(&settings).effective, Effective::Closed);
}

fn about(partition: &str) -> Request {
    Request { partition: Some(partition.into()), ..request(CallClass::Read) }
}

#[tokio::test(start_paused = true)]
async fn one_partition_that_is_used_up_holds_no_other_back() {
    let world = world(&limited(Limit { scope: Scope::Partition, ..per(2, Unit::Day) }, |_| {}), vec![answer(200)]);
    for _ in 0..2 {
        assert!(world.call(about("acc-1")).await.is_ok());
    }
    let refused = world.call(about("acc-1")).await.unwrap_err();
    assert!(matches!(refused, CallError::QuotaExhausted { .. }), "{refused:?}");
    assert!(world.call(about("acc-2")).await.is_ok());
    let other = Request { operation: "balances".into(), ..about("acc-1") };
    assert!(world.call(other).await.is_ok(), "each operation is counted by itself");
    assert_eq!(world.at(), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn two_windows_at_once_are_both_kept() {
    let minute = Limit { name: "minute".to_owned(), ..per(5, Unit::Minute) };
    let settings = limited(per(2, Unit::Second), |draft| draft.limits.push(minute));
    let world = world(&settings, vec![answer(200)]);
    let ends = join_all((0..8).map(|_| world.read())).await;
    assert!(ends.iter().all(Result::is_ok));
    // Two a second, and never more than five within a minute.
    let asked = world.asked.lock().unwrap().clone();
    for (window, most) in [(Duration::from_secs(1), 2), (Duration::from_mins(1), 5)] {
        for from in &asked {
            let within = asked.iter().filter(|at| *at >= from && **at < *from + window).count();
            assert!(within <= most, "{within} within {window:?}: {asked:?}");
        }
    }
    assert_eq!(world.at().iter().filter(|at| **at < 60).count(), 5);
}

/// A quota's answer that speaks of one partition.
fn closing(seconds: Option<u64>) -> Answer {
    let mut answer = answer(429);
    let wait = seconds.map(|seconds| Wait::For(Duration::from_secs(seconds)));
    answer.reading = Reading { class: Class::Quota, wait, scope: Scope::Partition };
    answer
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_one_partition_closes_that_partition_and_no_other() {
    for (told, wait) in [(Some(3600), 3600), (None, 24 * 3600)] {
        let world = world(&settings(|_| {}), vec![closing(told), answer(200)]);
        assert_eq!(world.call(about("acc-1")).await.unwrap().status, 429);
        assert_eq!(world.paused_for(), None, "the connection goes on");
        let refused = world.call(about("acc-1")).await.unwrap_err();
        assert_eq!(refused, CallError::QuotaExhausted { retry_in: Duration::from_secs(wait) });
        assert!(world.call(about("acc-2")).await.is_ok() && world.read().await.is_ok());
        tokio::time::advance(Duration::from_secs(wait)).await;
        assert!(world.call(about("acc-1")).await.is_ok(), "its time is over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_one_partition_pauses_the_connection_if_the_request_was_about_none() {
    let world = world(&settings(|_| {}), vec![closing(Some(3600)), answer(200)]);
    assert_eq!(world.read().await.unwrap().status, 429);
    assert_eq!(world.paused_for(), Some(3600));
}

#[tokio::test(start_paused = true)]
async fn a_429_that_is_heard_under_old_settings_does_not_pause_the_new_endpoint() {
    let old = settings(|_| {});
    let world = world(&old, vec![answer(200)]);
    let new = settings(|draft| draft.base_url = "http://other.test".to_owned());
    world.core.reconfigure(&old, &new);
    for scope in [Scope::Connection, Scope::Partition] {
        let reading = Reading { class: Class::RateLimited, wait: Some(Wait::For(TOTAL)), scope };
        world.core.heard(&old, ("quote", Some("acc-1")), reading);
    }
    assert_eq!(world.paused_for(), None);
    assert!(world.call(about("acc-1")).await.is_ok());
    world.core.heard(&new, ("quote", None), Reading { class: Class::RateLimited, ..Reading::default() });
    assert_eq!(world.paused_for(), Some(1), "its own word counts");
}
