//! Time-driven changes, and the warning about a flapping circuit.

use std::io::Write;
use std::sync::Mutex;

use jiff::SignedDuration;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::clock::Clock;

#[tokio::test(start_paused = true)]
async fn an_override_follows_the_wall_clock_when_it_is_set() {
    // The clock starts at midnight.
    let settings = forced(OverrideMode::ForcedOpen, "2026-01-01T00:10:00Z");
    let (clock, step) = Clock::steppable("2026-01-01T00:00:00Z".parse().unwrap());
    let (changes, published) = subscribed();
    let monitor = monitor_on(&settings, clock, changes);
    let money = || monitor.admit(CallClass::Money, monitor.clock().mono());
    assert!(money().is_err());
    let soon = monitor.clock().mono() + Duration::from_secs(10);
    assert!(monitor.next_tick().is_some_and(|at| at <= soon), "the wall clock is checked again soon");

    step(SignedDuration::from_mins(-5));
    tokio::time::advance(Duration::from_mins(11)).await;
    monitor.tick();
    assert!(money().is_err(), "six minutes past midnight");
    assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::ForcedOpen);

    step(SignedDuration::from_mins(4));
    assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Closed, "at once, even without a tick");
    assert!(money().is_ok());
    while published.try_take().is_some() {}
    monitor.tick();
    assert_eq!(published.try_take().as_ref(), Some(monitor.key()), "the next tick publishes it");
    assert_eq!(monitor.next_tick(), None, "nothing else is due");
}

#[tokio::test(start_paused = true)]
async fn the_risk_tier_of_an_idle_connection_drops_with_one_notification_each() {
    let settings = checked(CheckMode::Passive, OnUnhealthy::Ignore);
    let (changes, published) = subscribed();
    let monitor = monitor_with(&settings, changes);
    monitor.restore_risk(RiskTier::Critical);
    call(&monitor, &settings, CallClass::Money, 200);
    assert_eq!(
        (monitor.snapshot(&settings).tier, monitor.snapshot(&settings).health),
        (RiskTier::Critical, Health::Degraded)
    );
    while published.try_take().is_some() {}
    let mut tiers = Vec::new();
    // As the tick driver does.
    while let Some(at) = monitor.next_tick() {
        tokio::time::advance(at.since(monitor.clock().mono())).await;
        monitor.tick();
        tiers.push(monitor.snapshot(&settings).tier);
        assert_eq!((published.try_take().as_ref(), published.try_take()), (Some(monitor.key()), None));
    }
    assert_eq!(tiers, [RiskTier::High, RiskTier::Elevated, RiskTier::Low]);
    assert_eq!(monitor.snapshot(&settings).health, Health::Healthy);
}

/// The log of this thread.
#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogBuffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl LogBuffer {
    /// The warnings about a flapping circuit.
    fn warnings(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("circuit is flapping")).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn flapping_is_logged_once_and_again_when_it_starts_anew() {
    let log = LogBuffer::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let _here = tracing::subscriber::set_default(subscriber);
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.breaker.unhealthy = OnUnhealthy::Ignore;
        draft.breaker.open.base = Duration::from_mins(1);
    });
    let monitor = monitor(&settings);
    let opens_and_closes = async || {
        call(&monitor, &settings, CallClass::Money, 503);
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Open);
        tokio::time::advance(Duration::from_mins(1)).await;
        call(&monitor, &settings, CallClass::Probe, 200);
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Closed);
    };
    for (opening, warnings) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)] {
        opens_and_closes().await;
        assert_eq!(log.warnings().len(), warnings, "opening {opening}");
    }
    tokio::time::advance(Duration::from_hours(2)).await;
    for (opening, warnings) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        opens_and_closes().await;
        assert_eq!(log.warnings().len(), warnings, "opening {opening} after two quiet hours");
    }
    let line = &log.warnings()[0];
    assert!(line.contains("WARN") && line.contains("namespace=ns") && line.contains("name=bank"), "{line}");
}
