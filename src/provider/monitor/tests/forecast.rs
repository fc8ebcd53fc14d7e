//! The forecast of a connection: the same between two steps, published when it warns, gone when it no longer holds.

use super::*;
use crate::domain::forecast::HORIZON;
use crate::domain::forecast::trend::STEP;
use crate::domain::health::Ppm;

/// `count` probes, ten seconds apart, of which every `failing`-th fails.
async fn probes(monitor: &ConnectionMonitor, settings: &Settings, count: u32, failing: u32) {
    for n in 1..=count {
        call(monitor, settings, CallClass::Probe, if n % failing == 0 { 503 } else { 200 });
        tokio::time::advance(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_forecast_is_the_same_until_the_next_step() {
    let settings = checked(CheckMode::Active, OnUnhealthy::Ignore);
    let monitor = monitor(&settings);
    assert_eq!(monitor.snapshot(&settings).forecast, None, "without evidence there is none");
    probes(&monitor, &settings, 200, u32::MAX).await;
    let first = monitor.snapshot(&settings).forecast.unwrap();
    assert_eq!((first.outage_predicted, first.skill, first.breach_at), (false, Ppm::new(0), None));
    assert_eq!(first.window_end, first.window_start + HORIZON);
    tokio::time::advance(Duration::from_nanos(1)).await;
    call(&monitor, &settings, CallClass::Probe, 503);
    assert_eq!(monitor.snapshot(&settings).forecast, Some(first), "to the nanosecond: a decision's snapshot holds it");
    assert_eq!(monitor.forecast(), Some(first));
    // A step with few outcomes is joined with the next one.
    for _ in 0..2 {
        tokio::time::advance(STEP).await;
        call(&monitor, &settings, CallClass::Probe, 200);
    }
    let second = monitor.snapshot(&settings).forecast.unwrap();
    assert!(second.window_start > first.window_start && second.success < first.success, "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_predicted_outage_is_published_and_ends_with_its_window() {
    let settings = checked(CheckMode::Active, OnUnhealthy::Ignore);
    let (changes, published) = subscribed();
    let monitor = monitor_with(&settings, changes);
    probes(&monitor, &settings, 400, u32::MAX).await;
    assert!(!monitor.forecast().unwrap().outage_predicted);
    probes(&monitor, &settings, 60, 2).await;
    let forecast = monitor.forecast().unwrap();
    assert!(forecast.outage_predicted && forecast.degrading, "{forecast:?}");
    assert!(!forecast.demoted, "without skill no route leaves the bank for it");
    assert!(forecast.breach_at.is_some_and(|at| at <= forecast.window_end));
    while published.try_take().is_some() {}
    let end = monitor.clock().now().mono_at(forecast.window_end);
    let mut ticks = 0;
    while monitor.forecast().is_some() {
        let at = monitor.next_tick().unwrap();
        assert!(at <= end + Duration::from_secs(1), "a tick is due when the window ends");
        tokio::time::advance(at.since(monitor.clock().mono())).await;
        monitor.tick();
        ticks += 1;
        assert!(ticks < 10, "each tick changes something");
    }
    assert_eq!(published.try_take().as_ref(), Some(monitor.key()), "routes are evaluated anew");
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_counted_over_the_life_of_a_connection() {
    let settings = checked(CheckMode::Active, OnUnhealthy::Ignore);
    let monitor = monitor(&settings);
    probes(&monitor, &settings, 10, 5).await;
    monitor.observe_payout(true, None);
    let counts = monitor.outcome_counts();
    assert_eq!((counts.good, counts.total), (9, 11));
    let moved = crate::provider::testkit::settings(|draft| draft.base_url = "https://other.example".to_owned());
    monitor.reconfigure(&settings, &moved);
    assert_eq!(monitor.outcome_counts(), counts, "another endpoint starts no new count");
    assert_eq!(monitor.forecast(), None);
}
