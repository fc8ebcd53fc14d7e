//! What is published, and how often: a controller is woken once per published change.

use super::*;
use crate::provider::testkit::rate_limited;

/// A monitor with a subscriber, and its settings: its circuit opens at the first failure, for a minute.
fn fixture() -> (Arc<ConnectionMonitor>, Arc<KeyQueue<ObjectKey>>, Arc<Settings>) {
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.breaker.unhealthy = OnUnhealthy::Ignore;
        draft.breaker.open.base = Duration::from_mins(1);
        draft.health_check.path = Some("/health".to_owned());
    });
    let (changes, published) = subscribed();
    (monitor_with(&settings, changes), published, settings)
}

/// The number of published changes, taken one by one as an idle consumer does.
fn taken(published: &KeyQueue<ObjectKey>) -> usize {
    std::iter::from_fn(|| published.try_take()).count()
}

/// Runs one probe with `status` and returns how often it is published: at its admission, meanwhile, and at its end.
fn probe(
    (monitor, published, settings): &(Arc<ConnectionMonitor>, Arc<KeyQueue<ObjectKey>>, Arc<Settings>),
    meanwhile: impl FnOnce(&ConnectionMonitor),
    status: u16,
) -> [usize; 3] {
    taken(published);
    let started = monitor.clock().mono();
    let permit = monitor.admit(CallClass::Probe, started).unwrap();
    let admitted = taken(published);
    meanwhile(monitor);
    let during = taken(published);
    record(monitor, settings, (permit, started), CallClass::Probe, status);
    [admitted, during, taken(published)]
}

const ONCE_AT_ITS_END: [usize; 3] = [0, 0, 1];

#[tokio::test(start_paused = true)]
async fn a_probe_that_changes_nothing_publishes_nothing() {
    let fixture = fixture();
    assert_eq!(probe(&fixture, |_| {}, 200), ONCE_AT_ITS_END, "the first one verifies");
    for _ in 0..3 {
        assert_eq!(probe(&fixture, |_| {}, 200), [0, 0, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_probe_is_published_once_whether_it_closes_the_circuit_or_not() {
    let fixture = fixture();
    let (monitor, _, settings) = &fixture;
    probe(&fixture, |_| {}, 200);
    call(monitor, settings, CallClass::Read, 503);
    for (status, state) in [(503, BreakerState::Open), (200, BreakerState::Closed)] {
        tokio::time::advance(Duration::from_mins(2)).await;
        let half_open = |monitor: &ConnectionMonitor| assert_eq!(monitor.circuit_state(), BreakerState::HalfOpen);
        assert_eq!(probe(&fixture, half_open, status), ONCE_AT_ITS_END, "{status}");
        assert_eq!(monitor.circuit_state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_probe_is_published_once() {
    let fixture = fixture();
    let settings = Arc::clone(&fixture.2);
    probe(&fixture, |_| {}, 200);
    let throttle = |monitor: &ConnectionMonitor| {
        monitor.observe_rate_limit(&settings, CallClass::Probe, "probe", None, rate_limited(429, 60).classification);
    };
    assert_eq!(probe(&fixture, throttle, 429), ONCE_AT_ITS_END);
}

#[tokio::test(start_paused = true)]
async fn token_and_secret_news_of_a_probe_are_part_of_its_one_publication() {
    let fixture = fixture();
    probe(&fixture, |_| {}, 200);
    let news = |monitor: &ConnectionMonitor| {
        monitor.token_circuit_changed(BreakerState::Closed, BreakerState::Open);
        monitor.secret_changed();
    };
    assert_eq!(probe(&fixture, news, 200), ONCE_AT_ITS_END);
    news(&fixture.0);
    assert_eq!(taken(&fixture.1), 1, "at once if no probe is in flight");
}

#[tokio::test(start_paused = true)]
async fn another_calls_change_during_a_probe_is_published_at_once() {
    let fixture = fixture();
    let settings = Arc::clone(&fixture.2);
    probe(&fixture, |_| {}, 200);
    let trip = |monitor: &ConnectionMonitor| call(monitor, &settings, CallClass::Money, 503);
    assert_eq!(probe(&fixture, trip, 200), [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_trial_probe_publishes_what_its_admission_changed() {
    let (monitor, published, settings) = fixture();
    call(&monitor, &settings, CallClass::Read, 503);
    tokio::time::advance(Duration::from_mins(2)).await;
    taken(&published);
    let permit = monitor.admit(CallClass::Probe, monitor.clock().mono()).unwrap();
    assert_eq!(taken(&published), 0);
    monitor.record_abandoned(CallClass::Probe, permit);
    assert_eq!(taken(&published), 1);
}

#[tokio::test(start_paused = true)]
async fn a_skipped_probe_is_published_once_and_not_again() {
    let (monitor, published, settings) = fixture();
    let refusal = CallError::Throttled { retry_in: Duration::from_secs(1) };
    for expected in [1, 0] {
        let permit = monitor.admit(CallClass::Probe, monitor.clock().mono()).unwrap();
        monitor.record_skipped(&settings, permit, &"probe".into(), &refusal);
        assert_eq!(taken(&published), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_risk_is_published_only_with_its_tier() {
    let settings = checked(CheckMode::Active, OnUnhealthy::Ignore);
    let (changes, published) = subscribed();
    let monitor = monitor_with(&settings, changes);
    call(&monitor, &settings, CallClass::Probe, 200);
    taken(&published);
    (0..100).for_each(|_| call(&monitor, &settings, CallClass::Read, 200));
    tokio::time::advance(Duration::from_mins(30)).await;
    let before = monitor.snapshot(&settings).risk;
    call(&monitor, &settings, CallClass::Read, 503);
    assert!(monitor.snapshot(&settings).risk > before);
    assert_eq!(monitor.snapshot(&settings).tier, RiskTier::Low);
    assert_eq!(taken(&published), 0);
}
